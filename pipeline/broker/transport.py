"""Celery's broker: SQS, through kombu's own transport and the repairs and extensions in this folder.

Each concern is a class of its own module; here they are only put together.
"""

from __future__ import annotations

from kombu.transport import SQS

from pipeline.broker.polling import Polling
from pipeline.broker.prefetch import Prefetch
from pipeline.broker.queues import Queues
from pipeline.monitoring.fanout import EXCHANGE_TYPES, Fanout


class Channel(Fanout, Polling, Prefetch, Queues, SQS.Channel):
    """See the bases, each of which does one thing."""


class Transport(SQS.Transport):
    Channel = Channel
    implements = SQS.Transport.implements.extend(exchange_type=EXCHANGE_TYPES)
