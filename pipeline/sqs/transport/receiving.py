"""kombu's asynchronous SQS client, made to always answer: with messages or with an error.

kombu's own sets no time-out on its requests, so a reply that is lost is waited for until the process
ends, and it turns HTTP 5xx into an empty list, which its caller then takes for a reply.
"""

from __future__ import annotations

import re
from typing import Any

import pycurl
from kombu.asynchronous.aws.connection import AsyncHTTPSConnection
from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection

CONNECT_TIMEOUT_S = 5
#: Seconds that a reply may take beyond the long poll that it ends.
REPLY_MARGIN_S = 10


class ReceiveError(Exception):
    """SQS did not answer a ReceiveMessage with HTTP 200; the text says what it answered."""


class _HTTPConnection(AsyncHTTPSConnection):
    def __init__(self, *, reply_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reply_timeout_s = reply_timeout_s

    def getrequest(self) -> Any:
        request = super().getrequest()
        request.on_prepare = self._limit
        return request

    def _limit(self, curl: Any) -> None:
        curl.setopt(pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S)
        curl.setopt(pycurl.TIMEOUT_MS, round(self._reply_timeout_s * 1000))
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)


class SQSConnection(AsyncSQSConnection):
    """Raises ``ReceiveError`` for every reply that isn't HTTP 200, a lost one included.

    ``reply_timeout_s`` must be above the longest poll.
    """

    def __init__(self, *args: Any, reply_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reply_timeout_s = reply_timeout_s

    def get_http_connection(self) -> Any:
        return _HTTPConnection(http_client=self._httpclient, reply_timeout_s=self._reply_timeout_s)

    def _on_list_ready(self, parent: Any, markers: Any, operation: str, response: Any) -> Any:
        if response.status != self.STATUS_CODE_OK:
            raise ReceiveError(_why(response))
        return super()._on_list_ready(parent, markers, operation, response)


def _why(response: Any) -> str:
    """``HTTP 403 AccessDenied``, or what curl says when there was no reply (kombu calls that 599)."""
    if response.status == AsyncSQSConnection.STATUS_CODE_NETWORK_CONNECT_TIMEOUT_ERROR:
        return f"no reply: {response.reason}"
    body = response.read() or b""
    code = re.search(rb'"__type"\s*:\s*"(?:[^"#]*#)?(\w+)"', body)
    return f"HTTP {response.status} {code[1].decode() if code else response.reason}".strip()
