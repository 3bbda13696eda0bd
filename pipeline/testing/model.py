"""The pipeline at one step a time: the real bridge and the real tasks on modelled S3 and SQS.

A task runs in a thread of its own that halts before each request to S3 and to SQS, and before its message is
settled. The test says who goes on, who crashes there or is told to stop, whose request fails, and how time passes.
What a task publishes goes through the real channel; a cold one has yet to find its queue.
"""

# ruff: noqa: N803 - named as boto3's arguments are
from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any
from urllib.parse import quote_plus

from billiard.einfo import ExceptionInfo
from botocore.exceptions import EndpointConnectionError
from celery import signals
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded

from bridge.consumer import Bridge
from bridge.failed_keys import FailedKeys
from pipeline.celery import app
from pipeline.core.settings import Settings
from pipeline.enqueue import assign
from pipeline.sqs.outage.patience import Patience
from pipeline.sqs.settled import Decision, Effect, Service, carry, on_raise, on_return, raised
from pipeline.testing.patches import Patch
from pipeline.testing.s3 import EPOCH, S3Model, Version, error

INPUT, OUTPUT = "in", "out"
MAX_RECEIVES = 5
#: What may be raised in a task wherever it is.
INTERRUPTS: dict[str, type[BaseException]] = {"soft limit": SoftTimeLimitExceeded, "no memory": MemoryError}


class Crashed(BaseException):
    """The process is gone: nothing after this point happens."""


@dataclass(eq=False)
class TaskMessage:
    name: str
    headers: dict[str, Any]
    body: str  # JSON
    visible_at: float
    receives: int = 0
    holder: Attempt | None = None  # whose delete counts

    @property
    def key(self) -> str:
        return str(self.headers["argsrepr"]).removeprefix(f"{INPUT}/")


class Attempt:
    """One delivery of one message to one worker."""

    def __init__(self, model: PipelineModel, message: TaskMessage) -> None:
        self.message = message
        self.at = "start"
        self.finished = False
        self.error: BaseException | None = None
        self.serial = next(model.serials)
        self._model = model
        self._order = "go"
        self._connection: Any = None
        self._resume = threading.Semaphore(0)
        self._halted = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def go(self, order: str = "go") -> None:
        """Lets it do what it halted before: ``go``, ``crash``, ``fail`` it, do it but ``lose`` the answer, or be
        interrupted before it (a name of ``INTERRUPTS``)."""
        self._order = order
        self._resume.release()
        self._halted.acquire()
        if self.finished:
            self._thread.join()

    def _main(self) -> None:
        self._model.here.attempt = self
        self._resume.acquire()
        try:
            if self._order != "crash":
                self._model.execute(self)
        except Crashed:
            pass
        except BaseException as exc:
            self.error = exc
        if self._connection is not None:
            self._connection.release()
        self.finished = True
        self._halted.release()

    def halt(self, where: str) -> str:
        """Called by its own thread; returns the order."""
        self.at = where
        self._halted.release()
        self._resume.acquire()
        if self._order == "crash":
            raise Crashed
        if self._order in INTERRUPTS and not where.startswith("settle"):  # that is done by the worker itself
            raise INTERRUPTS[self._order]
        return self._order

    def producer(self) -> Any:
        """Of a process that has not published yet."""
        if self._connection is None:
            self._connection = app.connection_for_write()
        return app.amqp.Producer(self._connection, auto_declare=False)


@dataclass
class EventQueue:
    """As much of an SQS client as the bridge needs; the test chooses which message is received next."""

    bodies: list[str] = field(default_factory=list)
    chosen: int = 0
    crash_before_delete: bool = False
    dead: list[str] = field(default_factory=list)

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        return {"QueueUrl": QueueName}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        body = self.bodies[self.chosen]
        return {"Messages": [{"Body": body, "MessageId": "m", "ReceiptHandle": str(self.chosen)}]}

    def delete_message_batch(self, Entries: Sequence[Any], **_: Any) -> dict[str, Any]:
        if not self.crash_before_delete:
            for entry in Entries:
                del self.bodies[int(entry["ReceiptHandle"])]
        return {}

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        return {}

    def send_message(self, MessageBody: str, **_: Any) -> dict[str, Any]:
        self.dead.append(MessageBody)
        return {}


