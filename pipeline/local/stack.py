"""The parts of a deployed stack on one machine: an emulator, buckets, queues, and the real processes."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import boto3

from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import DEAD_LETTERS, EVENTS_QUEUE, QUEUES
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring.names import TOPICS

REGION = "us-east-1"
PREFIX = "local-"
INPUT_BUCKET = "local-input"
OUTPUT_BUCKET = "local-output"
#: Receives an event for each object that is written to the output bucket.
RESULTS_QUEUE = PREFIX + "results"
#: The location of the emulator's topics; the account is the emulator's.
TOPIC_ARN_PREFIX = f"arn:aws:sns:{REGION}:123456789012:"

#: Deliveries of a message before it is moved to the dead-letter queue.
MAX_RECEIVES = 5
#: Seconds that a child process has to end after SIGTERM.
GRACE_S = 15


@cache
def _session() -> Any:
    """One session for all clients: each new session would read botocore's service descriptions again."""
    return boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)  # noqa: S106


class Emulator:
    """An AWS emulator (moto's server) in a process of its own, on a free loopback port."""

    SERVER = "pipeline.local.server"  # the module that is run

    def __init__(self, log: IO[bytes] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if log is None else log,
            start_new_session=True,  # Ctrl-C goes to the parent, which stops this process last
            text=True,
        )
        self._clients: dict[str, Any] = {}
        self.endpoint = self._process.stdout.readline().strip() if self._process.stdout is not None else ""
        if not self.endpoint:
            raise PipelineError("the AWS emulator did not start: it is an extra, install batch-image-pipeline[local]")

    @property
    def pid(self) -> int:
        return self._process.pid

    def environ(self) -> dict[str, str]:
        """This process's environment, with the AWS variables of the emulator."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return inherited | self.variables()

    def variables(self) -> dict[str, str]:
        """The variables that point any AWS client at the emulator."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def client(self, service: str) -> Any:
        """The emulator's boto3 client for a service, independent of this process's environment."""
        if service not in self._clients:
            self._clients[service] = _session().client(service, endpoint_url=self.endpoint)
        return self._clients[service]

    def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        _end(self._process)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def make_resources(emulator: Emulator, *, removals: bool = False) -> None:
    """Creates the buckets, the queues with their dead-letter queues, the topics, and the notifications.

    ``removals``: the buckets also notify of deleted objects.
    """
    s3, sqs, sns = emulator.client("s3"), emulator.client("sqs"), emulator.client("sns")
    for topic in TOPICS.values():
        sns.create_topic(Name=PREFIX + topic)
    for bucket in (INPUT_BUCKET, OUTPUT_BUCKET):
        s3.create_bucket(Bucket=bucket)
    arns = {}
    for name in QUEUES:
        dead = _make_queue(sqs, PREFIX + name + DEAD_LETTERS, {})
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": MAX_RECEIVES})
        arns[name] = _make_queue(sqs, PREFIX + name, {"RedrivePolicy": redrive, "VisibilityTimeout": "180"})
    arns["results"] = _make_queue(sqs, RESULTS_QUEUE, {})
    events = ["s3:ObjectCreated:*", *(["s3:ObjectRemoved:*"] if removals else [])]
    for bucket, queue in ((INPUT_BUCKET, EVENTS_QUEUE), (OUTPUT_BUCKET, "results")):
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arns[queue], "Events": events}]},
        )


def _make_queue(sqs: Any, name: str, attributes: Mapping[str, str]) -> str:
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn


class LocalStack:
    """The emulator with its resources, and the same processes as in production.

    A context manager, which stops all processes at the end. ``logs``: a folder for their output.
    ``removals``: deleted objects are processed too.
    """

    def __init__(self, logs: Path, *, concurrency: int, removals: bool = False) -> None:
        self.logs = logs
        self._concurrency = concurrency
        self._removals = removals
        self._chosen: dict[str, str] = {}  # settings that a person has chosen since the start
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []
        self.emulator = Emulator(self._log("emulator"))

    def _log(self, name: str) -> IO[bytes]:
        file = (self.logs / f"{name}.log").open("ab")
        self._files.append(file)
        return file

    def __enter__(self) -> Self:
        try:
            make_resources(self.emulator, removals=self._removals)
            self._start_processes()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start_processes(self) -> None:
        self.start("bridge", "-m", "bridge")
        self.start("worker", "-m", "pipeline.worker", f"--concurrency={self._concurrency}", "-n", "local@%h")

    def restart(self, settings: Mapping[str, str]) -> None:
        """Stops the bridge and the worker, and starts them with these settings as well."""
        children = [self._children.pop(name) for name in ("bridge", "worker")]
        _stop(children)
        self._chosen |= settings
        self._start_processes()

    def environ(self) -> dict[str, str]:
        """The environment of the processes."""
        return self.emulator.environ() | self.variables()

    def variables(self) -> dict[str, str]:
        """The AWS variables and settings that point anything at this stack."""
        return self.emulator.variables() | {
            "INPUT_BUCKET": INPUT_BUCKET,
            "OUTPUT_BUCKET": OUTPUT_BUCKET,
            "OUTPUT_PREFIX": "",  # instead of the user's own
            "QUEUE_PREFIX": PREFIX,
            "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX,
            "POLL_WAIT_S": "1",  # so that they stop quickly
            "HEALTH_FOLDER": str(self.logs),  # one worker and one bridge each
            **self._chosen,
        }

    def write_variables(self) -> Path:
        """Writes the variables that point a shell's commands at this stack; returns the file to be sourced."""
        settings = {name.upper() for name in Settings.model_fields}
        given = {name: value for name, value in self.environ().items() if name in settings}
        file = self.logs / "variables.sh"
        exported = sorted((given | self.variables()).items())
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in exported)
        file.write_text("".join(lines))
        return file

    def start(self, name: str, *arguments: str, **environ: str) -> None:
        """Starts one more Python process of the stack; its output goes to ``<name>.log``."""
        self._children[name] = subprocess.Popen(
            [sys.executable, *arguments],
            env=self.environ() | environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log(name),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the parent, which then stops these in order
        )

    def check(self) -> None:
        """Raises ``PipelineError`` if one of the processes has ended unexpectedly."""
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()[-5:]
                raise PipelineError("\n".join([f"the {name} ended by itself (status {child.returncode}):", *tail]))

    def stop(self) -> None:
        """Stops everything: the children first, so that they can release their messages."""
        _stop(self._children.values())
        self._children.clear()
        self.emulator.stop()
        for file in self._files:
            file.close()


def _stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    """Waits for a process, then kills it and everything that it started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
