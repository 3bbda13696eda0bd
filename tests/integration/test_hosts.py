"""Our code as a guest of Django, behind gunicorn, which loads the site before it forks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_guest import LOOK
from tests.support.aws_process import ROOT, AwsServer
from tests.support.stage import aws_server
from tests.support.waiting import DEADLINE_S, text_of, wait_until

__all__ = ["aws_server"]

SETTINGS = """
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "urls"
USE_TZ = True
LOGGING = {"version": 1, "disable_existing_loggers": False}
LOGGING |= {"handlers": {"own": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["own"]}}
CELERY_TASK_DEFAULT_QUEUE = "orders"
CELERY_TASK_ACKS_LATE = False
"""
URLS = (
    LOOK
    + """
from celery import Celery
from django.http import JsonResponse
from django.urls import path

app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
before_all = look()

from pipeline import process
from pipeline.sqs import batched, install
install(app, queue_prefix=os.environ["PREFIX"])
assert look() == before_all

@app.task(name="site.order")
def order(number):
    return number

def place(request, number):
    before = look()
    process("s3://bucket/a.jpg")
    with batched(app):
        order.delay(number)
    return JsonResponse({"changed": [name for name, now in look().items() if now != before[name]]})

urlpatterns = [path("orders/<int:number>", place)]
"""
)
WSGI = """
import os, threading
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
import urls  # which gunicorn so has loaded before it forks

going = threading.Event()

def publish():
    while not going.is_set():
        urls.order.delay(0)

if os.environ.get("PUBLISHES"):
    threading.Thread(target=publish, daemon=True).start()
"""
#: Each of gunicorn's processes publishes once.
GUNICORN = """
def post_worker_init(worker):
    import urls
    urls.order.delay(worker.pid)
    print("has published", flush=True)
"""


@dataclass
class Site:
    server: AwsServer
    folder: Path
    prefix: str
    env: dict[str, str]

    def orders(self) -> list[int]:
        client = self.server.client()
        url = client.get_queue_url(QueueName=f"{self.prefix}orders")["QueueUrl"]
        found: list[int] = []
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(json.loads(message["Body"])["body"])[0][0] for message in messages]
        return found


@pytest.fixture
def site(aws_server: AwsServer, tmp_path: Path) -> Site:
    prefix = f"h{uuid.uuid4().hex[:8]}-"
    for queue in ("orders", "tasks"):
        aws_server.make_queue(prefix + queue)
    for name, text in (("settings", SETTINGS), ("urls", URLS), ("wsgi", WSGI), ("gunicorn.conf", GUNICORN)):
        tmp_path.joinpath(f"{name}.py").write_text(text)
    env = {
        **os.environ,
        **aws_server.env,
        "PYTHONPATH": str(ROOT),
        "PREFIX": prefix,
        "QUEUE_PREFIX": prefix,
        "DJANGO_SETTINGS_MODULE": "settings",
    }
    return Site(aws_server, tmp_path, prefix, env)


def test_django(site: Site) -> None:
    code = """
import json, wsgi
from django.test import Client
print(json.dumps([Client().get(f"/orders/{number}").json()["changed"] for number in (1, 2)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.folder,
        env=site.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]
    assert site.orders() == [1, 2]
    assert site.server.depth(f"{site.prefix}tasks")[0] == 2


def test_gunicorn_with_preload(site: Site) -> None:
    """A thread of the site publishes while gunicorn forks, also for the first time."""
    log = site.folder / "gunicorn.log"
    command = (
        "-m",
        "gunicorn",
        "--preload",
        "--no-control-socket",
        "--workers",
        "3",
        "--bind",
        "127.0.0.1:0",
        "wsgi:application",
    )
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=site.folder,
            env={**site.env, "PUBLISHES": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "Listening at: http" in text_of(log) or process.poll() is not None, "gunicorn listens")
        found = re.search(r"Listening at: (http://\S+)", text_of(log))
        assert found is not None, text_of(log)
        wait_until(lambda: text_of(log).count("has published") == 3, "each of gunicorn's processes publishes")
        assert asked(f"{found[1]}/orders/1") == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    orders = site.orders()
    assert len({*orders} - {0, 1}) == 3
    assert {0, 1} <= {*orders}, "the parent's thread and the view have published too"


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=120) as reply:
        return json.loads(reply.read())["changed"]
