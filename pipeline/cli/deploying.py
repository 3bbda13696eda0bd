"""The verbs that make the stack on AWS, and remove it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--image", help="Container image; needed the first time.")
@click.option("--vpc", help="VPC to run in; without it the default VPC.")
@click.option("--subnets", help="Its subnets, comma-separated, in two zones or more.")
@click.option("--network", help="Name of a stack of cloudformation/network.yaml to run in.")
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="Any parameter of the template.")
@click.option("--template", type=click.Path(path_type=Path), help="Another template than cloudformation/batch.yaml.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def deploy(
    stack: str,
    image: str | None,
    vpc: str | None,
    subnets: str | None,
    network: str | None,
    pairs: tuple[str, ...],
    template: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Create or update the stack on AWS.

    Shows what would change, and asks, before anything is changed.

    \b
    Example:
      python -m pipeline deploy --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
      python -m pipeline deploy -p MaxWorkers=100 -p AlarmEmail=me@example.com
    """
    from pipeline.deploy.command import TEMPLATE, Wanted
    from pipeline.deploy.command import deploy as run

    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--parameter")
    if (vpc is None) != (subnets is None):
        raise click.UsageError("--vpc and --subnets belong together.")
    named = {"Image": image, "VpcId": vpc, "SubnetIds": subnets}
    given = {name: value for name, value in named.items() if value is not None}
    given |= dict(pair.split("=", 1) for pair in pairs)
    path = TEMPLATE if template is None else template
    run(Wanted(stack, given, path, network=network, yes=yes, dry_run=dry_run))


@click.command()
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--delete-data", is_flag=True, help="Delete the buckets too, with all versions of all objects.")
@click.option("--drain", "drain_s", default=3600, show_default=True, help="Seconds to wait for work to be finished.")
@click.option("--no-drain", is_flag=True, help="Do not wait: what is in the queues is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(stack: str, delete_data: bool, drain_s: int, no_drain: bool, yes: bool) -> None:
    """Finish the work under way, then delete the stack from AWS. The buckets are kept.

    \b
    Example:
      python -m pipeline teardown --stack batch-images
    """
    from pipeline.deploy.teardown import teardown as run

    run(stack, delete_data=delete_data, yes=yes, drain_s=0 if no_drain else drain_s)
