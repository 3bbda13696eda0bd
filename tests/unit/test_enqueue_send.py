"""What sending one task from inside another raises: the broker's trouble passes, and nothing else is taken for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from pipeline.core.errors import ConfigError, TransientError
from pipeline.enqueue import send


def signature(raised: BaseException) -> Any:
    def apply_async(**_: Any) -> None:
        raise raised

    return SimpleNamespace(task="tasks.resize", apply_async=apply_async)


@pytest.mark.parametrize(
    "raised",
    [
        ClientError({"Error": {"Code": "InternalError"}}, "SendMessage"),
        EndpointConnectionError(endpoint_url="sqs"),
        OperationalError("no connection"),
        ConfigError("no such queue"),
        ConnectionResetError(),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_the_broker_s_trouble_passes(raised: Exception) -> None:
    with pytest.raises(TransientError, match=r"could not enqueue tasks\.resize: ") as seen:
        send(signature(raised))
    assert seen.value.__cause__ is raised


@pytest.mark.parametrize("raised", [SoftTimeLimitExceeded(), MemoryError(), TypeError("a defect"), SystemExit()])
def test_what_is_not_the_broker_s_is_not_called_so(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as seen:
        send(signature(raised))
    assert seen.value is raised
