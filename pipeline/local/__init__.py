"""The embedded run: the whole pipeline on one machine, against an AWS emulator on a loopback port."""
