"""AWS servers that nobody here wrote, with the face that ``Stage`` and ``Worker`` need: moto's, and ministack's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pipeline.local.stack import REGION
from tests.support.aws_process import ROOT
from tests.support.make_queue import make_queue
from tests.support.waiting import wait_until

#: ministack takes an access key of twelve digits for the account.
ACCOUNT = "123456789012"
#: An environment of its own, as ministack pins a botocore; ``make test`` makes it.
PYTHON = ROOT / ".venv-ministack" / "bin" / "python"
HEALTH = "/_ministack/health"


class OtherServer:
    """SQS, SNS and S3 at ``endpoint``."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._clients: dict[str, Any] = {}

    @property
    def env(self) -> dict[str, str]:
        """The variables that point every AWS client of a process at this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "sqs") -> Any:
        if service not in self._clients:
            make: Any = boto3.client
            self._clients[service] = make(
                service,
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id=ACCOUNT,
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._clients[service]

    def make_queue(self, name: str, **options: Any) -> str:
        return make_queue(self.client(), name, **options)

    def depth(self, queue: str) -> tuple[int, int, int]:
        """How many messages of a queue are visible, in flight, and delayed."""
        url = self.client().get_queue_url(QueueName=queue)["QueueUrl"]
        found = self.client().get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("", "NotVisible", "Delayed")
        visible, flying, delayed = (int(found[f"ApproximateNumberOfMessages{name}"]) for name in names)
        return visible, flying, delayed

    def repair(self) -> None:
        """Nothing is broken: it has no faults to inject."""


@contextmanager
def ministack(folder: Path) -> Iterator[OtherServer]:
    """``folder``: for its log. Skips the test where ministack is not installed; in CI that is a failure."""
    if not PYTHON.exists():
        assert "CI" not in os.environ, "ministack is not installed"
        pytest.skip("ministack is not installed: `make test` does it")
    log = folder / "ministack.log"
    port = free_port()
    with log.open("w") as file:
        process = subprocess.Popen(
            [PYTHON, "-m", "ministack"],
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(folder),
                "HOME": str(folder),
                "GATEWAY_PORT": str(port),
                "BIND_HOST": "127.0.0.1",
                "SERVICES": "s3,sqs,sns,sts",
                "LOG_LEVEL": "WARNING",
            },
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "ministack listens")
        assert process.poll() is None, log.read_text()
        yield OtherServer(f"http://127.0.0.1:{port}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", HEALTH)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