class TaskQueue:
    """As much of an SQS client as those need who publish tasks. ``model`` is the one of the running test."""

    class exceptions:  # noqa: N801 - as boto3 calls it
        QueueDoesNotExist = KeyError

    def __init__(self) -> None:
        self.model: PipelineModel | None = None

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        with self._stop("GetQueueUrl", QueueName):
            return {"QueueUrl": f"https://sqs/1/{QueueName}"}

    def send_message(self, MessageBody: str, DelaySeconds: int = 0, **_: Any) -> dict[str, Any]:
        with self._stop("publish", json.loads(MessageBody)["headers"]["task"]):
            self._add(MessageBody, DelaySeconds)
        return {"MessageId": "m"}

    def send_message_batch(self, Entries: Sequence[Any], **_: Any) -> dict[str, Any]:
        for entry in Entries:  # only the bridge's and the verbs'
            self._add(entry["MessageBody"], entry.get("DelaySeconds", 0))
        return {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in Entries]}

    def _add(self, body: str, delay_s: float) -> None:
        if self.model is None:
            raise RuntimeError("a task was published outside of a model")
        envelope = json.loads(body)
        headers = envelope["headers"]
        self.model.tasks.append(TaskMessage(headers["task"], headers, envelope["body"], self.model.clock + delay_s))

    @contextmanager
    def _stop(self, operation: str, what: str) -> Iterator[None]:
        attempt = None if self.model is None else getattr(self.model.here, "attempt", None)
        order = "go" if attempt is None else attempt.halt(f"{operation} {what}")
        if order == "fail":
            raise error(operation, "InternalError", 500)
        yield
        if order == "lose":
            raise EndpointConnectionError(endpoint_url="sqs")


#: One for all tests: the app's connections keep it.
TASK_QUEUE = TaskQueue()


