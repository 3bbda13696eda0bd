"""The pools of Celery that a worker supports."""

from __future__ import annotations

from pipeline.aws.plain_errors import ConfigError

#: Modules of the Celery pools whose workers have an event loop.
POOLS = ("prefork", "solo", "thread")


def check_pool(pool: type, *, has_loop: bool = True) -> None:
    """``pool``: the class. Raises ``ConfigError`` if long tasks would run twice in it."""
    name = pool.__module__.rsplit(".", 1)[-1]
    if name not in POOLS or not has_loop:
        raise ConfigError(
            f"pool {name} is not supported: it has no event loop, so nothing would keep its messages hidden from other "
            "workers while it works on them; start the worker with --pool prefork, solo or threads"
        )
