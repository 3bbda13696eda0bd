"""The commands that create, check and remove the stack on AWS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.verb_errors import Asking

if TYPE_CHECKING:
    from pipeline.deploy.wanted import Wanted

Decorated = Callable[..., Any]


def _what(command: Decorated) -> Decorated:
    """The options that describe the stack."""
    for option in reversed(
        (
            click.option("--stack", default="batch-images", show_default=True, help="Name of the stack."),
            click.option("--image", help="Container image; required for the first deployment."),
            click.option("--vpc", help="VPC to run in; by default the account's default VPC."),
            click.option("--subnets", help="The VPC's subnets, comma-separated, in two zones or more."),
            click.option("--network", help="Use the network of this stack of cloudformation/network.yaml."),
            click.option(
                "-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="Any parameter of the template."
            ),
            click.option(
                "--template", type=click.Path(path_type=Path), help="A template other than cloudformation/batch.yaml."
            ),
        )
    ):
        command = option(command)
    return command


_service_role = click.option(
    "--service-role", metavar="ARN", help="Role that CloudFormation uses, now and for later updates."
)


def _pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint=option)
    return dict(pair.split("=", 1) for pair in pairs)


def _wanted(what: Mapping[str, Any], **more: Any) -> Wanted:
    from pipeline.deploy.wanted import TEMPLATE, Wanted

    if (what["vpc"] is None) != (what["subnets"] is None):
        raise click.UsageError("--vpc and --subnets belong together.")
    named = {"Image": what["image"], "VpcId": what["vpc"], "SubnetIds": what["subnets"]}
    given = {name: value for name, value in named.items() if value is not None}
    return Wanted(
        what["stack"],
        given | _pairs(what["pairs"], "--parameter"),
        TEMPLATE if what["template"] is None else what["template"],
        network=what["network"],
        **more,
    )


@click.command()
@_what
@click.option(
    "--input-bucket",
    "input_buckets",
    multiple=True,
    metavar="NAME",
    help="An existing bucket to take uploads from; switches on its EventBridge notifications. May be repeated.",
)
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag for all resources; existing tags are kept."
)
@_service_role
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--unchecked", is_flag=True, help="Deploy even if `doctor` finds a problem.")
def deploy(
    input_buckets: tuple[str, ...],
    tags: tuple[str, ...],
    service_role: str | None,
    yes: bool,
    dry_run: bool,
    unchecked: bool,
    **what: Any,
) -> None:
    """Create or update the stack on AWS.

    First checks for problems, shows what would change, and asks.

    \b
    Example:
      python -m pipeline deploy --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
      python -m pipeline deploy -p MaxWorkers=100 -p AlarmEmail=me@example.com
      python -m pipeline deploy --input-bucket my-photos -p KeyPrefix=2026/
    """
    from pipeline.deploy.deploy_command import deploy as run

    places = run(
        _wanted(
            what,
            input_buckets=input_buckets,
            tags=_pairs(tags, "--tag"),
            service_role=service_role,
            yes=yes,
            dry_run=dry_run,
            unchecked=unchecked,
        )
    )
    if not yes and sys.stdin.isatty():
        offer(places, what["stack"])


def offer(places: Sequence[str], stack: str) -> None:
    """Offers to survey existing buckets with `adopt`, which asks again before it enqueues."""
    from pipeline.cli.operating import adopt

    for place in places:
        if click.confirm(f"Look at what is in {place}, and what to process it would cost?", default=True):
            try:
                adopt.main([place, "--stack", stack], standalone_mode=False)
            except SystemExit as exc:  # every command ends with one
                if exc.code:
                    raise


@click.command(cls=Asking)
@_what
@_service_role
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def doctor(service_role: str | None, as_json: bool, **what: Any) -> None:
    """Check a deployment for problems; change nothing.

    Checks the parameters, the caller's permissions, the image and its CPU, subnets and their routes, and quotas.
    `deploy` does the same first. Exit status: 0 no problem, 1 a problem, 2 the check itself failed.

    \b
    Example:
      python -m pipeline doctor --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
    """
    from pipeline.deploy.deploy_command import doctor as run

    sys.exit(run(_wanted(what, service_role=service_role), as_json=as_json))


@click.command()
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--delete-data", is_flag=True, help="Delete the buckets too, with all versions of all objects.")
@click.option(
    "--drain", "drain_s", default=3600, show_default=True, help="Maximum seconds to wait until the queues are empty."
)
@click.option("--no-drain", is_flag=True, help="Do not wait: messages in the queues are lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(stack: str, delete_data: bool, drain_s: int, no_drain: bool, yes: bool) -> None:
    """Finish the queued work, then delete the stack from AWS. The buckets are kept.

    \b
    Example:
      python -m pipeline teardown --stack batch-images
    """
    from pipeline.deploy.teardown import teardown as run

    run(stack, delete_data=delete_data, yes=yes, drain_s=0 if no_drain else drain_s)


@click.command("live-check", cls=Asking)
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option(
    "--images", default=500, show_default=True, type=click.IntRange(min=1), help="Number of images to upload."
)
@click.option(
    "--expect-workers", default=1, show_default=True, help="Number of workers that must have run at the same time."
)
@click.option("--poll", "poll_s", default=10.0, show_default=True, help="Seconds between two checks.")
@click.option("--patience", "patience_s", default=1800.0, show_default=True, help="Maximum seconds to wait.")
@click.option("--without-ecs", is_flag=True, help="Do not check workers, for endpoints without ECS.")
def live_check(
    stack: str, images: int, expect_workers: int, poll_s: float, patience_s: float, without_ecs: bool
) -> None:
    """Test a deployed stack by uploading images.

    Uploads small images, watches queues and workers until every image has its renditions and the workers are back at
    their minimum, and then removes the images and renditions. It costs a few cents, and needs none of the pipeline's
    settings. Exit status: 0 nothing was lost and scaling worked, 1 otherwise, 2 the check itself failed.

    \b
    Example:
      python -m pipeline live-check --stack batch-images
    """
    from pipeline.deploy.live_check import live_check as run

    sys.exit(
        run(
            stack,
            images=images,
            expect_workers=expect_workers,
            poll_s=poll_s,
            patience_s=patience_s,
            with_ecs=not without_ecs,
        )
    )
