"""The shop's Flask site, which enqueues orders: ``flask --app website run``."""

from __future__ import annotations

from typing import Any

from flask import Flask

from pipeline.sqs import batched
from tasks import app, mail, order

site = Flask(__name__)


@site.post("/orders/<int:number>")
def place(number: int) -> dict[str, Any]:
    return {"id": order.delay(number).id}


@site.post("/newsletters/<int:count>")
def newsletter(count: int) -> dict[str, Any]:
    with batched(app):  # ten messages a request
        ids = [mail.delay(f"newsletter {number}").id for number in range(count)]
    return {"ids": ids}
