"""Our code inside of somebody else's program, which has a Celery app, logging and signals of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.settings import Settings
from tests.support.aws_process import ROOT
from tests.support.queues import take_all
from tests.support.waiting import DEADLINE_S

#: What a program could notice of what others do to its process.
LOOK = """
import gc, json, logging, os, signal, sys, threading
from celery import _state, signals

def look():
    return {
        "current app": repr(_state.get_current_app()),
        "in another thread": in_a_thread(lambda: repr(_state.get_current_app())),
        "handlers": repr(logging.getLogger().handlers), "level": logging.getLogger().level,
        "warnings": repr(sys.modules["warnings"].showwarning),
        "environment": dict(os.environ), "path": list(sys.path),
        "signals": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
        "celery signals": {name: repr(found.receivers) for name, found in sorted(vars(signals).items())
                           if hasattr(found, "receivers")},
        "frozen": gc.get_freeze_count(), "collects": gc.isenabled(), "threads": threading.active_count(),
    }

def in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]
"""
SHOP = """
from celery import Celery
shop = Celery("shop", broker="memory://", backend="cache+memory://")

@shop.task
def hello():
    return "hello"
"""
EVERYTHING = """
import importlib, pkgutil
import pipeline, tasks
for package in (pipeline, tasks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", "flowerconfig")):
            importlib.import_module(module.name)
"""


def run(code: str, folder: Path, *arguments: str, **environ: str) -> str:
    """What a program prints, that is run in a folder of its own, with the pipeline installed."""
    done = subprocess.run(
        [sys.executable, *(arguments or ("-c", code))],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compared(code: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    shown = run(f"{LOOK}{SHOP}\nbefore = look()\n{code}\nprint(json.dumps([before, look()]))", folder)
    before, after = json.loads(shown)
    return before, after


@pytest.mark.parametrize("code", ["from pipeline import *", EVERYTHING], ids=["what is public", "everything"])
def test_importing_changes_nothing(tmp_path: Path, code: str) -> None:
    before, after = compared(code, tmp_path)
    assert "shop" in before["current app"]
    assert after == before


def test_enqueueing_changes_nothing_and_goes_to_our_queue(stack: Settings, tmp_path: Path) -> None:
    code = """
    from pipeline import process
    process("s3://local-input/a.jpg")
    in_a_thread(lambda: process("s3://local-input/b.jpg"))
    assert hello.delay().app is shop and hello.app is shop
    assert [name for name in shop.tasks if "celery." not in name] == ["shop.hello"]
    """
    before, after = compared(code.replace("\n    ", "\n"), tmp_path)
    assert after == before
    bodies = [json.loads(message["Body"]) for message in take_all("local-tasks")]
    assert sorted(body["headers"]["argsrepr"] for body in bodies) == ["local-input/a.jpg", "local-input/b.jpg"]


def test_a_project_with_a_tasks_module_of_its_own_can_enqueue(stack: Settings, tmp_path: Path) -> None:
    tmp_path.joinpath("tasks.py").write_text(SHOP)
    tmp_path.joinpath("program.py").write_text(
        "import tasks\nfrom pipeline import process\nprocess('s3://local-input/a.jpg')\n"
    )
    for routes in ("", "tasks.routes"):  # the default, and what it was before
        run("", tmp_path, "program.py", ROUTES=routes)
    assert len(take_all("local-tasks")) == 2


def test_a_flask_program(stack: Settings, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    code = f"""{SHOP}
from celery import current_app
from flask import Flask
from pipeline import process

site = Flask("shop")

@site.post("/photos/<name>")
def upload(name):
    process(f"s3://local-input/{{name}}")
    return {{"id": hello.delay().id, "app": current_app.main}}

answers = [site.test_client().post(f"/photos/{{number}}.jpg").json for number in range(3)]
assert [answer["app"] for answer in answers] == ["shop"] * 3, answers
assert not site.logger.root.handlers
with shop.connection_or_acquire() as connection:
    print(connection.default_channel.queue_declare(shop.conf.task_default_queue, passive=True).message_count)
"""
    assert run(code, tmp_path) == "3\n"
    assert len(take_all("local-tasks")) == 3


def test_a_worker_of_another_app_stays_as_it_is(tmp_path: Path) -> None:
    """It has imported ours, and so has its log, its garbage collector and its steps without ours."""
    code = f"""{LOOK}{SHOP}
import pipeline.celery, tasks.renditions
from celery import signals

worker = shop.Worker(pool="solo", quiet=True)
signals.worker_init.send(sender=worker)
signals.worker_ready.send(sender=worker)
shop.log.setup(loglevel="INFO")
found = [type(handler.formatter).__name__ for handler in logging.getLogger().handlers]
print(json.dumps([found, gc.get_freeze_count(), [step.__module__.split(".")[0] for step in worker.steps]]))
"""
    formatters, frozen, steps = json.loads(run(code, tmp_path))
    assert formatters == ["ColorFormatter"]
    assert frozen == 0
    assert set(steps) == {"celery"}


def test_a_wrong_setting_is_told_when_the_app_is_used_and_each_time(tmp_path: Path) -> None:
    code = """
from pipeline import app, process
from pipeline.core.errors import ConfigError
for attempt in range(2):
    for use in (lambda: process("s3://local-input/a.jpg"), lambda: app.conf.broker_url, lambda: app.settings):
        try:
            use()
        except ConfigError as exc:
            print(exc)
"""
    assert run(code, tmp_path, MAX_RETRIES="many").splitlines() == ["MAX_RETRIES='many': must be a whole number"] * 6


@pytest.mark.parametrize(("app", "current"), [("pipeline", "PipelineApp pipeline"), ("shop", "Celery shop")])
def test_ours_is_the_current_app_where_a_command_runs_for_it(app: str, current: str, tmp_path: Path) -> None:
    tmp_path.joinpath("shop.py").write_text(SHOP + "from pipeline import app as other")
    tmp_path.joinpath("sitecustomize.py").write_text(
        "import atexit, os\n"
        "@atexit.register\n"
        "def told():\n"
        "    from celery import current_app\n"
        "    print(current_app, os.environ.get('FLOWER_CONF'))\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    shown = run("", tmp_path, "-m", "celery", "-A", app, "report", PYTHONPATH=path).splitlines()
    assert current in shown[-1]
    assert shown[-1].endswith(" None")  # neither runs Flower
