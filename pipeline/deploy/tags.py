"""The stack's tags: CloudFormation sets them on everything that it creates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.deploy.buckets import STACK_TAG

#: Limits: tags of a stack and of a bucket, characters of a tag.
#: Source: CloudFormation API Reference, CreateChangeSet (Tags) and Tag.
MAX_TAGS, MAX_KEY, MAX_VALUE = 50, 128, 256


def of(existing: Mapping[str, Any] | None) -> dict[str, str]:
    return {} if existing is None else {entry["Key"]: entry["Value"] for entry in existing.get("Tags", [])}


def merged(existing: Mapping[str, str], given: Mapping[str, str], stack: str) -> dict[str, str]:
    """The stack's tags and the new ones. Raises ``PipelineError`` for a tag that has another value already."""
    changed = sorted(name for name, value in given.items() if existing.get(name, value) != value)
    if changed:
        name = changed[0]
        raise PipelineError(
            f"the stack has the tag {name}={existing[name]} already, and tags are never overwritten: change it with "
            "`aws cloudformation update-stack --use-previous-template` if it is to be another"
        )
    merged = {"app": "batch-image-pipeline", **existing, **given, STACK_TAG: stack}
    wrong = [
        name
        for name, value in given.items()
        if not 0 < len(name) <= MAX_KEY or len(value) > MAX_VALUE or name.lower().startswith("aws:")
    ]
    if wrong:
        raise PipelineError(
            f"--tag {wrong[0][:40]}…: a tag's name has 1 to {MAX_KEY} characters and does not begin with aws:, "
            f"its value has at most {MAX_VALUE}"
        )
    if len(merged) > MAX_TAGS:
        raise PipelineError(
            f"{len(merged)} tags, two of them the pipeline's own: AWS allows a stack {MAX_TAGS}; leave out "
            f"{len(merged) - MAX_TAGS}"
        )
    return merged
