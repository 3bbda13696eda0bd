"""Dead letters, as a person handles them: on a server that can move messages by itself, and on one that can't."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.core.errors import TransientError
from pipeline.core.settings import Settings
from pipeline.operations.deadletters import queue, redrive
from pipeline.operations.deadletters.queue import DeadLetterQueue
from pipeline.operations.deadletters.redrive import Pace
from tests.support.aws_process import AwsServer
from tests.support.queues import depth, take_all
from tests.support.stage import aws_server  # noqa: F401 - a fixture
from tests.support.waiting import wait_until
from tests.unit.test_dead_letters import task

PREFIX = "dead-"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.operations.deadletters.queue.POLL_S", 0)
    monkeypatch.setattr("pipeline.operations.deadletters.redrive.LOOK_S", 0)


@pytest.fixture
def server(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:  # noqa: F811
    """SQS that can move messages, with the four queues."""
    for name, value in (aws_server.env | {"QUEUE_PREFIX": PREFIX}).items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    for name in ("events", "tasks"):
        aws_server.make_queue(PREFIX + name)
    aws_server.reset()
    yield aws_server
    aws_server.repair()
    for name in ("events", "tasks", "events-dlq", "tasks-dlq"):
        take_all(PREFIX + name)
        clients.sqs().delete_queue(QueueUrl=url(name))
    aws_server.forget_deletions()
    clients.forget_clients()


def url(name: str, prefix: str = PREFIX) -> str:
    return clients.sqs().get_queue_url(QueueName=prefix + name)["QueueUrl"]


def dead_letter(name: str, body: str, reason: str | None = None, prefix: str = PREFIX, **attributes: str) -> str:
    named = attributes | ({} if reason is None else {"reason": reason})
    return clients.sqs().send_message(
        QueueUrl=url(f"{name}-dlq", prefix),
        MessageBody=body,
        MessageAttributes={key: {"DataType": "String", "StringValue": value} for key, value in named.items()},
    )["MessageId"]


def fill(prefix: str = PREFIX) -> None:
    for n in range(13):
        dead_letter("tasks", task(f"s3://in/{n}.jpg"), prefix=prefix)
    for n in range(4):
        dead_letter("tasks", task(f"s3://in/x{n}.jpg"), f"s3://in/x{n}.jpg: could not be stored", prefix)
    for n in range(3):
        dead_letter("events", "{" * (n + 1), f"the message is not JSON: (char {n})", prefix)


def invoke(*arguments: str, answer: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["deadletters", *arguments], input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def ready(name: str) -> tuple[int, int]:
    return depth(PREFIX + name)


@pytest.mark.usefixtures("server")
def test_they_are_counted_by_what_they_have_in_common() -> None:
    fill()
    status, out, err = invoke("list")
    assert status == 0
    rows = sorted(line.split("\t") for line in out.splitlines())
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("events", "event", "3", "the message is not JSON: (char N)"),
        ("tasks", "tasks.resize", "13", rows[1][4]),
        ("tasks", "tasks.resize", "4", "<object>: could not be stored"),
    ]
    assert rows[1][4].startswith("maxReceiveCount reached")
    assert rows[1][5].startswith("s3://in/")
    assert err == "20 dead letters.\n"


@pytest.mark.usefixtures("server")
def test_looking_changes_nothing() -> None:
    fill()
    for arguments in (["list"], ["list", "--json"], ["show"], ["export"]):
        assert invoke(*arguments)[0] == 0
        assert (ready("tasks-dlq"), ready("events-dlq")) == ((17, 0), (3, 0))


@pytest.mark.usefixtures("server")
def test_for_programs() -> None:
    fill()
    _, out, _ = invoke("list", "--json", "--queue", "tasks", "--only", "COULD NOT be stored")
    (group,) = json.loads(out)
    assert (group["queue"], group["task"], group["count"]) == ("tasks", "tasks.resize", 4)
    _, out, _ = invoke("export")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 20
    assert {line["queue"] for line in lines} == {"events", "tasks"}
    assert all(line["body"] for line in lines)


@pytest.mark.usefixtures("server")
def test_a_limit_says_of_each_queue_how_many_there_are_beyond_it() -> None:
    fill()
    for verb in ("list", "export", "show"):
        status, _, err = invoke(verb, "--limit", "5")
        assert status == 3
        assert "About 12 dead letters of queue dead-tasks-dlq were not read" in err
        assert "dead-events-dlq" not in err  # it has three
        assert ready("tasks-dlq") == (17, 0)
    assert invoke("list", "--limit", "17")[0] == 0  # 20 in all
    status, _, err = invoke("redrive", "--limit", "5")
    assert status == 3
    assert err.splitlines()[:2] == [
        "3 dead letters sent back to queue events.",
        "5 dead letters sent back to queue tasks.",
    ]
    assert "About 12 dead letters of queue dead-tasks-dlq" in err


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--json"], ["export"], ["redrive"], ["redrive", "--only", "e"], ["purge", "--yes"]],
    ids=" ".join,
)
def test_what_somebody_else_has_received_is_said_not_to_have_been_read(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline.operations.deadletters.queue.QUIET_S", 0)
    monkeypatch.setattr("pipeline.operations.deadletters.redrive.QUIET_S", 0)
    fill()
    clients.sqs().receive_message(QueueUrl=url("tasks-dlq"), MaxNumberOfMessages=10, VisibilityTimeout=600)
    more = ["--to", str(tmp_path / "dead.jsonl")] if "purge" in arguments else []
    status, _, err = invoke(*arguments, *more)
    assert status == 3
    assert "About 10 dead letters of queue dead-tasks-dlq were not read" in err
    assert ready("tasks-dlq")[1] == 10


class Script:
    """An SQS whose receives bring these messages, one list after the other, then nothing; ``count``: what it counts."""

    def __init__(self, *polls: Sequence[str], count: int) -> None:
        self.polls = list(polls)
        self.count = count
        self.asked = 0
        self.released: dict[str, str] = {}

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        return {"QueueUrl": "http://sqs/dead-tasks-dlq"}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessages": str(self.count)}}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        self.asked += 1
        found = self.polls.pop(0) if self.polls else []
        return {"Messages": [{"MessageId": n, "ReceiptHandle": f"{n} {self.asked}", "Body": "{}"} for n in found]}

    def change_message_visibility_batch(self, Entries: list[dict[str, Any]], **_: Any) -> None:  # noqa: N803
        self.released |= {entry["ReceiptHandle"].partition(" ")[0]: entry["ReceiptHandle"] for entry in Entries}


@pytest.mark.parametrize(
    ("polls", "count", "found", "asked"),
    [
        ((["a", "b"], ["a", "b"], ["b"], ["c"]), 3, "abc", 6),  # what was seen is visible again
        ((["a"], [], [], [], ["b"]), 2, "ab", 7),  # SQS counts another, which comes late
        ((["a"], [], ["b"], []), 0, "ab", 5),  # SQS counts late
        ((), 0, "", 2),
    ],
)
def test_reading_ends_when_all_was_seen(
    polls: Sequence[Sequence[str]], count: int, found: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(*polls, count=count)
    monkeypatch.setattr("pipeline.aws.clients.sqs", lambda: script)
    with DeadLetterQueue(Settings.from_env({}), "tasks") as dead:
        assert "".join(letter.message_id for letter in dead.receive()) == found
        assert script.asked == asked
        assert dead.unseen == 0
    assert set(script.released) == set(found)
    if "b" in found and len(polls[0]) == 2:
        assert script.released["b"] == "b 3"  # the newest receipt handle: an older one may not count any more


def test_reading_ends_though_what_sqs_counts_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr("pipeline.operations.deadletters.queue.time.monotonic", lambda: next(clock))
    script = Script(["a"], *[["a"]] * 100, count=9)
    monkeypatch.setattr("pipeline.aws.clients.sqs", lambda: script)
    with DeadLetterQueue(Settings.from_env({}), "tasks") as dead:
        assert [letter.message_id for letter in dead.receive()] == ["a"]
        assert script.asked == 1 + queue.QUIET_S / 5
        assert dead.unseen == 8


@pytest.mark.parametrize("command", ["list", "redrive --only x"])
def test_what_comes_after_the_reading_was_not_missed_by_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that was sent back comes again, for example, just when the command ends."""
    script = Script(count=0)

    def count(**_: Any) -> dict[str, Any]:
        here, script.count = script.count, min(script.asked, 1)
        return {"Attributes": {"ApproximateNumberOfMessages": str(here)}}

    monkeypatch.setattr(script, "get_queue_attributes", count)
    monkeypatch.setattr("pipeline.aws.clients.sqs", lambda: script)
    status, _, err = invoke(*command.split(), "--queue", "tasks")
    assert (status, script.count) == (0, 1), err


