"""Starts and steers the in-memory SQS and SNS server from tests and benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.make_queue import make_queue
from tests.support.sqs_model import REGION

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """A server module as a process of its own, as a context manager; ``url`` is its endpoint.

    The module prints its address, and answers ``/_control/…`` as ``aws_server.ControlHandler`` does.
    """

    module = ""

    def __init__(self, *arguments: str) -> None:
        self.url = ""
        self._arguments = arguments

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, *self._arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"{self.module} did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def counts(self) -> Counter[str]:
        """Requests since the start or the last reset, and a few totals."""
        return Counter(self._control("GET", "counts"))

    def reset(self) -> None:
        self._control("POST", "reset")

    def latency(self, seconds: float) -> None:
        self._control("POST", "latency", {"s": seconds})

    def fault(self, action: str, **what: Any) -> None:
        """Adds a fault; the fields are those of ``aws_server.Fault``."""
        self._control("POST", "faults", {"action": action, **what})

    def repair(self) -> None:
        self._control("POST", "repair")

    def _control(self, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        with closing(connection):
            connection.request(method, f"/_control/{what}", None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
            if reply.status != 200:
                raise RuntimeError(f"{method} {what}: HTTP {reply.status}")
            return json.loads(text)


class S3Proxy(ServerProcess):
    """Between a process and the S3 server at the given address."""

    module = "tests.support.s3_proxy"


class AwsServer(ServerProcess):
    """SQS and SNS; requests are counted as ``"<action> <queue>"``."""

    module = "tests.support.aws_server"

    @property
    def env(self) -> dict[str, str]:
        """The variables that point every AWS client of a process at this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "sqs") -> Any:
        """A boto3 client of this server that never retries and has no part in any cache."""
        import boto3
        from botocore.config import Config

        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def calls(self) -> Counter[str]:
        """The same requests, as ``"<access key> <action> <queue or topic>"``."""
        return Counter(self._control("GET", "calls"))

    def requests(self, queue_prefix: str = "") -> int:
        """All requests on queues whose name begins so."""
        return sum(
            number
            for name, number in self.counts().items()
            if name[0].isupper() and name.partition(" ")[2].startswith(queue_prefix)
        )

    def forget_deletions(self) -> None:
        """As if a minute had passed: names of deleted queues may be used again."""
        self._control("POST", "forget_deletions")

    def make_queue(self, name: str, **options: Any) -> str:
        return make_queue(self.client(), name, **options)

    def depth(self, queue: str) -> tuple[int, int, int]:
        """How many messages of a queue are visible, in flight, and delayed; no request is counted for it."""
        visible, flying, delayed = self._control("GET", "depths")[queue]
        return visible, flying, delayed
