"""The verbs that make the stack on AWS, and remove it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.verb_errors import Asking

if TYPE_CHECKING:
    from pipeline.deploy.wanted import Wanted

Decorated = Callable[..., Any]


def _what(command: Decorated) -> Decorated:
    """The options that say what the stack is to be."""
    for option in reversed(
        (
            click.option("--stack", default="batch-images", show_default=True, help="Name of the stack."),
            click.option("--image", help="Container image; needed the first time."),
            click.option("--vpc", help="VPC to run in; without it the default VPC."),
            click.option("--subnets", help="Its subnets, comma-separated, in two zones or more."),
            click.option("--network", help="Name of a stack of cloudformation/network.yaml to run in."),
            click.option(
                "-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="Any parameter of the template."
            ),
            click.option(
                "--template", type=click.Path(path_type=Path), help="Another template than cloudformation/batch.yaml."
            ),
        )
    ):
        command = option(command)
    return command


_service_role = click.option(
    "--service-role", metavar="ARN", help="Role that CloudFormation works as, now and from now on."
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
    help="A bucket that is there already to take uploads from; EventBridge is switched on there. May be repeated.",
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag for all of it; those it has are kept.")
@_service_role
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--unchecked", is_flag=True, help="Deploy though `doctor` finds something wrong.")
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

    Looks for what would make it fail, shows what would change, and asks, before anything is changed.

    \b
    Example:
      python -m pipeline deploy --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
      python -m pipeline deploy -p MaxWorkers=100 -p AlarmEmail=me@example.com
      python -m pipeline deploy --input-bucket my-photos -p KeyPrefix=2026/
    """
    from pipeline.deploy.deploy_command import deploy as run

    run(
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


@click.command(cls=Asking)
@_what
@_service_role
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def doctor(service_role: str | None, as_json: bool, **what: Any) -> None:
    """Tell what would make a deployment fail, and change nothing.

    Parameters that contradict each other, the caller's permissions, the image and its CPU, subnets and their routes,
    quotas. `deploy` does the same first. Exit status: 0 nothing is wrong, 1 something is, 2 it could not be found out.

    \b
    Example:
      python -m pipeline doctor --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
    """
    from pipeline.deploy.deploy_command import doctor as run

    sys.exit(run(_wanted(what, service_role=service_role), as_json=as_json))


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


@click.command("live-check", cls=Asking)
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--images", default=500, show_default=True, type=click.IntRange(min=1), help="How many to upload.")
@click.option("--expect-workers", default=1, show_default=True, help="How many must have run at once.")
@click.option("--poll", "poll_s", default=10.0, show_default=True, help="Seconds between two looks.")
@click.option("--patience", "patience_s", default=1800.0, show_default=True, help="Seconds to wait at most.")
@click.option("--without-ecs", is_flag=True, help="Do not look at workers, for endpoints without ECS.")
def live_check(
    stack: str, images: int, expect_workers: int, poll_s: float, patience_s: float, without_ecs: bool
) -> None:
    """Prove a deployed stack: images in, renditions out.

    Uploads small images, follows queues and workers until every image has both renditions and the workers are back
    at their minimum, and removes what it uploaded and what was made of it. It costs some cents, and needs none of the
    pipeline's settings. Exit status: 0 nothing was lost and scaling did its part, 1 it was not so, 2 it could not be
    found out.

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