@pytest.mark.usefixtures("server")
def test_one_is_shown_whole() -> None:
    fill()
    message_id = dead_letter("tasks", task({"bucket": "in", "key": "ü.jpg"}), "because")
    status, out, _ = invoke("show", message_id[:13])
    shown = json.loads(out)
    assert (status, shown["message_id"], shown["reason"]) == (0, message_id, "because")
    assert shown["objects"] == ["s3://in/ü.jpg"]
    assert shown["body"]["body"][0] == [{"bucket": "in", "key": "ü.jpg"}]
    assert invoke("show", "nothing-begins-so")[0] == 1


def test_sqs_sends_all_of_them_back_by_itself(server: AwsServer) -> None:
    fill()
    status, _, err = invoke("redrive")
    assert status == 0
    assert err == "3 dead letters sent back to queue events.\n17 dead letters sent back to queue tasks.\n"
    assert [ready(name)[0] for name in ("events", "tasks", "events-dlq", "tasks-dlq")] == [3, 17, 0, 0]
    assert server.counts()[f"ReceiveMessage {PREFIX}tasks-dlq"] == 0


def test_some_of_them_are_sent_back_one_by_one_without_their_reason(server: AwsServer) -> None:
    fill()
    dead_letter("tasks", task("s3://in/y.jpg"), "could not be stored", other="kept")
    status, _, err = invoke("redrive", "--only", "could not be stored")
    assert status == 0
    assert err == "5 dead letters sent back to queue tasks.\n"
    assert (ready("tasks-dlq"), ready("events-dlq")) == ((13, 0), (3, 0))
    sent = take_all(f"{PREFIX}tasks")
    assert len(sent) == 5
    assert [set(each.get("MessageAttributes", {})) for each in sent if "y.jpg" in each["Body"]] == [{"other"}]
    assert all("reason" not in each.get("MessageAttributes", {}) for each in sent)
    assert server.counts()[f"StartMessageMoveTask {PREFIX}tasks-dlq"] == 0


