"""Programs that fork while they publish: each child can publish too."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from celery import signals

from tests.public_reports.test_sending import Side, sides
from tests.support.aws_process import ROOT, AwsServer
from tests.support.programs import output_of
from tests.support.stage import aws_server

__all__ = ["aws_server", "sides"]


def run(code: str, server: AwsServer, prefix: str) -> Any:
    """What a program of the shop prints as JSON."""
    for queue in ("orders", "mails"):
        server.make_queue(f"{prefix}{queue}")
    env = {**server.env, "PYTHONPATH": str(ROOT), "SHOP_PREFIX": prefix}
    return json.loads(output_of("-c", code, cwd=ROOT / "examples" / "shop", env=env))


def test_a_publish_imports_nothing_that_a_fork_does_not_wait_for(aws_server: AwsServer) -> None:
    code = """
import json, sys
from pipeline.sqs import batched
from pipeline.sqs.forking import load
from tasks import app, mail
load(app)
before = set(sys.modules)
mail.delay("one")
with batched(app):
    mail.delay("two")
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert run(code, aws_server, "imports-") == []


def test_a_child_that_is_forked_during_the_first_publish_publishes_too(aws_server: AwsServer) -> None:
    """The parent's first request gets no answer before the child has ended."""
    code = """
import http.client, json, os, threading
from pipeline.aws import forks
from tasks import mail

forks.WAIT_S = 600
asked, go_on, expired = threading.Event(), threading.Event(), []
answer = http.client.HTTPConnection.getresponse

def wait(connection):
    if not asked.is_set():
        asked.set()
        expired.append(not go_on.wait(60))
    return answer(connection)

http.client.HTTPConnection.getresponse = wait
first = threading.Thread(target=mail.delay, args=("parent",))
first.start()
asked.wait(60)
child = os.fork()
if not child:
    mail.delay("child")
    os._exit(0)
waiter = threading.Thread(target=os.waitpid, args=(child, 0))
waiter.start()
waiter.join(30)
ended = not waiter.is_alive()
if not ended:
    os.kill(child, 9)
go_on.set()
first.join()
print(json.dumps([ended, *expired]))
"""
    assert run(code, aws_server, "first-") == [True, False]
    assert aws_server.depth("first-mails")[0] == 2


def test_no_lock_of_the_parent_s_threads_holds_up_a_child(sides: tuple[Side, Side]) -> None:
    ours, _ = sides
    ours.send("parent")
    signals.before_task_publish.connect(heard)
    locks = (ours.app.clock.mutex, signals.before_task_publish.lock)
    for lock in locks:
        lock.acquire()
    try:
        child = os.fork()
        if not child:
            status = 1
            try:
                ours.app.clock.forward()
                signals.before_task_publish.disconnect(heard)
                ours.send("child")
                status = 0
            finally:
                os._exit(status)
        assert ended_well(child)
    finally:
        for lock in locks:
            lock.release()
        signals.before_task_publish.disconnect(heard)
    assert sorted(ours.arguments()) == [["child"], ["parent"]]


def heard(**_: Any) -> None:
    """Somebody's receiver, for which Celery takes a lock at each publish."""


def ended_well(child: int) -> bool:
    """With status 0, and within a minute; a child that hangs is killed."""
    timer = threading.Timer(60, os.kill, (child, 9))
    timer.start()
    try:
        return os.waitpid(child, 0)[1] == 0
    finally:
        timer.cancel()
        timer.join()
