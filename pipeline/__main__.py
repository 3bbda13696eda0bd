"""``python -m pipeline``: the command line."""

from __future__ import annotations

import signal
import sys
from io import TextIOWrapper

import click

from pipeline.cli import deadletters, deploying, operating, running
from pipeline.cli.verb_errors import Group


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from pipeline.core.version import version

        click.echo(version())
        ctx.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Make resized images and thumbnails of what is uploaded to S3.

    \b
    Exit status: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
    """


for verb in (
    *(running.local, running.settings, running.health, running.sweep),
    *(operating.audit, operating.explain, operating.backfill, operating.routes, operating.check, operating.adopt),
    deadletters.deadletters,
    *(deploying.deploy, deploying.doctor, deploying.live_check, deploying.teardown),
):
    cli.add_command(verb)


def _interrupt(*_: object) -> None:
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is under way, and is bounded
    raise KeyboardInterrupt


_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(prog_name: str | None = None) -> None:
    """The console command; ends the process with the verb's status."""
    for number in _STOPS:
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a key may have letters that the terminal's encoding lacks
    cli(prog_name=prog_name)


if __name__ == "__main__":
    main("python -m pipeline")
