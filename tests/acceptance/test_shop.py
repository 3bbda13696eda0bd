"""The example project, with a Celery app and tasks of its own, on the broker layer alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_process import ROOT, AwsServer
from tests.support.cluster import TOPIC_ARN_PREFIX
from tests.support.flower import PASSWORD, Flower
from tests.support.programs import output_of
from tests.support.waiting import text_of, wait_until
from tests.support.worker import Worker

pytest.importorskip("flask")


@dataclass
class Shop:
    server: AwsServer
    folder: Path  # of the project; nothing of the pipeline is beside it
    env: dict[str, str]

    def books(self) -> list[str]:
        return text_of(self.folder / "books.txt").splitlines()

    def run(self, code: str) -> Any:
        """What a program of the project prints as JSON."""
        return json.loads(output_of("-c", f"import json\n{code}", cwd=self.folder, env=self.env))

    def order(self, number: int, **options: Any) -> None:
        self.run(f"from tasks import order\nprint(json.dumps(order.delay({number}, **{options}).id))")

    def dead(self, queue: str) -> list[str]:
        client = self.server.client()
        url = client.get_queue_url(QueueName=f"shop-{queue}-dlq")["QueueUrl"]
        found = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        ).get("Messages", [])
        return [message["MessageAttributes"]["reason"]["StringValue"] for message in found]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with AwsServer() as server:
        for queue in ("orders", "mails"):
            server.make_queue(f"shop-{queue}")
        for topic in ("celeryev", "pidbox"):
            server.client("sns").create_topic(Name=f"shop-{topic}")
        folder = tmp_path / "shop"
        shutil.copytree(ROOT / "examples" / "shop", folder, ignore=shutil.ignore_patterns("__pycache__"))
        env = {
            **server.env,
            "PYTHONPATH": str(ROOT),
            "SHOP_TOPICS": TOPIC_ARN_PREFIX,
            "SHOP_POLL_WAIT_S": "1",
        }
        yield Shop(server, folder, env)


HOST = "w@shop"


def test_a_day_in_the_shop(shop: Shop) -> None:
    """One worker and one Flower for all of it, because starting them takes longer than the rest."""
    with ExitStack() as exits:
        worker = exits.enter_context(
            Worker(shop.server, shop.folder, "-c", "2", "-n", HOST, app="tasks", env=shop.env, cwd=shop.folder)
        )
        env = {**shop.env, "FLOWER_BASIC_AUTH": PASSWORD}
        worker.wait_ready()
        flower = exits.enter_context(Flower(shop.folder / "flower.log", env, app="tasks", cwd=shop.folder))
        the_site_enqueues_alone_and_in_tens(shop)
        what_can_not_be_done_is_a_dead_letter_with_its_reason(shop)
        flower_shows_and_controls_it(shop, flower)
        a_stop_lets_the_running_order_end_and_strands_none(shop, worker)
        assert not list(shop.folder.glob("*.heartbeat")), "what has stopped is not healthy"


def the_site_enqueues_alone_and_in_tens(shop: Shop) -> None:
    shop.run(
        "from website import site\nvisitor = site.test_client()\n"
        "print(json.dumps([visitor.post('/orders/1').json, visitor.post('/newsletters/12').json]))"
    )
    wanted = {"order 1", "mail: order 1 is on its way", *(f"mail: newsletter {number}" for number in range(12))}
    wait_until(lambda: wanted <= set(shop.books()), "the order and its mails, of two queues")
    assert shop.server.counts()["SendMessageBatch shop-mails"] == 2
    assert list(shop.folder.glob("*.heartbeat"))


def what_can_not_be_done_is_a_dead_letter_with_its_reason(shop: Shop) -> None:
    shop.run("from tasks import mail\nprint(json.dumps(mail.delay('a@b').id))")
    url = shop.server.client().get_queue_url(QueueName="shop-orders")["QueueUrl"]
    shop.server.client().send_message(QueueUrl=url, MessageBody="no task")
    wait_until(lambda: shop.server.depth("shop-mails-dlq")[0], "the rejected mail")
    wait_until(lambda: shop.server.depth("shop-orders-dlq")[0], "the foreign message")
    assert shop.dead("mails") == ["rejected by shop.mail: an address is no text"]
    assert shop.dead("orders")[0].startswith("not a Celery message: ")


def flower_shows_and_controls_it(shop: Shop, flower: Flower) -> None:
    wait_until(lambda: flower.online() == {HOST}, "Flower knows the worker")
    wait_until(lambda: flower.get(f"/api/workers?refresh=1&workername={HOST}").status == 200, "and its pool")
    wait_until(lambda: "shop.order" in flower.get("/tasks").text or flower.get("/api/tasks").json(), "and its tasks")
    page = flower.get("/broker").text
    for queue in ("orders", "orders-dlq", "mails", "mails-dlq"):
        assert f'id="{queue}"' in page
    assert "bridge" not in page
    assert 'celery_sqs_tasks_total{outcome="done",reason="",task="shop.mail"}' in flower.get("/metrics").text
    answer = flower.post(f"/api/worker/pool/grow/{HOST}?n=1")
    assert answer.status == 200, answer.text
    answer = flower.post(f"/api/worker/queue/add-consumer/{HOST}?queue=orders-dlq")
    assert "not a queue of tasks" in answer.text


def a_stop_lets_the_running_order_end_and_strands_none(shop: Shop, worker: Worker) -> None:
    for number in range(2, 9):
        shop.order(number, takes_s=3)
    wait_until(lambda: "begun 2" in shop.books(), "an order is begun")
    worker.send_signal()
    assert worker.wait_exit(60) == 0
    begun = {line.split()[1] for line in shop.books() if line.startswith("begun")}
    done = {line.split()[1] for line in shop.books() if line.startswith("order")}
    assert begun == done, "what was begun is done"
    visible, in_flight, _ = shop.server.depth("shop-orders")
    assert (visible, in_flight) == (8 - len(done), 0), "the others wait for another worker, and are hidden from none"


def test_enqueueing_for_the_pipeline_leaves_the_shop_as_it_is(shop: Shop) -> None:
    shop.server.make_queue("pipeline-tasks")
    found = shop.run(
        """
