"""What a person sees who has set something up wrongly: one line that says what to do, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.aws_process import AwsServer
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
BRIDGE = ("bridge",)
WORKER = ("celery", "-A", "pipeline", "worker", "-c", "1")
QUICK_WORKER = ("pipeline.worker", "-c", "1")
FLOWER = ("celery", "-A", "pipeline", "flower", "--port=0")
NO_REGION = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
UNREACHABLE = "http://127.0.0.1:9"


def said(
    server: AwsServer, tmp_path: Path, module: tuple[str, ...], environ: Mapping[str, str | None]
) -> tuple[int, str]:
    """The exit status of a process that does not get far, and all that it prints; without the variables of None."""
    given = {**os.environ, **server.env, "HEALTH_FOLDER": str(tmp_path), "TMPDIR": str(tmp_path), **environ}
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={name: value for name, value in given.items() if value is not None},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("module", [BRIDGE, WORKER, QUICK_WORKER, FLOWER], ids=" ".join)
def test_a_bad_setting(aws_server: AwsServer, tmp_path: Path, module: tuple[str, ...]) -> None:
    status, text = said(aws_server, tmp_path, module, {"MAX_RETRIES": "many"})
    assert (status, len(text.splitlines())) == (2, 1), text
    assert "MAX_RETRIES='many': must be a whole number" in text


@pytest.mark.parametrize(
    ("module", "environ", "line"),
    [
        (BRIDGE, {"QUEUE_PREFIX": "other-"}, "bridge: queue other-events does not exist: deploy the stack that makes"),
        (WORKER, {"QUEUE_PREFIX": "other-"}, "queue other-tasks does not exist: deploy the stack that makes it, or c"),
        (BRIDGE, {"AWS_ENDPOINT_URL": UNREACHABLE}, "bridge: queue given-events: Could not connect to the endpoint "),
        (BRIDGE, {"AWS_ENDPOINT_URL": "localhost:9"}, "bridge: no address of SQS follows from AWS_ENDPOINT_URL=loc"),
        (WORKER, {"AWS_ENDPOINT_URL": "localhost:9"}, "Unrecoverable error: no address of SQS follows from AWS_END"),
        (BRIDGE, {"HEALTH_FOLDER": "/no/where"}, "bridge: HEALTH_FOLDER=/no/where: "),
        (WORKER, {"HEALTH_FOLDER": "/no/where"}, "Unrecoverable error: HEALTH_FOLDER=/no/where: "),
        (BRIDGE, {"ROUTES": "no.such"}, "bridge: ROUTES=no.such: no routes could be read from this module"),
        (WORKER, {"ROUTES": "no.such"}, "Unrecoverable error: ROUTES=no.such: no routes could be read from this mo"),
        (QUICK_WORKER, {"ROUTES": "no.such"}, "Unrecoverable error: ROUTES=no.such: no routes could be read from "),
        (BRIDGE, NO_REGION, "bridge: no AWS region is set: set AWS_REGION"),
        (QUICK_WORKER, {"RESULT_BACKEND": "foo://x"}, "RESULT_BACKEND=foo://x: Celery has no such result backend"),
        (
            (*WORKER, "-Q", "events"),
            {},
            "Error: -Q events: events is not a queue of tasks: it has the events of S3, which",
        ),
        ((*QUICK_WORKER, "-Q", "tasks,misspelt"), {}, "Error: -Q tasks,misspelt: the app's queues are tasks"),
        (BRIDGE, {"AWS_ACCESS_KEY_ID": ""}, "bridge: queue given-events: no AWS credentials"),
    ],
)
def test_a_wrong_place(
    aws_server: AwsServer, tmp_path: Path, module: tuple[str, ...], environ: dict[str, str | None], line: str
) -> None:
    for name in ("given-events", "given-tasks"):
        aws_server.make_queue(name)
    status, text = said(aws_server, tmp_path, module, {"QUEUE_PREFIX": "given-", **environ})
    assert status in (1, 2), text
    assert line in text
    assert "Traceback" not in text


def test_the_bridge_has_a_help_page(aws_server: AwsServer, tmp_path: Path) -> None:
    status, text = said(aws_server, tmp_path, (*BRIDGE, "--help"), {"MAX_RETRIES": "many"})
    assert status == 0
    assert "python -m pipeline settings" in text
