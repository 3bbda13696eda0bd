"""Celery's broker: SQS, through kombu's own transport and the repairs and extensions in this folder.

Each concern is a class of its own module; here they are only put together. A message's way:

    queues      finds the queue
    publishing  sends, alone or in tens
    delays      gives SQS the waiting to do
    polling     receives for ever; ``receiving`` makes each receive end
    prefetch    decides how many to receive
    redelivered tells the task that it is not the first to have it
    lease       keeps what is held hidden from others
    acknowledging, returning, dead_letters   settle it: done, not now, never

``monitoring.fanout`` is for events and remote control, which have queues of their own.
"""

from __future__ import annotations

from kombu.transport import SQS

from pipeline.sqs.monitoring.fanout import EXCHANGE_TYPES, Fanout
from pipeline.sqs.transport.acknowledging import Acknowledging
from pipeline.sqs.transport.dead_letters import DeadLetters
from pipeline.sqs.transport.delays import Delays
from pipeline.sqs.transport.polling import Polling, PollingTransport
from pipeline.sqs.transport.prefetch import Prefetch
from pipeline.sqs.transport.publishing import Publishing
from pipeline.sqs.transport.queues import Queues
from pipeline.sqs.transport.redelivered import Redelivered
from pipeline.sqs.transport.returning import Returning
from pipeline.sqs.transport.visibility import Leases


class Channel(
    Fanout,
    Delays,
    Publishing,
    Polling,
    Prefetch,
    Leases,
    Acknowledging,
    Returning,
    DeadLetters,
    Redelivered,
    Queues,
    SQS.Channel,
):
    """See the bases, each of which does one thing."""


class Transport(PollingTransport, SQS.Transport):
    Channel = Channel
    implements = SQS.Transport.implements.extend(exchange_type=EXCHANGE_TYPES, batch_publish=True)
