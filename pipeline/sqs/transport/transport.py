"""Celery's broker: SQS, through kombu's own transport. ``channel`` implements the differences."""

from __future__ import annotations

from typing import Any

from kombu.asynchronous import set_event_loop
from kombu.transport import SQS

from pipeline.aws.plain_errors import ConfigError
from pipeline.aws.queues import place
from pipeline.sqs.transport.channel import Channel


class Transport(SQS.Transport):
    Channel = Channel
    # Celery's remote control looks for ``fanout``.
    implements = SQS.Transport.implements.extend(
        exchange_type=frozenset({"direct", "topic", "fanout"}), batch_publish=True
    )

    # So kombu leaves the URL to us. It has no host: logs and Flower would show "sqs://localhost//".
    can_parse_url = True

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Where the queues are, for logs and Flower: ``sqs://eu-central-1/photos-``."""
        prefix = self.client.transport_options.get("queue_name_prefix", "")
        try:
            return f"sqs://{place()}/{prefix}"
        except ConfigError:  # without a region; what needs one says so
            return f"sqs:///{prefix}"

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Celery calls this for each connection.

        After the loss of a connection, Celery resets its event loop, and kombu no longer has it as the current one.
        Without this method, the channels of the next connection would find no event loop, and never poll.
        """
        set_event_loop(loop)
        for channel in (*self.channels, *self._avail_channels):
            channel.hub = loop
        super().register_with_event_loop(connection, loop)
