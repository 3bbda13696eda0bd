"""The stack's tags: CloudFormation puts them on everything that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.deploy.buckets import STACK_TAG


def of(existing: Mapping[str, Any] | None) -> dict[str, str]:
    return {} if existing is None else {entry["Key"]: entry["Value"] for entry in existing.get("Tags", [])}


def merged(existing: Mapping[str, str], given: Mapping[str, str], stack: str) -> dict[str, str]:
    """What the stack has, and those that are new. Raises ``PipelineError`` for one that has another value already."""
    changed = sorted(name for name, value in given.items() if existing.get(name, value) != value)
    if changed:
        name = changed[0]
        raise PipelineError(
            f"the stack has the tag {name}={existing[name]} already, and tags are never overwritten: change it with "
            "`aws cloudformation update-stack --use-previous-template` if it is to be another"
        )
    return {"app": "batch-image-pipeline", **existing, **given, STACK_TAG: stack}