@pytest.mark.usefixtures("server")
def test_there_is_nothing_to_send_back() -> None:
    assert invoke("redrive", "--only", "x")[2] == "Nothing to send back.\n"


def test_where_sqs_can_t_move_they_are_sent_one_by_one(stack: Settings) -> None:
    """On the other server, which has no message move tasks."""
    fill(stack.queue_prefix)
    take_all("local-events")
    status, _, err = invoke("redrive")
    assert status == 0
    assert err == "3 dead letters sent back to queue events.\n17 dead letters sent back to queue tasks.\n"
    assert len(take_all("local-tasks")) == 17
    assert [depth(f"local-{name}-dlq") for name in ("events", "tasks")] == [(0, 0), (0, 0)]


def test_what_sqs_refuses_stays(server: AwsServer) -> None:
    fill()
    server.fault("SendMessageBatch", kind="first_entry", code="Throttled", status=400)
    status, _, err = invoke("redrive", "--queue", "tasks", "--limit", "100")
    assert status == 1
    assert "1 dead letter stayed in queue dead-tasks-dlq: SQS answered Throttled" in err
    visible, hidden = ready("tasks-dlq")
    assert (visible + hidden, ready("tasks")[0]) == (8, 9)
    assert hidden == 0, "what was not sent is given back"


