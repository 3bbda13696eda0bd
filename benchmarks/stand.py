"""The test stand: runs one server and the processes of each contender, and measures the cost of a batch of images."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import boto3

from benchmarks import processes
from benchmarks.contenders import Contender
from tests.support.sqs_model import ACCOUNT, REGION

ROOT = Path(__file__).parents[1]
#: Seconds between checks of the progress.
LOOK_EVERY_S = 0.05
#: Seconds after the last delete in which costs still count: events are sent once a second.
SETTLE_S = 1.2
#: Maximum seconds for a batch; after it, the contender is considered to hang.
DEADLINE_S = 900.0


class BenchmarkError(Exception):
    """A contender did not do its work, so its cost means nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a batch of images. Keys of ``calls``: ``"<role> <action> <bucket, queue or topic, no prefix>"``."""

    images: int
    cpu_s: float
    wall_s: float  # from the first event to the last rendition
    calls: Counter[str]
    cpu_by_role_s: dict[str, float]

    @property
    def cpu_per_image_s(self) -> float:
        return self.cpu_s / self.images

    @property
    def wall_per_image_s(self) -> float:
        return self.wall_s / self.images


@dataclass
class Running:
    """A contender's processes, each in a session of its own, on queues and buckets with its prefix."""

    stand: Stand
    contender: Contender
    prefix: str
    folder: Path
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    batches: int = 0

    @property
    def buckets(self) -> tuple[str, str]:
        return f"{self.prefix}input", f"{self.prefix}output"

    def environ(self, role: str) -> dict[str, str]:
        (self.folder / role).mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return inherited | {
            "AWS_ENDPOINT_URL": self.stand.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": f"{self.prefix}{role}",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "INPUT_BUCKET": self.buckets[0],
            "OUTPUT_BUCKET": self.buckets[1],
            "QUEUE_PREFIX": self.prefix,
            "TOPIC_ARN_PREFIX": f"arn:aws:sns:{REGION}:{ACCOUNT}:",
            "HEALTH_FOLDER": str(self.folder / role),
            **self.contender.environ,
        }

    def start(self, role: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{role}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environ(role),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children[role] = child
        return child

    def feed(self, blobs: Sequence[str], count: int, deadline_s: float = DEADLINE_S) -> Cost:
        """Puts ``count`` images and waits until the last of their messages is deleted.

        Raises ``BenchmarkError`` if a process ends, an image fails, or it takes too long.
        """
        source, output = self.buckets
        self.batches += 1
        self.stand.ask("POST", "empty", {"buckets": [source, output]})
        calls, cpu = self.calls(), self.cpu_by_role()
        seed = {"bucket": source, "queue": f"{self.prefix}events", "prefix": f"{self.batches}/"}
        seeded = self.stand.ask("POST", "seed", seed | {"blobs": list(blobs), "count": count})
        done = self._wait(count, deadline_s)
        time.sleep(SETTLE_S)
        after = self.cpu_by_role()
        by_role = {role: after[role] - cpu[role] for role in after}
        return Cost(count, sum(by_role.values()), done - seeded["at"], self.calls() - calls, by_role)

    def _wait(self, count: int, deadline_s: float) -> float:
        """Waits for all renditions; returns when the last one was put, by the server's clock."""
        queues = [self.prefix + name for name in ("events", "tasks", "events-dlq", "tasks-dlq")]
        query = urlencode([("bucket", self.buckets[1]), *(("queue", queue) for queue in queues)])
        deadline = time.monotonic() + deadline_s
        while True:
            found = self.stand.ask("GET", f"progress?{query}")
            folders, depths = found["folders"], found["depths"]
            waiting = sum(sum(depths[queue]) for queue in queues)
            if folders.get("resized") == folders.get("thumbs") == count and not waiting:
                return float(found["last_put"])
            dead = sum(sum(depths[queue]) for queue in queues[2:])
            if dead or folders.get("failed") or time.monotonic() > deadline:
                raise self._failed(f"{folders} of {count} images, queues {depths}")
            for role, child in self.children.items():
                if child.poll() is not None:
                    raise self._failed(f"its {role} ended with status {child.returncode}")
            time.sleep(LOOK_EVERY_S)

    def _failed(self, reason: str) -> BenchmarkError:
        tails = [f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")]
        unknown = self.stand.ask("GET", "calls")["unknown"]
        return BenchmarkError("\n".join([f"{self.contender.name}: {reason}; not understood: {unknown}", *tails]))

    def calls(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, number in self.stand.ask("GET", "calls")["calls"].items():
            caller, action, target = name.split(" ", 2)
            if caller.startswith(self.prefix):
                found[f"{caller.removeprefix(self.prefix)} {action} {target.removeprefix(self.prefix)}"] += number
        return found

    def cpu_by_role(self) -> dict[str, float]:
        return {role: processes.cpu_s([child.pid]) for role, child in self.children.items()}

    def restart_peaks(self) -> None:
        for child in self.children.values():
            processes.restart_peaks(child.pid)

    def memory(self) -> dict[str, list[processes.Memory]]:
        """The memory by role: of its first process, then of the processes that it started."""
        found = {}
        for role, child in self.children.items():
            by_pid = processes.memory(child.pid)
            found[role] = [by_pid.pop(child.pid), *by_pid.values()]
        return found

    def log_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))

    def stop(self) -> None:
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.children.clear()


class Stand:
    """A server with contenders. A context manager, which ends everything that was started."""

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._folder = Path()
        self.url = ""

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: leaves nothing running
        with ExitStack() as exits:
            self._folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            server = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.server"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            exits.callback(server.wait)
            exits.callback(server.kill)
            assert server.stdout is not None
            self.url = server.stdout.readline().strip()
            if not self.url:
                raise BenchmarkError("the server did not start")
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def ask(self, method: str, what: str, body: dict[str, Any] | bytes | None = None) -> Any:
        """Sends a request to the harness's part of the server, which does not count it."""
        sent = json.dumps(body).encode() if isinstance(body, dict) else body
        with closing(HTTPConnection(self.url.removeprefix("http://"), timeout=120)) as connection:
            connection.request(method, f"/_bench/{what}", sent)
            reply = connection.getresponse()
            text = reply.read()
        if reply.status != 200:
            raise BenchmarkError(f"{method} {what}: HTTP {reply.status}")
        return json.loads(text)

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="bench",
            aws_secret_access_key="bench",
        )

    def add_blob(self, name: str, data: bytes) -> None:
        self.ask("PUT", f"blob?name={quote(name, safe='')}", data)

    def prepare(self, contender: Contender, prefix: str | None = None) -> Running:
        """Creates a contender's queues and topics, without starting its processes."""
        prefix = f"{contender.name.replace('_', '-')}-" if prefix is None else prefix
        sqs, sns = self.client("sqs"), self.client("sns")
        for name in ("events", "tasks"):
            dead = sqs.create_queue(QueueName=f"{prefix}{name}-dlq")["QueueUrl"]
            arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
            sqs.create_queue(QueueName=prefix + name, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "180"})
        for topic in ("celeryev", "pidbox"):
            sns.create_topic(Name=prefix + topic)
        folder = self._folder / prefix
        folder.mkdir()
        running = Running(self, contender, prefix, folder)
        self._exits.callback(running.stop)
        return running

    def start(self, contender: Contender, prefix: str | None = None) -> Running:
        """Starts all processes of a contender. They may not be ready yet: process a first batch to warm them up."""
        running = self.prepare(contender, prefix)
        for role, command in contender.processes.items():
            running.start(role, command)
        return running


@contextlib.contextmanager
def started(stand: Stand, contender: Contender, warm_up: Sequence[str], prefix: str | None = None) -> Iterator[Running]:
    """A warm contender: it has made renditions of each of these blobs a few times."""
    running = stand.start(contender, prefix)
    try:
        running.feed(warm_up, 6 * len(warm_up), 120)
        yield running
    finally:
        running.stop()
