"""What a worker and a bridge load until they ask for work, and the worker's quick command."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.celery import app
from pipeline.core.role import Role
from pipeline.sqs.health import heartbeat_path
from pipeline.worker_process import CollectorStep
from tests.support.aws_process import ROOT
from tests.support.chain import BRIDGE, WORKER, Chain, chain
from tests.support.waiting import text_of, wait_until

#: Loaded for others: Celery's commands, its prompt, Flower, the verbs' tables, the tests. The image has no pycurl.
OF_OTHERS = {"celery.bin.celery", "click_repl", "prompt_toolkit", "flower", "tornado", "prometheus_client"}
OF_OTHERS |= {
    "pycurl",
    "rich.table",
    "jinja2",
    "moto",
    "pipeline.operations.audit",
    "pipeline.local",
    "pipeline.deploy",
}
#: Needed, though not by a bridge.
OF_WORKERS = {"PIL", "pi_heif", "tasks.images.render", "celery.bin", "celery.worker.consumer", "billiard.pool"}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path) as (made, _):
        yield made


def imported(log: str) -> set[str]:
    """By Python's account of it (PYTHONPROFILEIMPORTTIME), with the packages that they are in."""
    names = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}
    return names | {name.rpartition(".")[0] for name in names}


def started(made: Chain, role: str, command: tuple[str, ...], ready: str) -> set[str]:
    made.start(role, *command, env={"PYTHONPROFILEIMPORTTIME": "1"})
    wait_until(lambda: ready in made.log(role), f"the {role} is ready")
    return imported(made.log(role))


def test_a_bridge_loads_what_it_needs_and_no_more(made: Chain) -> None:
    loaded = started(made, "bridge", BRIDGE, "bridge: polling")
    assert {"bridge.consumer", "botocore.client"} <= loaded
    wait_until(lambda: "pipeline.celery" in imported(made.log("bridge")), "Celery is loaded meanwhile")
    assert imported(made.log("bridge")) & (OF_OTHERS | OF_WORKERS) == set()


def test_a_bridge_polls_before_celery_is_loaded() -> None:
    modules = "bridge.__main__, bridge.consumer, bridge.failed_keys, bridge.wake, pipeline.enqueue"
    code = f"import sys, {modules}, pipeline.images; print({{'celery', 'kombu', 'PIL'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_bridge_whose_celery_can_t_be_loaded_ends(made: Chain) -> None:
    code = "import sys; sys.modules['kombu'] = None; from bridge.__main__ import main; sys.exit(main())"
    bridge = made.start("bridge", "-c", code)
    wait_until(lambda: bridge.poll() is not None, "it has ended")
    assert bridge.returncode == 1
    assert "kombu" in made.log("bridge")


def test_a_worker_loads_what_it_needs_and_no_more(made: Chain) -> None:
    loaded = started(made, "worker", WORKER, "ready.")
    assert OF_WORKERS - loaded == set()
    assert loaded & OF_OTHERS == set()


def test_the_quick_command_takes_the_options_that_celery_s_takes() -> None:
    both = (["-m", "pipeline.worker"], ["-m", "celery", "-A", "pipeline", "worker"])
    helps = [
        subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        for command in both
    ]
    ours, celerys = (found.stdout.partition("\n")[2] for found in helps)
    assert ours == celerys
    wrong = subprocess.run([sys.executable, *both[0], "--nope"], cwd=ROOT, capture_output=True, check=False)
    assert wrong.returncode == 2


def test_the_quick_command_begins_anew_at_sighup_and_ends_with_status_0(made: Chain) -> None:
    worker = made.start("worker", *WORKER, "-c", "1")
    wait_until(lambda: made.log("worker").count("ready.") == 1, "the worker is ready")
    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: made.log("worker").count("ready.") == 2, "it is ready again")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: worker.poll() is not None, "it has ended")
    assert worker.returncode == 0


def test_the_quick_command_can_detach(made: Chain, tmp_path: Path) -> None:
    pidfile = tmp_path / "worker.pid"
    parent = made.start("worker", *WORKER, "-c", "1", "--detach", f"--pidfile={pidfile}")
    wait_until(lambda: parent.poll() is not None, "the command has returned")
    assert parent.returncode == 0
    wait_until(lambda: text_of(pidfile).endswith("\n"), "the worker has begun")
    pid = int(text_of(pidfile))
    wait_until(heartbeat_path(made.folder, Role.WORKER).exists, "the worker works")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), "it has ended")


def test_what_is_loaded_is_kept_from_the_collector_before_the_pool_is_forked() -> None:
    step = CollectorStep(parent=None)
    gc.disable()
    try:
        step.include(parent=None)
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
    assert "pipeline.worker_process:CollectorStep" in app.steps["worker"]