def test_it_is_sent_before_it_is_deleted(server: AwsServer) -> None:
    """When the delete fails there are two, and never none."""
    dead_letter("tasks", task("s3://in/a.jpg"), "x")
    server.fault("DeleteMessageBatch", status=400, code="InternalError", times=9)
    assert invoke("redrive", "--only", "x")[0] == 1
    assert (ready("tasks")[0], sum(ready("tasks-dlq"))) == (1, 1)


def test_a_stop_cancels_what_sqs_has_left(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    dead = DeadLetterQueue(Settings.from_env(), "tasks")
    looks = []

    def stop(moved: int) -> None:
        looks.append(moved)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        redrive.move(dead, url("tasks"), 1, stop)
    assert looks == [0]
    assert server.counts()["CancelMessageMoveTask "] == 1
    assert ready("tasks-dlq")[0] == 17


def test_a_move_that_sqs_gives_up_is_an_error(server: AwsServer) -> None:
    dead = DeadLetterQueue(Settings.from_env(), "tasks")
    started = threading.Event()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            redrive.move(dead, url("tasks"), 1, lambda _: started.set())
        except TransientError as exc:
            caught.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    arn = clients.sqs().get_queue_attributes(QueueUrl=url("tasks-dlq"), AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    (task_,) = clients.sqs().list_message_move_tasks(SourceArn=arn)["Results"]
    clients.sqs().cancel_message_move_task(TaskHandle=task_["TaskHandle"])
    wait_until(lambda: not thread.is_alive(), "the end of the move")
    assert "SQS ended its move as cancelled" in str(caught[0])


def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        clock[0] += seconds

    monkeypatch.setattr("pipeline.operations.deadletters.redrive.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("pipeline.operations.deadletters.redrive.time.sleep", sleep)
    pace = Pace(20)
    for _ in range(3):
        pace.wait(10)
    assert slept == [0.0, 0.5, 0.5]


@pytest.mark.usefixtures("server")
def test_purging_exports_and_asks_first(tmp_path: Path) -> None:
    fill()
    file = tmp_path / "dead.jsonl"
    status, _, err = invoke("purge", "--only", "not JSON", "--to", str(file), answer="n\n")
    assert status == 1
    assert f"3 dead letters exported to {file}." in err
    assert len(file.read_text().splitlines()) == 3
    assert ready("events-dlq") == (3, 0)
    status, _, err = invoke("purge", "--only", "not JSON", "--to", str(file))
    assert status == 1
    assert "exists already" in err
    assert ready("events-dlq") == (3, 0)
    file.unlink()
    assert invoke("purge", "--only", "not JSON", "--to", str(file), "--yes")[0] == 0
    assert (ready("events-dlq"), ready("tasks-dlq")) == ((0, 0), (17, 0))


@pytest.mark.usefixtures("server")
def test_an_export_to_a_file(tmp_path: Path) -> None:
    fill()
    file = tmp_path / "dead.jsonl"
    status, out, err = invoke("export", "--queue", "events", "--to", str(file))
    assert (status, out, err) == (0, "", "3 dead letters exported.\n")
    assert {json.loads(line)["reason"] for line in file.read_text().splitlines()} == {
        f"the message is not JSON: (char {n})" for n in range(3)
    }


@dataclass
class Case:
    fault: dict[str, Any]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Case({"action": "ReceiveMessage", "code": "AccessDenied", "status": 403}, "need sqs:ReceiveMessage on it"),
        Case({"action": "GetQueueUrl", "code": "QueueDoesNotExist", "status": 400}, "does not exist: deploy the stack"),
    ],
    ids=lambda case: case.says,
)
def test_errors_are_one_plain_line(server: AwsServer, case: Case) -> None:
    server.fault(case.fault.pop("action"), times=9, **case.fault)
    status, out, err = invoke("list")
    assert (status, out) == (1, "")
    assert case.says in err
    assert len(err.splitlines()) == 1


def test_a_denied_move_is_not_taken_for_a_missing_feature(server: AwsServer) -> None:
    fill()
    server.fault("StartMessageMoveTask", status=403, code="AccessDenied", times=9)
    status, _, err = invoke("redrive", "--queue", "tasks")
    assert status == 1
    assert "need sqs:StartMessageMoveTask on it" in err
    assert ready("tasks-dlq")[0] == 17
