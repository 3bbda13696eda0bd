"""Flower in the embedded run: on a free loopback port, with a password for this run."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass

from pipeline.core.errors import PipelineError
from pipeline.local.stack import PREFIX, TOPIC_ARN_PREFIX, LocalStack

USER = "demo"
START_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Address:
    """Flower's address. Not one URL: in a page opened as ``http://user:password@…`` the buttons fail."""

    url: str
    user: str
    password: str

    def __str__(self) -> str:
        return f"{self.url} (user {self.user}, password {self.password})"


def start(stack: LocalStack) -> Address:
    """Starts Flower and waits until it listens to events. Raises ``PipelineError``.

    It has a password, since Flower shows no buttons without one.
    """
    port, password = _free_port(), secrets.token_urlsafe(9)
    stack.start(
        "flower",
        *("-m", "celery", "-A", "pipeline", "flower", "--address=127.0.0.1", f"--port={port}"),
        FLOWER_BASIC_AUTH=f"{USER}:{password}",
    )
    sns, deadline = stack.emulator.client("sns"), time.monotonic() + START_WITHIN_S
    while not sns.list_subscriptions_by_topic(TopicArn=f"{TOPIC_ARN_PREFIX}{PREFIX}celeryev")["Subscriptions"]:
        stack.check()
        if time.monotonic() > deadline:
            raise PipelineError(f"Flower did not start within {START_WITHIN_S} s: see {stack.logs}/flower.log")
        time.sleep(0.1)
    return Address(f"http://127.0.0.1:{port}", USER, password)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
