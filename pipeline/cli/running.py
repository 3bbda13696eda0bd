"""The commands that run the pipeline on this machine, and check its processes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.stack_option import of_stack


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", default="out", show_default=True, type=click.Path(path_type=Path), help="Folder for renditions.")
@click.option(
    "--keep", is_flag=True, help="Keep running after the files are done, with a live contact sheet; Ctrl-C ends it."
)
@click.option("--watch", is_flag=True, help="Like --keep, and process new, changed and removed files of PATHS.")
@click.option("--flower", is_flag=True, help="Start Flower too, and print its address.")
def local(paths: tuple[Path, ...], out: Path, keep: bool, watch: bool, flower: bool) -> None:
    """Run the whole pipeline on this machine, without AWS.

    PATHS are files or folders. Writes the renditions and a contact sheet, index.html, into the output folder. Exit
    status: 0 all files are done, 1 some failed or it could not run, 130 interrupted before the first files were done.

    \b
    Examples:
      python -m pipeline local ~/Pictures --out out
      python -m pipeline local ~/Pictures --watch
    """
    try:
        from pipeline.local.local_command import local as run
    except ImportError as exc:
        raise click.ClickException(f"{exc}: the embedded AWS is an extra, install batch-image-pipeline[local]") from exc
    sys.exit(run(paths, out, keep=keep, flower=flower, watch=watch))


@click.command()
def settings() -> None:
    """Print the settings as a Markdown table.

    Each row has the variable, its default, its bounds and a description.
    """
    from pipeline.core.settings_table import markdown_table

    click.echo(markdown_table(), nl=False)


@click.command()
@click.argument("role", required=False, type=click.Choice(["worker", "bridge"]))
def health(role: str | None) -> None:
    """Check whether the local worker or bridge makes progress.

    It must have made progress within its HEALTH_STALE_S; a long task counts as progress. Without a role, checks the
    process that runs here. Exit status: 0 it makes progress, 1 it does not.
    """
    from pipeline.core.settings import Settings
    from pipeline.sqs.health import check, note, role_here

    folder = Path(Settings.from_env().health_folder)
    found = role_here(folder) if role is None else role
    age_s = check(folder, found)
    said = note(folder, found)
    click.echo(f"healthy: the {found} made progress {age_s:.0f} s ago{said and f'; {said}'}")


@click.command()
@of_stack
def sweep() -> None:
    """Remove the queues that killed processes left behind.

    These are queues for events and remote control. Queues of running processes are never removed. Flower also sweeps,
    when it starts and every hour.
    """
    from pipeline.core.settings import Settings
    from pipeline.sqs.monitoring.sweep import sweep as run

    found = run(Settings.from_env())
    for name in found.removed:
        click.echo(f"removed {name}")
    click.echo(str(found))
