"""A shop's Celery app: its own tasks, its own queues, on SQS. Nothing of the image pipeline is in it.

celery -A tasks worker
celery -A tasks flower
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import Reject
from kombu import Queue

from pipeline.sqs import install

app = Celery("shop")
app.conf.task_queues = (Queue("orders"), Queue("mails"))
app.conf.task_default_queue = "orders"
app.conf.task_routes = {"shop.mail": {"queue": "mails"}}
install(
    app,
    queue_prefix=os.environ.get("SHOP_PREFIX", "shop-"),
    topic_arn_prefix=os.environ.get("SHOP_TOPICS"),
    poll_wait_s=int(os.environ.get("SHOP_POLL_WAIT_S", "20")),
    health_folder=os.environ.get("SHOP_HEALTH_FOLDER", "."),
)


def note(line: str) -> None:
    """The shop's books: one write a line, so that lines of several processes don't mix."""
    with Path(os.environ.get("SHOP_BOOKS", "books.txt")).open("a") as file:
        file.write(line + "\n")


@app.task(name="shop.order")
def order(number: int, *, takes_s: float = 0) -> int:
    """Runs once for each order, whatever happens to the worker meanwhile: an order of before is in the books."""
    note(f"begun {number}")
    time.sleep(takes_s)
    note(f"order {number}")
    mail.delay(f"order {number} is on its way")
    return number


@app.task(name="shop.mail")
def mail(text: str) -> None:
    if "@" in text:
        raise Reject("an address is no text", requeue=False)  # a dead letter, with this reason, at once
    note(f"mail: {text}")
