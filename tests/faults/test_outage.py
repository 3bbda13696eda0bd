"""A real bridge and real workers while a service fails for everybody: it costs time, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.aws_process import S3Proxy
from tests.support.chain import Chain, chain, picture
from tests.support.waiting import wait_until

UPLOADS = 12
#: More than it takes to close the gate.
DENIED = 8
FAULTS: dict[str, dict[str, Any]] = {
    "reading": {"action": "GET", "queue": "input", "status": 503, "code": "SlowDown"},
    "policy": {"action": "*", "status": 403, "code": "AccessDenied"},
    "credentials": {"action": "*", "status": 403, "code": "ExpiredToken"},
}
#: The keys that the temporary credentials have, one after the other.
OLD, NEW = "temporary-1", "temporary-2"


class Log:
    """What a process logs from now on."""

    def __init__(self, made: Chain, name: str = "worker") -> None:
        self._made, self._name = made, name
        self._before = len(made.log(name))

    def lines(self, action: str) -> list[dict[str, Any]]:
        text = self._made.log(self._name)[self._before :]
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in found if line.get("action") == action]


def upload(made: Chain, name: str, count: int = UPLOADS) -> set[str]:
    keys = [f"{name}-{number}.jpg" for number in range(count)]
    made.notify([made.upload(key, picture(number), 1) for number, key in enumerate(keys)])
    return set(keys)


def start_worker(made: Chain, name: str = "worker", processes: int = 2, **env: str) -> None:
    options = ("-c", str(processes), "-n", f"{name}@test")
    made.start(name, "-m", "celery", "-A", "tests.support.impatient", "worker", *options, env=env)


def is_done(made: Chain, keys: set[str]) -> bool:
    return keys <= set(made.outputs("thumbs")) and made.idle()


def test_an_outage_of_s3_costs_time_and_nothing_else(tmp_path: Path) -> None:
    """One bridge and one worker for all of it, because starting them takes longer than most of the rest."""
    with chain(tmp_path, s3_proxy=True, MAX_RETRIES="1", RETRY_BACKOFF_S="1", S3_CLIENT="auto") as (made, proxy):
        assert proxy is not None
        made.start_bridge()
        start_worker(made)
        for name, fault in FAULTS.items():
            it_waits_for_s3_and_then_does_all(made, proxy, name, fault)
        objects_that_are_denied_hold_up_no_good_ones(made, proxy)
        it_ends_at_once_while_it_waits(made, proxy)


def it_waits_for_s3_and_then_does_all(made: Chain, proxy: S3Proxy, name: str, fault: dict[str, Any]) -> None:
    log = Log(made)
    proxy.fault(**fault, times=-1)
    keys = upload(made, name)
    wait_until(lambda: log.lines("service_unavailable"), f"{name}: the worker says that it waits")
    wait_until(lambda: made.server.depth(f"{made.prefix}tasks")[1] == 0, "it holds nothing")
    before = made.server.counts()[f"SendMessage {made.prefix}tasks"]
    wait_until(lambda: made.server.counts()[f"SendMessage {made.prefix}tasks"] >= before + 2, "two probes failed")
    proxy.repair()
    wait_until(lambda: is_done(made, keys), f"{name}: all is done")
    assert made.dead() == 0
    assert made.outputs("failed") == {}
    assert len(log.lines("service_unavailable")) == len(log.lines("service_recovered")) == 1
    assert len(log.lines("deferred")) < 8
    assert log.lines("released") == []


def objects_that_are_denied_hold_up_no_good_ones(made: Chain, proxy: S3Proxy) -> None:
    """They are in front, and each ends as its own record."""
    log = Log(made)
    proxy.fault(action="GET", queue="denied", status=403, code="AccessDenied", times=-1)
    denied = upload(made, "denied", DENIED)
    good = upload(made, "good", 3)
    wait_until(lambda: good <= set(made.outputs("thumbs")), "the good ones are done")
    wait_until(lambda: len(made.outputs("failed")) == len(denied), "the others have records")
    wait_until(made.idle, "nothing is left")
    assert made.dead() == 0
    proxy.repair()
    assert log.lines("service_unavailable") == []


def it_ends_at_once_while_it_waits(made: Chain, proxy: S3Proxy) -> None:
    log = Log(made)
    proxy.fault(action="*", status=403, code="AccessDenied", times=-1)
    upload(made, "last")
    wait_until(lambda: log.lines("service_unavailable"), "the worker says that it waits")
    worker = made.processes["worker"]
    worker.terminate()
    wait_until(lambda: worker.poll() is not None, "it has ended")
    assert worker.returncode == 0
    wait_until(lambda: made.server.depth(f"{made.prefix}events") == (0, 0, 0), "the bridge has handed on all")
    waiting, in_flight, delayed = made.server.depth(f"{made.prefix}tasks")
    assert (waiting + delayed, in_flight) == (UPLOADS, 0)
    assert made.dead() == 0


def test_half_of_a_fleet_and_sqs_fail_and_nothing_is_lost(tmp_path: Path) -> None:
    """No object may have a second try, so a try that an outage used up would be a failure record."""
    credentials = Credentials(tmp_path)
    settings = {"MAX_RETRIES": "0", "RETRY_BACKOFF_S": "1", "MESSAGE_VISIBILITY_TIMEOUT_S": "5"}
    with chain(tmp_path, **settings, **credentials.variables) as (made, _):
        made.start_bridge()
        half_of_the_fleet_cannot_reach_s3(made)
        sqs_fails_while_work_is_in_flight(made)
        credentials_of_sqs_expire_and_are_renewed(made, credentials)
        assert made.outputs("failed") == {}
        assert made.dead() == 0


def half_of_the_fleet_cannot_reach_s3(made: Chain) -> None:
    """The half that fails is there first, and takes what it can."""
    start_worker(made, "cut-off", 1, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")
    log = Log(made, "cut-off")
    keys = upload(made, "half")
    wait_until(lambda: log.lines("service_unavailable"), "it says that it waits")
    assert made.outputs("thumbs") == {}
    start_worker(made)
    wait_until(lambda: is_done(made, keys), "the others do all of the work")
    assert Log(made).lines("service_unavailable") == []
    assert made.outputs("failed") == {}
    assert made.dead() == 0
    made.kill("cut-off")


@contextmanager
def sqs_failing(made: Chain, **fault: Any) -> Iterator[None]:
    """In it, bridge and worker have met the fault, each more than once; at its end it is over."""
    before = made.server.counts()
    made.server.fault("*", queue=made.prefix, times=-1, **fault)

    def met(queue: str) -> int:
        name = f"fault ReceiveMessage {made.prefix}{queue}"
        return made.server.counts()[name] - before[name]

    wait_until(lambda: met("events") >= 2 and met("tasks") >= 2, "both have met the fault twice")
    yield
    made.server.repair()


def sqs_fails_while_work_is_in_flight(made: Chain) -> None:
    log = Log(made)
    tasks = f"{made.prefix}tasks"
    made.server.fault("DeleteMessageBatch", queue=tasks, times=-1)
    keys = upload(made, "held")
    refused = f"fault DeleteMessageBatch {tasks}"
    wait_until(lambda: made.server.counts()[refused], "what is done cannot be deleted, so it stays in flight")
    with sqs_failing(made, status=503):
        assert made.server.depth(tasks) != (0, 0, 0)
    wait_until(lambda: is_done(made, keys), "all is done")
    wait_until(lambda: log.lines("sqs_recovered"), "it says that SQS is there again")


class Credentials:
    """Temporary ones that a program tells, as the one of a profile does; boto3 asks it again when they end soon."""

    def __init__(self, folder: Path) -> None:
        self._file, config = folder / "credentials.json", folder / "config"
        config.write_text(f"[default]\ncredential_process = cat {self._file}\n")
        self.variables = {"AWS_CONFIG_FILE": str(config), "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        self.renew(OLD)

    def renew(self, key: str) -> None:
        ends = datetime.now(UTC) + timedelta(minutes=5)  # near enough for each request to ask again
        told = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t"}
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(told | {"Expiration": ends.isoformat()}))
        new.replace(self._file)  # nobody reads half of it


def credentials_of_sqs_expire_and_are_renewed(made: Chain, credentials: Credentials) -> None:
    log = Log(made)
    with sqs_failing(made, status=403, code="ExpiredToken", caller=OLD):
        keys = upload(made, "expired")  # the one who sends has others
        credentials.renew(NEW)
        # Nothing is repaired: it is the new ones that SQS takes.
        wait_until(lambda: is_done(made, keys), "all is done")
    wait_until(lambda: log.lines("sqs_recovered"), "it says that SQS is there again")
    assert any(name.startswith(f"{NEW} DeleteMessageBatch") for name in made.server.calls())
