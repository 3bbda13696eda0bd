"""The real bridge and the real tasks, on the in-memory SQS server and an S3 emulator."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.local.stack import Emulator
from tests.support.aws_process import ROOT, AwsServer, S3Proxy
from tests.support.waiting import text_of

INPUT, OUTPUT = "input", "output"
WORKER = ("-m", "pipeline.worker", "--loglevel", "INFO")
BRIDGE = ("-m", "bridge")


@dataclass
class Chain:
    """Queues with a prefix of their own, two buckets, and the processes that were started."""

    server: AwsServer
    emulator: Emulator
    folder: Path
    s3_url: str
    prefix: str = field(default_factory=lambda: f"c{uuid.uuid4().hex[:8]}-")
    settings: dict[str, str] = field(default_factory=dict)
    max_receives: int = 5
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.s3 = self.emulator.client("s3")
        self.sqs = self.server.client()
        for name in ("events", "tasks"):
            self.server.make_queue(self.prefix + name, visibility_s=30, max_receives=self.max_receives)
        for bucket in (INPUT, OUTPUT):
            self.s3.create_bucket(Bucket=self.prefix + bucket)

    @property
    def input(self) -> str:
        return self.prefix + INPUT

    @property
    def output(self) -> str:
        return self.prefix + OUTPUT

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.server.env,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "QUEUE_PREFIX": self.prefix,
            "INPUT_BUCKET": self.input,
            "OUTPUT_BUCKET": self.output,
            "POLL_WAIT_S": "2",
            "HEALTH_FOLDER": str(self.folder),
            **self.settings,
        }

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**self.env, **(env or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_worker(self, name: str = "worker", concurrency: int = 2, **env: str) -> subprocess.Popen[bytes]:
        return self.start(name, *WORKER, "-c", str(concurrency), "-n", f"{name}@test", env=env)

    def start_bridge(self, name: str = "bridge", **env: str) -> subprocess.Popen[bytes]:
        return self.start(name, *BRIDGE, env=env)

    def kill(self, name: str) -> None:
        """kill -9 of a process and of all that it started."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def log(self, name: str) -> str:
        return text_of(self.folder / f"{name}.log")

    def upload(self, key: str, data: bytes, sequence: int) -> str:
        """Puts an object, and returns the event that S3 would send."""
        etag = self.s3.put_object(Bucket=self.input, Key=key, Body=data)["ETag"].strip('"')
        return s3_event(self.input, key, etag, len(data), sequence)

    def delete(self, key: str, sequence: int) -> str:
        """Deletes an object, and returns the event that S3 would send."""
        self.s3.delete_object(Bucket=self.input, Key=key)
        return s3_event(self.input, key, None, 0, sequence)

    def notify(self, events: Iterable[str]) -> None:
        url = self.sqs.get_queue_url(QueueName=f"{self.prefix}events")["QueueUrl"]
        waiting = list(events)
        for start in range(0, len(waiting), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(waiting[start : start + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")

    def idle(self) -> bool:
        """Both queues are empty, and nothing is in flight or delayed."""
        return all(self.server.depth(self.prefix + name) == (0, 0, 0) for name in ("events", "tasks"))

    def dead(self) -> int:
        return sum(self.server.depth(f"{self.prefix}{name}-dlq")[0] for name in ("events", "tasks"))

    def outputs(self, folder: str) -> dict[str, str]:
        """Keys below ``folder/`` in the output bucket, with their ETags."""
        found = {}
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.output, Prefix=f"{folder}/"):
            for item in page.get("Contents", []):
                found[item["Key"].partition("/")[2]] = item["ETag"].strip('"')
        return found

    def record(self, key: str) -> str:
        """What the failure record of that name below ``failed/`` says."""
        text: str = self.s3.get_object(Bucket=self.output, Key=f"failed/{key}")["Body"].read().decode()
        return text

    def source_etag(self, key: str) -> str:
        """Which version of the source an output was made from."""
        etag: str = self.s3.head_object(Bucket=self.output, Key=key)["Metadata"]["source-etag"]
        return etag


@contextmanager
def chain(
    folder: Path, *, s3_proxy: bool = False, max_receives: int = 5, **settings: str
) -> Iterator[tuple[Chain, S3Proxy | None]]:
    """Everything but the bridge and the workers, which the caller starts; all is killed at the end."""
    with ExitStack() as stack:
        server = stack.enter_context(AwsServer())
        emulator = stack.enter_context(Emulator())
        proxy = stack.enter_context(S3Proxy(emulator.endpoint)) if s3_proxy else None
        s3_url = emulator.endpoint if proxy is None else proxy.url
        made = Chain(server, emulator, folder, s3_url, settings=settings, max_receives=max_receives)
        stack.callback(made.close)
        yield made, proxy


def picture(seed: int, size: tuple[int, int] = (400, 300)) -> bytes:
    """A JPEG that no other seed gives."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    image.paste((rng.randrange(256), seed % 256, seed // 256 % 256), (10, 10, 100, 100))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def s3_event(bucket: str, key: str, etag: str | None, size: int, sequence: int) -> str:
    """``etag`` None: of a removal."""
    item = {"key": key, "sequencer": f"{sequence:018X}"} | ({} if etag is None else {"size": size, "eTag": etag})
    record: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": "ObjectRemoved:Delete" if etag is None else "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": item},
    }
    return json.dumps({"Records": [record]})
