"""A requested deployment, and the resulting values of the template's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.core.errors import PipelineError
from pipeline.deploy import account, states
from pipeline.deploy.compact import MAX_BYTES, compacted

_TEMPLATES = (Path(__file__).parents[2] / "cloudformation", Path(__file__).with_name("templates"))
#: At the top of a checkout; in an installed package beside this module.
TEMPLATE = next((folder for folder in _TEMPLATES if folder.is_dir()), _TEMPLATES[0]) / "batch.yaml"

#: Bucket names contain the stack's name, the account and the region, and S3 allows 63 characters.
MAX_NAME_CHARS = 28
_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{MAX_NAME_CHARS - 1}}}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested deployment. ``given``: values of the template's parameters."""

    stack: str
    given: Mapping[str, str]
    template: Path = TEMPLATE
    network: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    service_role: str | None = None
    input_buckets: tuple[str, ...] = ()  # existing ones
    yes: bool = False
    dry_run: bool = False
    unchecked: bool = False  # without the preflight


def check_name(stack: str) -> None:
    """Raises ``PipelineError`` for a name that buckets and queues can't contain."""
    if not _NAME.fullmatch(stack):
        raise PipelineError(
            f"{stack!r} can't be the stack's name, since buckets and queues are called after it: "
            f"use lower-case letters, digits and hyphens, at most {MAX_NAME_CHARS}"
        )


def read_template(template: Path) -> str:
    """The template's text, without comments. Raises ``PipelineError``, also if CloudFormation would reject it."""
    try:
        text = compacted(template.read_text(encoding="utf-8"))
    except OSError as exc:
        raise PipelineError(
            f"{template}: cannot be read: {exc.strerror}; deploy from a copy of the repository"
        ) from exc
    size = len(text.encode())
    if size > MAX_BYTES:
        raise PipelineError(
            f"{template}: {size:,} bytes without its comments, and CloudFormation takes {MAX_BYTES:,} in a request: "
            "deploy it by `aws cloudformation deploy --s3-bucket`, or take out what you don't need"
        )
    return text


def existing_stack(stack: str) -> dict[str, Any] | None:
    """The existing stack, or None. Raises ``PipelineError`` if it can't be changed."""
    found = account.describe(stack)
    state = states.of(stack, None if found is None else found["StackStatus"])
    return None if state is states.StackState.NEW else found


def parameter_values(
    wanted: Wanted, declared: Mapping[str, str | None], existing: dict[str, Any] | None, console: Console
) -> dict[str, str]:
    """The parameters: given ones, else the stack's, else the default network. Raises ``PipelineError``."""
    values = dict(wanted.given)
    if wanted.input_buckets:
        values["ExistingInputBuckets"] = ",".join(wanted.input_buckets)
    unknown = sorted(set(values) - set(declared))
    if unknown:
        raise PipelineError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(sorted(declared))}")
    if wanted.network is not None:
        values = account.network_of(wanted.network).parameters() | values
    if existing is not None:
        before = account.parameters_of(existing)
        values = {name: value for name, value in before.items() if name in declared} | values
    elif "VpcId" not in values:
        found = account.default_network()
        console.print(f"No network was given: the default VPC {found.vpc} with its {len(found.subnets)} subnets.")
        values = found.parameters() | values
    missing = sorted(name for name, default in declared.items() if default is None and name not in values)
    if missing:
        raise PipelineError(
            f"{', '.join(missing)} must be given: --image for the container image (docs/deploy.md says how to push "
            "one), --vpc and --subnets for the network"
        )
    return values
