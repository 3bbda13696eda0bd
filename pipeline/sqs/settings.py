"""The broker layer's settings: what ``pipeline.sqs.install`` takes. Loads neither Celery nor boto3."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.aws.plain_errors import ConfigError

#: Suffix of a dead-letter queue's name, after its queue's name.
DEAD_LETTERS = "-dlq"


def _words(value: Any) -> Any:
    """``"a.b, c"`` → ``("a.b", "c")``."""
    return tuple(name for name in re.split(r"[\s,]+", value) if name) if isinstance(value, str) else value


Names = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")], ...],
    BeforeValidator(_words),
    Field(min_length=1),
]


class BrokerSettings(BaseModel):
    """Each field has its unit, bounds, default and help; a field ``abc_s`` is in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    queue_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="What the names of all queues and of the two topics begin with.",
    )
    poll_wait_s: int = Field(20, ge=0, le=20, description="Seconds that a receive waits for messages (long poll).")
    max_delay_days: int = Field(
        7,
        ge=1,
        le=365,
        description="Maximum days that a task's `countdown` or `eta` may lie ahead; a task that is due later "
        "becomes a dead letter.",
    )
    builtin_tasks: Names | None = Field(
        None,
        description="Comma-separated names of Celery's own tasks that workers run, such as "
        "`celery.chord_unlock`. Unset: none, so a message that names one becomes a dead letter.",
    )

    # Monitoring: events and remote control over SNS, and metrics.
    topic_arn_prefix: str | None = Field(
        None,
        pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:$",
        description="Where the topics `<prefix>celeryev` and `<prefix>pidbox` are: "
        "`arn:aws:sns:<region>:<account>:`. Unset: events and remote control are off.",
    )
    events: Literal["all", "workers", "off"] = Field(
        "all",
        description="`all`: workers send events of their tasks and heartbeats, for Flower; `workers`: only "
        "heartbeats; `off`: none.",
    )
    events_interval_s: float = Field(
        1, ge=0.1, le=60, description="Seconds for which a worker gathers events into one message."
    )
    heartbeat_s: int = Field(30, ge=2, le=600, description="Seconds between two heartbeats of an idle worker.")
    control_queue_ttl_s: int = Field(
        900,
        ge=10,
        le=86400,
        description="Seconds after which the sweep may remove a killed process's queues for events and remote control.",
    )
    metrics_namespace: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_./#:-]{1,255}$",
        description="CloudWatch namespace of the tasks' metrics, which workers log in the embedded metric "
        "format. Unset: they log none.",
    )

    # How a worker keeps its messages, and how it shuts down.
    message_visibility_timeout_s: int = Field(
        90,
        ge=2,
        le=3600,
        description="Seconds that a received message stays hidden from other workers. A worker extends this "
        "while the message is in flight, so it is how long the work of a killed worker waits.",
    )
    go_on_in_place: bool = Field(
        True,
        description="Whether a worker starts the next task of a chain itself, under the same message. Off: it "
        "publishes each task.",
    )
    prefetch_s: int = Field(
        5,
        ge=0,
        le=300,
        description="Seconds of work that a worker prefetches, so that it can receive many messages at once.",
    )
    shutdown_timeout_s: int = Field(
        110,
        ge=0,
        le=7200,
        description="Seconds that running tasks get to finish after SIGTERM; then other workers get their "
        "messages. Keep it below ECS's `stopTimeout`.",
    )
    health_folder: str = Field(
        "/tmp",  # noqa: S108 - not secret, and only its age is read
        description="Folder of the heartbeat file that `python -m pipeline health` reads. Two workers, or two "
        "bridges, need different folders.",
    )
    health_stale_s: int = Field(
        45, ge=5, le=3600, description="Seconds without progress after which a worker or bridge is unhealthy."
    )
    ecs_agent_uri: str | None = Field(None, description="Set by ECS: the endpoint for scale-in protection.")
    scale_in_protection_min: int = Field(
        15, ge=1, le=2880, description="Minutes after which a scale-in protection expires unless the worker renews it."
    )

    @model_validator(mode="after")
    def _poll_fits(self) -> Self:
        if self.health_stale_s <= self.poll_wait_s + 10:
            raise ValueError(
                f"HEALTH_STALE_S={self.health_stale_s} must be more than 10 s above POLL_WAIT_S={self.poll_wait_s}, "
                "or an idle bridge counts as hung"
            )
        return self

    @classmethod
    def made(cls, **values: Any) -> Self:
        """The settings from a program's values. Raises ``ConfigError`` that names every bad value and its bounds."""
        try:
            return cls.model_validate(values)
        except ValidationError as exc:
            raise ConfigError("\n".join(sentence(error) for error in exc.errors())) from None


def sentence(error: Any, where: str | None = None) -> str:
    """One of pydantic's errors as a sentence. ``where``: the setting and its value; None: the field's name."""
    message = re.sub(r"^\w+ should ", "must ", error["msg"].removeprefix("Value error, "))
    if not error["loc"]:
        return f"Settings: {message}"
    if error["type"] in ("int_parsing", "float_parsing"):
        message = "must be a whole number" if error["type"] == "int_parsing" else "must be a number"
    if error["type"] == "extra_forbidden":
        message = "there is no such setting"
    shown = f"{error['loc'][0]}={error['input']!r}" if where is None else where
    return f"{shown}: {message[0].lower()}{message[1:]}"
