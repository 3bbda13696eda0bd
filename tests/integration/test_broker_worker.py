"""A real worker on a server that counts: poison, delays, retries, batches, scale-in protection, health."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.core.role import Role
from pipeline.sqs.health import Unhealthy, check, heartbeat_path
from tests.support.stage import Stage, aws_server, stage
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.worker import Worker

__all__ = ["aws_server", "stage"]


GRANTED = (200, {"protection": {"ProtectionEnabled": True, "ExpirationDate": "2026-01-01T00:00:00Z"}})
STATE_PATH = "/api/abc/task-protection/v1/state"


def test_a_day_in_the_life_of_a_worker(stage: Stage) -> None:
    """One worker for all of it, because starting one takes longer than the rest."""
    with (
        ecs_agent([GRANTED]) as (uri, calls),
        stage.worker("-c", "1", ECS_AGENT_URI=uri, SCALE_IN_PROTECTION_MIN="20", POLL_WAIT_S="1") as worker,
    ):
        worker.wait_ready()
        poison_goes_to_the_dead_letter_queue_with_its_reason(stage, worker)
        delays_and_retries_wait_in_sqs(stage, worker)
        a_long_task_is_protected_and_healthy(stage, worker, calls)
        stage.send("say", "said", "by a task", 3)
        wait_until(lambda: worker.done()["said"], "a task prints")
        worker.send_signal()
        assert worker.wait_exit() == 0
        all_lines_are_json(worker)
        assert calls[-1]["ProtectionEnabled"] is False
        assert not heartbeat_path(stage.folder, Role.WORKER).exists()


def all_lines_are_json(worker: Worker) -> None:
    """Celery's warning of a superuser's worker too, which comes before its logs are set up."""
    lines = [json.loads(line) for line in worker.log().splitlines() if line]
    printed = [line["message"] for line in lines if line.get("logger") == "printed"]
    assert printed == ["said by a task 3", "to standard error"]
    assert os.geteuid() or [line for line in lines if "superuser" in line["message"]]


def poison_goes_to_the_dead_letter_queue_with_its_reason(stage: Stage, worker: Worker) -> None:
    stage.send_raw("not even JSON")
    stage.send_raw(json.dumps({"Records": []}))
    stage.send_raw(json.dumps({"properties": 5}))
    trace = {"traceparent": {"DataType": "String", "StringValue": "00-4bf9"}}
    stage.app.send_task("tiny.unknown", ["x"], message_attributes=trace)
    stage.send("note")
    stage.send("note", "a", "b")
    stage.send("refuse", "the argument names no object")
    stage.app.send_task("celery.chord_unlock", ["group", None])
    stage.app.send_task("celery.backend_cleanup")
    stage.send("note", "healthy")
    wait_until(lambda: worker.done()["healthy"], "the worker lives on")
    # The one that never becomes due has waited for SQS's longest delay by then.
    stage.send_raw(json.dumps(task_message("never", eta=datetime.now(UTC) + timedelta(days=3000, seconds=900))))
    wait_until(lambda: stage.server.depth(stage.dead_letters)[0] == 10, "ten dead letters")
    wait_until(stage.empty, "nothing is left behind")
    told = [letter["MessageAttributes"] for letter in stage.dead()]
    reasons = sorted(attributes["reason"]["StringValue"] for attributes in told)
    assert [attributes for attributes in told if "traceparent" in attributes] == [
        trace | {"reason": {"DataType": "String", "StringValue": "unknown task tiny.unknown"}}
    ]
    assert reasons.pop(0) == "due in 3000.0 days, more than MAX_DELAY_DAYS=7"
    assert reasons[0].startswith("not a Celery message: AttributeError")
    assert reasons[1:5] == [
        "not a Celery message: it names no task",
        "not a Celery message: it names no task",
        "rejected by tiny.refuse: the argument names no object",
        "tiny.note does not take these arguments: note() missing 1 required positional argument: 'name'",
    ]
    assert reasons[5].startswith("tiny.note does not take these arguments")
    assert reasons[6:] == [
        "unknown task celery.backend_cleanup: it is Celery's own, and not in BUILTIN_TASKS",
        "unknown task celery.chord_unlock: it is Celery's own, and not in BUILTIN_TASKS",
        "unknown task tiny.unknown",
    ]
    assert stage.count("ReceiveMessage") < 30  # none of it goes round
    # Each is told once, and neither with what is in it nor with a traceback.
    assert worker.log().count("is in the dead-letter queue now") == 10
    assert worker.log().count("Received ") == 0
    assert worker.log().count("Traceback") == worker.log().count("could not be handled") == 1


def delays_and_retries_wait_in_sqs(stage: Stage, worker: Worker) -> None:
    stage.send("retry_once", "retried", 2)
    stage.send("note", "counted", countdown=3)
    stage.send("note", "timed", eta=datetime.now(UTC) + timedelta(seconds=3))
    wait_until(lambda: stage.depth() == (0, 0, 3), "all three wait in SQS, none in the worker")
    late = ("retried", "counted", "timed")
    assert not any(worker.done()[name] for name in late)
    wait_until(lambda: all(worker.done()[name] for name in late), "all are done in the end")
    wait_until(stage.empty, "nothing is left behind")
    # Longer than SQS can: it comes after 15 minutes, as this one comes now, and is sent on with the rest.
    stage.send_raw(json.dumps(task_message("early", eta=datetime.now(UTC) + timedelta(seconds=2000))))
    wait_until(lambda: stage.depth() == (0, 0, 1), "it is delayed again, not kept by the worker")
    assert "early" not in worker.done()


def a_long_task_is_protected_and_healthy(stage: Stage, worker: Worker, calls: list[dict[str, Any]]) -> None:
    heartbeat = heartbeat_path(stage.folder, Role.WORKER)
    stage.send("hold", "long", str(stage.folder / "release"))
    wait_until(lambda: worker.started()["long"], "a long task runs")
    wait_until(lambda: calls and calls[-1]["ProtectionEnabled"], "the worker asks for protection")
    assert calls[-1] == {"path": STATE_PATH, "ProtectionEnabled": True, "ExpiresInMinutes": 20}
    first = heartbeat.stat().st_mtime
    wait_until(lambda: heartbeat.stat().st_mtime > first, "its heart beats")
    assert check(stage.folder, Role.WORKER, DEADLINE_S) < DEADLINE_S
    worker.send_signal(signal.SIGSTOP)  # a loop that hangs
    wait_until(lambda: is_unhealthy(stage, stale_s=3), "that is found")
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: not is_unhealthy(stage, stale_s=3), "it is well again")
    (stage.folder / "release").touch()
    wait_until(lambda: worker.done()["long"], "the long task is done")


def task_message(name: str, eta: datetime) -> dict[str, Any]:
    return {
        "body": json.dumps([[name], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"eta": eta.isoformat(), "task": "tiny.note", "id": "1"},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "tasks"}, "body_encoding": "utf-8"},
    }


def test_a_backlog_takes_a_receive_and_a_delete_for_ten_tasks(stage: Stage) -> None:
    stage.send_many("nothing", *[()] * 200)
    assert stage.count("SendMessageBatch") == 20
    with stage.worker("-c", "2") as worker:
        wait_until(stage.empty, "all are done")
        worker.send_signal()
        assert worker.wait_exit() == 0
    received = stage.count("ReceiveMessage")
    deleted = stage.count("DeleteMessageBatch")
    assert received <= 40
    assert deleted <= 40
    assert stage.count("DeleteMessage") == 0


def test_a_queue_without_dead_letters_is_refused(stage: Stage) -> None:
    client = stage.server.client()
    url = client.get_queue_url(QueueName=stage.queue)["QueueUrl"]
    client.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
    with stage.worker("-c", "1") as worker:
        assert worker.wait_exit(30) != 0
        assert f"Unrecoverable error: queue {stage.queue} has no dead-letter queue" in worker.log()
        assert "Traceback" not in worker.log()


@contextmanager
def ecs_agent(answers: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A stand-in for the container agent's endpoint; answers in turn, the last one for ever."""
    calls: list[dict[str, Any]] = []

    class Agent(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls.append({"path": self.path, **body})
            status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api/abc", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((200, {"failure": {"Arn": "a", "Reason": "DEPLOYMENT_BLOCKED", "Detail": None}}), "DEPLOYMENT_BLOCKED"),
        ((400, {"error": {"Code": "AccessDeniedException", "Message": "not authorized"}}), "not authorized"),
        ((500, {"error": {"Code": "ServerException", "Message": "try later"}}), "try later"),
    ],
)
def test_errors_of_the_agent_are_logged_and_cost_no_task(
    answer: tuple[int, dict[str, Any]], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    from pipeline.sqs.worker.scale_in_protection import AgentEndpoint

    with ecs_agent([answer]) as (uri, calls):
        assert AgentEndpoint(uri, 15).put(True) is False
        assert len(calls) == 1
    assert text in caplog.text
    assert AgentEndpoint(uri, 15).put(True) is False  # nobody answers now


def is_unhealthy(stage: Stage, stale_s: float) -> bool:
    try:
        check(stage.folder, Role.WORKER, stale_s)
    except Unhealthy:
        return True
    return False
