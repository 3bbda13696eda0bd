"""The emulator of the tests that begin with an empty account: it starts over sooner, and reads templates sooner."""

from __future__ import annotations

import os

from pipeline.local.stack import Emulator


class QuickEmulator(Emulator):
    SERVER = "tests.support.emulator"


def main() -> None:
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # hundreds, twice for each account
    import yaml

    from pipeline.local import server

    if yaml.__with_libyaml__:  # ten times as fast
        yaml.Loader = yaml.CLoader
        yaml.add_multi_constructor = yaml.CLoader.add_multi_constructor
    server.main()


if __name__ == "__main__":
    main()
