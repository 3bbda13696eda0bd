"""What a test of the broker layer plays on: one server for all, queues and an app for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.transport.publishing import batched
from tests.support.aws_process import AwsServer
from tests.support.worker import Worker


@dataclass(frozen=True)
class Stage:
    server: AwsServer
    folder: Path
    prefix: str
    app: Any

    @property
    def queue(self) -> str:
        return f"{self.prefix}tasks"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}tasks-dlq"

    @property
    def trace_path(self) -> Path:
        return self.folder / "trace"

    def worker(self, *options: str, name: str = "worker", app: str = "tests.support.tiny", **env: str) -> Worker:
        """A worker process on this stage's queue; variables by keyword."""
        return Worker(
            self.server,
            self.folder,
            "--hostname",
            f"{name}@test",
            *options,
            app=app,
            name=name,
            env={"QUEUE_PREFIX": self.prefix, **env},
        )

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        return self.app.send_task(f"tiny.{task}", args, **options)

    def send_raw(self, body: str) -> None:
        client = self.server.client()
        client.send_message(QueueUrl=client.get_queue_url(QueueName=self.queue)["QueueUrl"], MessageBody=body)

    def send_many(self, task: str, *arguments: tuple[Any, ...]) -> None:
        with batched(self.app):
            for each in arguments:
                self.send(task, *each)

    def send_chain(self, signature: Any) -> None:
        """With SendMessageBatch, so that faults of SendMessage are for the workers."""
        with batched(self.app):
            signature.apply_async()

    def depth(self) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        return self.server.depth(self.queue)

    def empty(self) -> bool:
        return self.depth() == (0, 0, 0)

    def count(self, action: str) -> int:
        """Requests of this action on the task queue."""
        return self.server.counts()[f"{action} {self.queue}"]

    def faults(self, action: str) -> int:
        return self.server.counts()[f"fault {action} {self.queue}"]

    def dead(self) -> list[dict[str, Any]]:
        """Takes all messages out of the dead-letter queue."""
        client = self.server.client()
        url = client.get_queue_url(QueueName=self.dead_letters)["QueueUrl"]
        found: list[dict[str, Any]] = []
        while batch := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get(
            "Messages"
        ):
            found += batch
        return found


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@contextmanager
def made_stage(server: AwsServer, folder: Path, monkeypatch: pytest.MonkeyPatch, **queue: Any) -> Iterator[Stage]:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    prefix = f"t{uuid.uuid4().hex[:8]}-"
    server.make_queue(f"{prefix}tasks", **queue)
    app = make_app(Settings(queue_prefix=prefix))
    try:
        yield Stage(server, folder, prefix, app)
    finally:
        app.close()
        server.repair()
        clients.forget_clients()


@pytest.fixture
def stage(aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Queue and dead-letter queue (five receives, 30 s) with a prefix of their own."""
    with made_stage(aws_server, tmp_path, monkeypatch) as made:
        yield made
