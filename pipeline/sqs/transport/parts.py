"""The parts of a channel, as the worker's steps and Celery's request use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.aws import clients
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages
from pipeline.sqs.transport.prefetch import DEFAULT_PREFETCH_S, PrefetchController
from pipeline.sqs.transport.publishing import Publisher
from pipeline.sqs.transport.redrive_policy import RedrivePolicies
from pipeline.sqs.transport.settlement import Settlement
from pipeline.sqs.transport.visibility import (
    DEFAULT_STALLED_AFTER_S,
    DEFAULT_VISIBILITY_TIMEOUT_S,
    Pulse,
    VisibilityExtender,
)

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Parts:
    in_flight: InFlightMessages
    settlement: Settlement
    redrive: RedrivePolicies
    prefetch: PrefetchController
    extender: VisibilityExtender
    publisher: Publisher


def assemble(
    options: Mapping[str, Any],
    *,
    client: Callable[[], Any],
    url: Callable[[str], str],
    call_soon: Callable[[Callable[[], None]], object],
    on_settled: Callable[[InFlightMessage, bool], None],
) -> Parts:
    """``options``: the transport's. They are read now, so messages in the pool can be settled after the channel closes.

    ``client``: returns the client that publishes; ``url``: from a queue's name to its URL; ``call_soon``: calls back in
    the event loop; ``on_settled``: see ``Settlement``.
    """
    messages = InFlightMessages()
    redrive = RedrivePolicies(_sqs)
    timeout_s = visibility_timeout_s(options)
    stalled_after_s = float(options.get("stalled_after_s", DEFAULT_STALLED_AFTER_S))
    return Parts(
        in_flight=messages,
        settlement=Settlement(messages, redrive, _sqs, visibility_timeout_s=timeout_s, on_settled=on_settled),
        redrive=redrive,
        prefetch=PrefetchController(float(options.get("prefetch_s", DEFAULT_PREFETCH_S))),
        extender=VisibilityExtender(messages, _sqs, timeout_s, is_alive=Pulse(call_soon, stalled_after_s)),
        publisher=Publisher(client, url),
    )


def visibility_timeout_s(options: Mapping[str, Any]) -> int:
    return int(options.get("visibility_timeout_s", DEFAULT_VISIBILITY_TIMEOUT_S))


def _sqs() -> SQSClient:
    return clients.sqs(long_poll=False)