import logging, os, signal
from website import app, order
from celery import current_app

def look():
    handlers = [str(signal.getsignal(number)) for number in signal.valid_signals()]
    return current_app.main, dict(os.environ), str(logging.getLogger().handlers), handlers

before = look()
from pipeline import process
process("s3://bucket/a.jpg")
order.delay(1)
assert look() == before
print(json.dumps(before[0]))
"""
    )
    assert found == "shop"
    assert shop.server.depth("pipeline-tasks")[0] == shop.server.depth("shop-orders")[0] == 1


def test_children_of_a_program_whose_threads_publish_publish_too(shop: Shop) -> None:
    """As gunicorn does with --preload."""
    code = """
import os, threading, time
from tasks import mail

going = threading.Event()
def publish():
    while not going.wait(0.005):  # a share of the machine is the children's
        mail.delay("parent")

threads = [threading.Thread(target=publish) for _ in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(8):
    child = os.fork()
    if not child:
        mail.delay(f"child {number}")
        os._exit(0)
    children.append(child)
deadline, ended = time.monotonic() + 240, []
while len(ended) < len(children) and time.monotonic() < deadline:
    ended += [pid for pid in children if pid not in ended and os.waitpid(pid, os.WNOHANG)[0]]
    time.sleep(0.01)
for pid in set(children) - set(ended):
    os.kill(pid, 9)
going.set()
for thread in threads:
    thread.join()
print(json.dumps(len(ended)))
"""
    assert shop.run(code) == 8


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_other_pools(shop: Shop, pool: str) -> None:
    options = ("--pool", pool, "-c", "2", "-n", HOST)
    with Worker(shop.server, shop.folder, *options, app="tasks", env=shop.env, cwd=shop.folder) as worker:
        worker.wait_ready()
        shop.order(1, takes_s=0.5)
        shop.run("from tasks import mail\nprint(json.dumps(mail.delay('a@b').id))")
        wait_until(lambda: "mail: order 1 is on its way" in shop.books(), "both queues")
        wait_until(lambda: shop.server.depth("shop-mails-dlq")[0], "the rejected mail")
        shop.order(2, takes_s=2)
        wait_until(lambda: "begun 2" in shop.books(), "an order is begun")
        worker.send_signal()
        assert worker.wait_exit(60) == 0
        assert "order 2" in shop.books()
        wait_until(lambda: shop.server.depth("shop-orders")[:2] == (0, 0), "it is deleted")
