"""One ReceiveMessage request: its parameters, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pipeline.aws import clients
from pipeline.sqs.transport.receiver import Received

#: What a receive requests in addition to the text: all that is needed to send the message again.
WANTED_ATTRIBUTES: Mapping[str, Any] = {
    "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
    "MessageAttributeNames": ["All"],
}


class QueueReader:
    """``url``: from a queue's name to its URL; ``forget_url``: called with the name of a queue that no longer exists.

    ``unsettled``: control queues, whose messages nobody acknowledges. ``wait_s``: seconds of the long poll;
    ``reply_timeout_s``: maximum seconds of a receive.
    """

    def __init__(
        self,
        *,
        url: Callable[[str], str],
        forget_url: Callable[[str], object],
        unsettled: Collection[str],
        wait_s: int,
        reply_timeout_s: float,
        visibility_timeout_s: int,
    ) -> None:
        self._url = url
        self._forget_url = forget_url
        self._unsettled = unsettled
        self._wait_s = wait_s
        self._reply_timeout_s = reply_timeout_s
        self._visibility_timeout_s = visibility_timeout_s
        #: Queues whose receives SQS refuses while it answers another request about them.
        self.refused: set[str] = set()

    def receive(self, queue: str, count: int) -> Received:
        """Receives up to ``count`` messages. Raises botocore's errors.

        Messages that are not acknowledged get the queue's own visibility time-out: control queues hide them for good.
        """
        url = self._url(queue)
        are_settled = queue not in self._unsettled
        wanted = {"QueueUrl": url, "MaxNumberOfMessages": count, "WaitTimeSeconds": self._wait_s}
        if are_settled:
            wanted["VisibilityTimeout"] = self._visibility_timeout_s
        client: Any = clients.sqs_receiver(self._reply_timeout_s)
        try:
            reply = client.receive_message(**wanted, **WANTED_ATTRIBUTES)
        except client.exceptions.QueueDoesNotExist:
            self._forget_url(queue)
            raise
        except Exception:
            self._ask_other(queue, url)
            raise
        self.refused.discard(queue)
        return Received(url, reply.get("Messages", []), are_settled)

    def _ask_other(self, queue: str, url: str) -> None:
        """Distinguishes an outage, which passes, from a refusal of only the receives: see ``worker.heartbeat``."""
        try:
            clients.sqs(long_poll=False).get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        except Exception:
            self.refused.discard(queue)
        else:
            self.refused.add(queue)
