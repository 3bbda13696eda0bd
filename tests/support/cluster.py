"""Two workers and two Flowers on one SQS and SNS server, under the longest prefix and the least permissions."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring.names import Kind, kind_of
from pipeline.sqs.monitoring.process_queues import owned
from tests.support.aws_process import AwsServer
from tests.support.flower import PASSWORD, Flower
from tests.support.processes import OWNER, owned_processes
from tests.support.sqs_model import ACCOUNT, REGION
from tests.support.waiting import wait_until
from tests.support.worker import Worker

TOPIC_ARN_PREFIX = f"arn:aws:sns:{REGION}:{ACCOUNT}:"
#: What the stack's policies do not give.
FORBIDDEN = ("CreateTopic", "ListQueues", "SetQueueAttributes", "ListTopics", "ListSubscriptions")


@dataclass
class Cluster:
    server: AwsServer
    settings: Settings
    folder: Path
    app: Any
    workers: dict[str, Worker]
    flowers: list[Flower]
    owner: str  # what a test starts here outlives that test
    _exits: ExitStack

    @property
    def env(self) -> dict[str, str]:
        return {
            **self.server.env,
            "QUEUE_PREFIX": self.settings.queue_prefix,
            "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX,
            "EVENTS_INTERVAL_S": "0.1",
            "TRACE": str(self.folder / "trace"),
            OWNER: self.owner,
        }

    def start_worker(self, name: str, *options: str, **env: str) -> Worker:
        worker = Worker(
            self.server,
            self.folder,
            *("--hostname", f"{name}@test", "--concurrency", "1", *options),
            name=name,
            env={**self.env, "AWS_ACCESS_KEY_ID": "worker", **env},
        )
        self.workers[f"{name}@test"] = self._exits.enter_context(worker)
        return worker

    def start_flower(self, name: str, *options: str, **env: str) -> Flower:
        all_env = {**self.env, "AWS_ACCESS_KEY_ID": "flower", "FLOWER_BASIC_AUTH": PASSWORD, **env}
        flower = Flower(self.folder / f"{name}.log", all_env, *options)
        self.flowers.append(self._exits.enter_context(flower))
        return flower

    def queues(self, *kinds: Kind) -> set[str]:
        """Names of the queues of these kinds that exist now. Lists them as an operator would."""
        self.server.repair()
        urls = self.server.client().list_queues(QueueNamePrefix=self.settings.queue_prefix).get("QueueUrls", [])
        self.forbid()
        names = {url.rsplit("/", 1)[-1] for url in urls}
        return {name for name in names if kind_of(name, self.settings.queue_prefix) in kinds}

    def forbid(self) -> None:
        for action in FORBIDDEN:
            self.server.fault(action, times=-1, status=400, code="AccessDenied")

    def send(self, task: str, *args: Any, **options: Any) -> str:
        task_id: str = self.app.send_task(f"tiny.{task}", args, **options).id
        return task_id

    def each_flower_says(self, task_id: str, state: str) -> None:
        for flower in self.flowers:
            wait_until(lambda each=flower: each.state(task_id) == state, f"{task_id} is {state} in Flower")  # type: ignore[misc]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        owned_processes(),
        AwsServer() as server,
        pytest.MonkeyPatch.context() as patch,
        ExitStack() as exits,
    ):
        for name, value in server.env.items():
            patch.setenv(name, value)
        clients.forget_clients()
        prefix = f"{secrets.token_hex(18)}abc-"
        assert len(prefix) == 40
        settings = Settings(queue_prefix=prefix, topic_arn_prefix=TOPIC_ARN_PREFIX, poll_wait_s=1)
        for queue in ("events", "tasks"):
            server.make_queue(prefix + queue)
        for topic in ("celeryev", "pidbox"):
            server.client("sns").create_topic(Name=prefix + topic)
        server.reset()
        app = make_app(settings)
        made = Cluster(server, settings, tmp_path_factory.mktemp("cluster"), app, {}, [], os.environ[OWNER], exits)
        made.forbid()
        made.start_worker("one", METRICS_NAMESPACE="Tests")
        made.start_worker("two")
        made.start_flower("first", "--address=127.0.0.1", FLOWER_DB=str(made.folder / "first.db"))
        made.start_flower("second", FLOWER_ADDRESS="127.0.0.1", FLOWER_URL_PREFIX="behind/a/balancer")
        for worker in made.workers.values():
            worker.wait_ready()
        for flower in made.flowers:
            wait_until(lambda each=flower: each.online() == set(made.workers), "Flower sees both workers")  # type: ignore[misc]
        yield made
        exits.close()
        owned().close()
        owned.cache_clear()
        app.close()
        clients.forget_clients()
