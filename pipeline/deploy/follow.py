"""Follows CloudFormation's events until an operation on a stack has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError

from pipeline.aws import clients
from pipeline.aws.errors import is_passing, translate_errors
from pipeline.core.errors import PipelineError

POLL_S = 3.0
#: CloudFormation starts within this time.
BEGIN_S = 60
#: A rollback waits for containers to stop; after this time it hangs.
PATIENCE_S = 90 * 60

#: Consecutive checks that may fail, in addition to the SDK's retries: several minutes.
MISSES = 20

#: Messages of resources that failed only because another one did.
_CONSEQUENCES = ("cancelled", "canceled")


@dataclass(frozen=True, slots=True)
class StackEvent:
    id: str
    name: str  # logical id
    kind: str
    status: str
    reason: str
    of_stack: bool  # of the stack, not of a resource

    @property
    def failed(self) -> bool:
        return self.status.endswith("_FAILED")

    @property
    def finished(self) -> bool:
        return self.status.endswith(("_COMPLETE", "_FAILED"))


def _passes(cause: BaseException | None) -> bool:
    """Whether a retry may help, which it does not for expired credentials."""
    return is_passing(cause) if isinstance(cause, ClientError) else isinstance(cause, HTTPClientError)


class StackFailed(PipelineError):
    """The operation has failed. ``status``: CloudFormation's."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Follower:
    """Remembers the existing events; ``until_rest`` reports the new ones."""

    def __init__(self, stack_id: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._stack_id = stack_id
        self._sleep = sleep
        self._missed = 0  # consecutive failed checks
        self._client = clients.client("cloudformation")
        self._seen = {event.id for event in self._events()}

    def until_rest(self, report: Callable[[StackEvent], None], meanwhile: Callable[[], None] = lambda: None) -> str:
        """Reports new events of resources, and calls ``meanwhile``; returns the stack's last status.

        Raises ``PipelineError`` with the first cause if something failed.
        """
        failures: list[StackEvent] = []
        started = time.monotonic()
        begun = False
        while True:
            looked = self._look()
            if looked is None:
                self._sleep(POLL_S)
                continue
            status, reason, new = looked
            for event in new:
                if event.of_stack:
                    begun = True
                    continue
                report(event)
                if event.failed and not any(word in event.reason for word in _CONSEQUENCES):
                    failures.append(event)
            meanwhile()
            waited_s = time.monotonic() - started
            # Right after the call the stack may still have its old status.
            if not status.endswith("_IN_PROGRESS") and (begun or waited_s > BEGIN_S):
                break
            if waited_s > PATIENCE_S:
                raise PipelineError(f"the stack is still {status}: look at it in the console")
            self._sleep(POLL_S)
        if "ROLLBACK" in status or status.endswith("_FAILED"):
            first = failures[0] if failures else None
            cause = reason if first is None else f"{first.name} ({first.kind}): {first.reason}"
            raise StackFailed(status, f"the stack ended as {status}. The first cause: {cause}")
        return status

    def _look(self) -> tuple[str, str, list[StackEvent]] | None:
        """None if CloudFormation can't be reached at the moment: throttled, or no network."""
        try:
            found = (*self._status(), self._new())
        except PipelineError as exc:
            self._missed += 1
            if self._missed > MISSES or not _passes(exc.__cause__):
                raise
            return None
        self._missed = 0
        return found

    def _status(self) -> tuple[str, str]:
        with translate_errors("following the stack"):
            found = self._client.describe_stacks(StackName=self._stack_id)["Stacks"][0]
        return found["StackStatus"], found.get("StackStatusReason", "")

    def _new(self) -> list[StackEvent]:
        """Oldest first."""
        found = [event for event in self._events() if event.id not in self._seen]
        self._seen |= {event.id for event in found}
        return found[::-1]

    def _events(self) -> Iterator[StackEvent]:
        """Newest first."""
        with translate_errors("following the stack"):
            for page in self._client.get_paginator("describe_stack_events").paginate(StackName=self._stack_id):
                yield from (self._event(found) for found in page["StackEvents"])

    def _event(self, found: dict[str, Any]) -> StackEvent:
        return StackEvent(
            id=found["EventId"],
            name=found["LogicalResourceId"],
            kind=found["ResourceType"],
            status=found["ResourceStatus"],
            reason=found.get("ResourceStatusReason", ""),
            of_stack=found["PhysicalResourceId"] == self._stack_id,
        )
