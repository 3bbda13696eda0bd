"""The bridge keeps the tasks queue's metrics alive, whatever happens to its calls."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from bridge.keep_awake import KeepAwake
from pipeline.aws import clients
from pipeline.core.settings import Settings
from tests.support.waiting import wait_until


class _Counting:
    """An SQS client that counts the looks at a queue, and fails those before the given one."""

    def __init__(self, client: Any, fails_before: int = 0) -> None:
        self._client = client
        self._fails_before = fails_before
        self.looks = 0

    def get_queue_url(self, **what: Any) -> Any:
        return self._client.get_queue_url(**what)

    def get_queue_attributes(self, **what: Any) -> Any:
        self.looks += 1
        if self.looks < self._fails_before:
            raise EndpointConnectionError(endpoint_url="http://x")
        return self._client.get_queue_attributes(**what)


@pytest.mark.parametrize("fails_before", [0, 3])
def test_it_looks_again_and_again_until_it_is_ended(stack: Settings, fails_before: int) -> None:
    sqs: Any = _Counting(clients.sqs(), fails_before)
    with KeepAwake(sqs, f"{stack.queue_prefix}tasks", every_s=0.01):
        wait_until(lambda: sqs.looks > 5, "looks at the queue")
    wait_until(lambda: "keep-awake" not in {thread.name for thread in threading.enumerate()}, "its end")


def test_a_queue_that_is_not_there_is_no_error(stack: Settings) -> None:
    KeepAwake(clients.sqs(), "no-such-queue").ask()