class PipelineModel:
    """``start`` first and ``close`` at the end; ``clock`` is in seconds."""

    def __init__(self, patch: Patch, *, sequencers: bool = True, env: Mapping[str, str] | None = None) -> None:
        self.clock = 1000.0
        self.s3 = S3Model(INPUT, OUTPUT, now=lambda: EPOCH + timedelta(seconds=self.clock))
        self.s3.stop = self._s3_stop
        self.settings = Settings.from_env(
            {"INPUT_BUCKET": INPUT, "OUTPUT_BUCKET": OUTPUT, "MAX_RETRIES": "2", **(env or {})}
        )
        self.events = EventQueue()
        self.tasks: list[TaskMessage] = []
        self.dead: list[TaskMessage] = []
        self.is_outage = False  # S3 fails for everybody
        self.attempts: list[Attempt] = []
        self.past_events: list[str] = []
        self.here = threading.local()
        self._sequencers = sequencers
        self._serial = 0
        self.serials = count()
        self._tracers: dict[str, Callable[..., Any]] = {}
        patch.setattr(app, "settings", self.settings)
        patch.setattr("pipeline.aws.clients.s3", lambda: self.s3)
        patch.setattr("tasks.convergence.monotonic", lambda: self.clock)
        patch.setattr("bridge.failed_keys.monotonic", lambda: self.clock)
        patch.setattr("tasks.base.now", lambda: self.clock)
        TASK_QUEUE.model = self
        self._warm = app.producer_or_acquire
        patch.setattr("pipeline.aws.clients.sqs", lambda **_: TASK_QUEUE)
        patch.setattr(app, "producer_or_acquire", self._producer)
        signals.task_failure.connect(carry, weak=False)
        warnings.filterwarnings("ignore", message="Exception raised outside body")  # Celery's, of a publish that failed
        app.loader.import_default_modules()
        app.finalize()
        failed_keys = FailedKeys(self.settings)
        self._bridge = Bridge(
            self.settings,
            self.events,  # type: ignore[arg-type]
            lambda due: assign(due, app=app, check_existing=failed_keys.may_have_failed),
        )

    # What people do.

    def upload(self, key: str, data: bytes) -> Version:
        version = self.s3.put(INPUT, key, data)
        self._tell("ObjectCreated:Put", key, version.version_id, version.etag)
        return version

    def delete(self, key: str) -> None:
        self._tell("ObjectRemoved:DeleteMarkerCreated", key, self.s3.remove(INPUT, key))

    def undo(self, key: str) -> None:
        """Deletes the newest version, or delete marker, for good: the one before is the current one again."""
        version = self.s3.buckets[INPUT].pop(key)
        self._tell("ObjectRemoved:Delete", key, version.version_id)

    def _tell(self, name: str, key: str, version_id: str, etag: str | None = None) -> None:
        self._serial += 1
        item = {"key": quote_plus(key), "versionId": version_id}
        if etag is not None:
            item["eTag"] = etag
        if self._sequencers:
            item["sequencer"] = f"{self._serial:04X}" + "A0" * (self._serial % 3)
        record = {
            "eventName": name,
            "eventTime": "2026-01-01T00:00:00Z",
            "s3": {"bucket": {"name": INPUT}, "object": item},
        }
        body = json.dumps({"Records": [record]})
        self.events.bodies.append(body)
        self.past_events.append(body)

    # What machines do.

    def bridge(self, index: int, *, crash: bool = False) -> None:
        """The bridge receives one event; ``crash``: it ends before it has deleted it."""
        self.events.chosen, self.events.crash_before_delete = index, crash
        self._bridge.step()

    def visible(self) -> list[TaskMessage]:
        return [message for message in self.tasks if message.visible_at <= self.clock and message.holder is None]

    def receive(self, message: TaskMessage) -> Attempt | None:
        """A worker gets a message; one that was received too often goes to the dead-letter queue instead."""
        if message.receives >= MAX_RECEIVES:
            self.tasks.remove(message)
            self.dead.append(message)
            return None
        message.receives += 1
        attempt = Attempt(self, message)
        message.holder = attempt
        self.attempts.append(attempt)
        return attempt

    def go(self, attempt: Attempt, order: str = "go") -> None:
        attempt.go(order)
        if attempt.finished:
            self.attempts.remove(attempt)
            if attempt.message.holder is attempt:
                attempt.message.holder = None
            if attempt.error is not None:
                raise attempt.error

    def expire_visibility(self, attempt: Attempt) -> None:
        """Its message is visible again, though it is still at work."""
        if attempt.message.holder is attempt:
            attempt.message.holder = None

    def execute(self, attempt: Attempt) -> None:
        """Runs a message as a worker does; in the attempt's thread."""
        message = attempt.message
        decision, _ = self.run(message)
        attempt.halt(f"settle the message: {decision.effect.value}")
        if message.holder is attempt and message in self.tasks:  # else the receipt handle is of an earlier receive
            self._settle(message, decision)

    def run(self, message: TaskMessage) -> tuple[Decision, BaseException | None]:
        """Runs the task as a pool process does; what its worker decides then, and what was raised."""
        args, kwargs, embed = json.loads(message.body)
        if message.name not in self._tracers:
            self._tracers[message.name] = build_tracer(message.name, app.tasks[message.name], app=app, hostname="model")
        request = message.headers | embed | {"delivery_info": {"redelivered": message.receives > 1}, "is_eager": False}
        info: Any
        try:
            result, info, _, shown = self._tracers[message.name](message.headers["id"], args, kwargs, request)
        except Crashed:
            raise
        except BaseException:  # the pool tells the worker
            result = info = ExceptionInfo()
        return (on_raise(result), raised(result)) if info else (on_return(shown), None)

    def _settle(self, message: TaskMessage, decision: Decision) -> None:
        """As a worker does."""
        if decision.effect is Effect.RELEASE:
            message.visible_at = self.clock + 2.0**message.receives
            return
        self.tasks.remove(message)
        if decision.effect is Effect.DEAD_LETTER:
            self.dead.append(message)
        elif decision.effect is Effect.DEFER:
            headers = dict(message.headers)
            if decision.service is Service.FAILS:
                headers |= Patience.of(headers).after(self.clock, costs_a_try=False)
            due = self.clock + decision.delay_s
            self.tasks.append(replace(message, headers=headers, visible_at=due, receives=0, holder=None))

    def _producer(self, producer: Any = None) -> Any:
        """A worker's processes have each their own; every other one of them is cold."""
        attempt = getattr(self.here, "attempt", None)
        if attempt is None or attempt.serial % 2:
            return self._warm(producer)
        return nullcontext(attempt.producer())

    @contextmanager
    def _s3_stop(self, operation: str, key: str) -> Iterator[None]:
        attempt = getattr(self.here, "attempt", None)
        order = "go" if attempt is None else attempt.halt(f"{operation} {key}")
        if order == "fail" or (attempt is not None and self.is_outage):
            raise error(operation, "SlowDown", 503)
        yield
        if order == "lose":
            raise EndpointConnectionError(endpoint_url="s3")

    # Until nothing is left to do.

    def settle(self) -> None:
        """Lets everything that is under way end; redrives dead letters, as an operator would."""
        self.is_outage = False
        for attempt in list(self.attempts):
            while not attempt.finished:
                self.go(attempt)
        self.settle_others(None)

    def settle_others(self, stalled: Attempt | None) -> None:
        """As ``settle``, but for one that stays where it is, and its message with it."""
        for _ in range(500):
            for _ in list(self.events.bodies):
                self.bridge(0)
            self.tasks += self.dead
            for message in self.dead:
                message.receives = 0
            self.dead = []
            free = [message for message in self.tasks if stalled is None or message.holder is not stalled]
            if not free:
                return
            message = min(free, key=lambda each: each.visible_at)
            self.clock = max(self.clock, message.visible_at)
            attempt = self.receive(message)
            while attempt is not None and not attempt.finished:
                self.go(attempt)
        raise AssertionError("it never comes to rest")

    def close(self) -> None:
        for attempt in list(self.attempts):
            while not attempt.finished:
                attempt.go("crash")

    def stored(self) -> dict[str, Version]:
        bucket = self.s3.buckets[OUTPUT]
        return {key: version for key in bucket.existing() if (version := bucket.current(key)) is not None}
