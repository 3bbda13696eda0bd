"""The settings: read once from the environment, checked, and frozen. They include those of the broker layer.

Each field has its variable's unit, bounds, default and help; ``settings_table`` makes the README's table from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pipeline.core.errors import ConfigError
from pipeline.core.names import FAILED_PREFIX
from pipeline.core.settings_list import ListedSetting, listed
from pipeline.sqs.settings import BrokerSettings, Names, sentence


def _box(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", value)
        if match is None:
            raise ValueError("write it as WIDTHxHEIGHT, for example 1024x768")
        return tuple(int(side) for side in match.groups())
    return value


def _words(value: Any) -> Any:
    """``".jpg, png"`` → ``(".jpg", ".png")``: lower case, with the dot."""
    if isinstance(value, str):
        return tuple("." + word.strip().lower().lstrip(".") for word in value.split(",") if word.strip(" ."))
    return value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


Side = Annotated[int, Field(ge=1, le=16383)]  # what WebP can hold
Box = Annotated[tuple[Side, Side], BeforeValidator(_box)]
Suffixes = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]


OutputFormat = Annotated[Literal["jpeg", "png", "webp", "avif"], BeforeValidator(_lower)]


#: Old names of variables, which still work in this version.
RENAMED = {
    "RESERVE_S": "PREFETCH_S",
    "STOP_BUDGET_S": "SHUTDOWN_TIMEOUT_S",
    "PROTECTION_MIN": "SCALE_IN_PROTECTION_MIN",
    "MESSAGE_LEASE_S": "MESSAGE_VISIBILITY_TIMEOUT_S",
    "QUEUE_LEASE_S": "CONTROL_QUEUE_TTL_S",
}


def renamed_in_use(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each variable that is set under its old name."""
    environ = os.environ if environ is None else environ
    return [
        f"{old} is called {new} now: rename it, the next version does not read it any more"
        + (f" ({new} is set too, and counts)" if environ.get(new) else "")
        for old, new in RENAMED.items()
        if environ.get(old)
    ]


class Settings(BrokerSettings):
    """The settings from the environment. The field ``abc_s`` is read from the variable ``ABC_S``."""

    input_bucket: str | None = Field(
        None,
        pattern=r"^[^\s,/]+(\s*,\s*[^\s,/]+)*$",
        description="Bucket that takes uploads, or several, comma-separated. Events and tasks about other "
        "buckets go to the dead-letter queue. Unset: objects of all buckets but OUTPUT_BUCKET are "
        "accepted.",
    )
    output_bucket: str | None = Field(None, description="Bucket for renditions and failure records.")
    output_prefix: str = Field(
        "",
        pattern=r"^$|^[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*/$",
        max_length=200,
        description="Folder of OUTPUT_BUCKET that everything is written below, for example `previews/`, so "
        "that the bucket can hold other things too.",
    )
    queue_prefix: str = Field(
        "pipeline-",
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="What the names of all queues and topics begin with: `<prefix>events`, `<prefix>tasks`, "
        "and each with `-dlq`.",
    )
    result_backend: str | None = Field(
        None,
        description="Celery's result backend, for programs that wait for results: `s3://bucket/prefix`, "
        "`dynamodb://…` or another one. Unset: results are not kept.",
    )

    suffixes: Suffixes = Field(
        (
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".png",
            ".webp",
            ".gif",
            ".tif",
            ".tiff",
            ".bmp",
            ".avif",
            ".heic",
            ".heif",
            ".hif",
        ),
        description="Comma-separated endings of the keys that are processed as images, in upper or lower case.",
    )
    key_prefix: str = Field("", description="Only keys that begin with this are processed.")
    routes: Names = Field(
        ("pipeline.images",),
        description="Comma-separated Python modules with routes, which decide which tasks process an object "
        "(docs/your-own-task.md). The first route that takes an object is the only one. "
        "`pipeline.images` has the route for images.",
    )

    renditions: str | None = Field(
        None,
        description="Renditions of each image (docs/images.md#renditions), for example `resized=1024x768, "
        "thumbs=192x192:cover, medium=640x480:webp:q80`. Unset: `resized/` and `thumbs/`, sized "
        "by RESIZE_BOX and THUMB_BOX.",
    )
    resize_box: Box = Field(
        (1024, 768), description="Box in pixels, WIDTHxHEIGHT, that `resized/` fits in; ignored if `RENDITIONS` is set."
    )
    thumb_box: Box = Field(
        (192, 192), description="Box in pixels, WIDTHxHEIGHT, that `thumbs/` fits in; ignored if `RENDITIONS` is set."
    )

    # The image step: how renditions are encoded, and what is refused.
    output_format: OutputFormat | None = Field(
        None,
        description="Format of all renditions: `jpeg`, `png`, `webp` or `avif`. Unset: the source's format if "
        "browsers show it, else JPEG, or PNG if there is transparency.",
    )
    quality: int | None = Field(
        None, ge=1, le=100, description="Encoder quality. Unset: the measured default of each format."
    )
    effort: int | None = Field(
        None,
        ge=0,
        le=9,
        description="Encoder effort, from 0 (fastest) to 9 (smallest). Unset: the measured default of each format.",
    )
    resampler: Literal["pillow", "simd", "auto"] = Field(
        "pillow",
        description="`simd` resizes about seven times faster, but needs the optional package "
        "`cykooz-resizer`. `auto` uses it where possible; the container image sets that.",
    )
    s3_client: Literal["boto3", "auto"] = Field(
        "boto3",
        description="`auto`: where it does the same, workers read and write objects through the optional package "
        "`obstore`, at a tenth of boto3's CPU (docs/architecture.md#s3-through-boto3-or-obstore). The container image "
        "sets that.",
    )
    cache_control: str | None = Field(
        None,
        pattern=r"^[ -~]{1,200}$",
        description="`Cache-Control` header of new renditions, for example `public, max-age=300`; existing "
        "ones keep theirs. Unset: none.",
    )
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        le=500_000_000,
        description="Maximum pixels of an original, weighted by its format (docs/images.md#what-is-refused); "
        "larger ones are refused before decoding.",
    )
    max_bytes: int = Field(
        100_000_000, ge=1, le=2_000_000_000, description="Maximum bytes of an original; larger ones are refused."
    )
    max_file_bytes: int = Field(
        100_000_000,
        ge=1,
        le=5_000_000_000,
        description="Maximum bytes of an object that your own task reads into a file, and of the file that it "
        "makes; larger ones are refused. A container of the stack has 256 MB in `/tmp`.",
    )
    max_frames: int = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="Maximum frames or pages of an original, of which only the first is shown.",
    )
    max_memory_mb: int = Field(
        800,
        ge=100,
        le=16_000,
        description="Megabytes that decoding one image may take above what its process has anyway. Raise it "
        "together with `MAX_PIXELS` and `MAX_BYTES`.",
    )
    max_cpu_s: int | None = Field(
        None,
        ge=1,
        le=3600,
        description="Seconds of CPU time that one image may take; an image that takes more is refused. Unset: "
        "half of `SOFT_TIME_LIMIT_S`.",
    )

    # Convergence: what happens to the renditions of objects that change.
    delete_renditions: bool = Field(
        True, description="Whether an object's renditions are removed when the object is deleted."
    )

    wake_alarm: str | None = Field(
        None,
        max_length=255,
        description="CloudWatch alarm whose action starts workers. The bridge sets it when tasks wait and no "
        "worker takes any. Unset: the bridge wakes no workers.",
    )
    backlog_per_worker: int = Field(
        1800, ge=1, description="Number of waiting tasks for which the bridge wakes one worker."
    )

    log_level: Literal["INFO", "DEBUG"] = Field(
        "INFO", description="`DEBUG`: the bridge and the workers log each step of an object, not only how it ended."
    )

    soft_time_limit_s: int = Field(
        120, ge=1, le=3600, description="Seconds after which a running task is told to stop."
    )
    hard_time_limit_s: int = Field(
        150,
        ge=2,
        le=7200,
        description="Seconds after which a running task's process is killed; more than SOFT_TIME_LIMIT_S.",
    )
    max_retries: int = Field(
        5, ge=0, le=20, description="Maximum retries when a service fails one object; an outage uses up none."
    )
    retry_backoff_s: int = Field(
        2, ge=1, le=900, description="Seconds before the first retry; doubled for each further one."
    )

    @model_validator(mode="after")
    def _cross_checks(self) -> Self:
        if self.hard_time_limit_s <= self.soft_time_limit_s:
            raise ValueError(
                f"HARD_TIME_LIMIT_S={self.hard_time_limit_s} must be above SOFT_TIME_LIMIT_S={self.soft_time_limit_s}, "
                "so that a task can clean up before it is killed"
            )
        if self.max_cpu_s is not None and self.max_cpu_s >= self.soft_time_limit_s:
            raise ValueError(
                f"MAX_CPU_S={self.max_cpu_s} must be below SOFT_TIME_LIMIT_S={self.soft_time_limit_s}, or an image "
                "that takes too long is tried again instead of being refused"
            )
        if self.renditions is None and any(
            small > large for small, large in zip(self.thumb_box, self.resize_box, strict=True)
        ):
            raise ValueError(
                f"THUMB_BOX={as_variable(self.thumb_box)} must fit in RESIZE_BOX={as_variable(self.resize_box)}: "
                "the thumbnail is made from the resized rendition"
            )
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the variables named after the fields, and ``PIPELINE_SETTINGS``; an empty one counts as not set.

        Raises ``ConfigError`` naming every bad variable, its value and what it must be.
        """
        environ = os.environ if environ is None else environ
        environ = {new: environ[old] for old, new in RENAMED.items() if environ.get(old)} | {
            name: value for name, value in environ.items() if value
        }
        entries = listed(environ, [name.upper() for name in cls.model_fields])
        values = {**environ, **{name: entry.value for name, entry in entries.items()}}
        found = {name: values[name.upper()] for name in cls.model_fields if values.get(name.upper())}
        try:
            return cls.model_validate(found)
        except ValidationError as exc:
            raise ConfigError("\n".join(_sentence(error, entries) for error in exc.errors())) from None

    @property
    def input_buckets(self) -> tuple[str, ...]:
        return () if self.input_bucket is None else tuple(name.strip() for name in self.input_bucket.split(","))

    @property
    def failed_folder(self) -> str:
        """The folder of all routes' failure records in the output bucket."""
        return self.output_prefix + FAILED_PREFIX

    def one_input_bucket(self) -> str:
        """The only input bucket, for a command that names none. Raises ``ConfigError`` if there is not exactly one."""
        self.required("input_bucket")
        if len(self.input_buckets) > 1:
            raise ConfigError(f"INPUT_BUCKET={self.input_bucket} names several buckets: name one, as s3://bucket")
        return self.input_buckets[0]

    def foreign_reason(self, bucket: str) -> str | None:
        """Why the pipeline does not process objects of this bucket; None if it may."""
        if self.input_buckets:
            return None if bucket in self.input_buckets else f"bucket {bucket} is not INPUT_BUCKET={self.input_bucket}"
        return f"bucket {bucket} is OUTPUT_BUCKET, and no INPUT_BUCKET" if bucket == self.output_bucket else None

    def required(self, name: str) -> str:
        """The value of a setting that the command needs. Raises ``ConfigError`` if it is not set."""
        value: str | None = getattr(self, name)
        if value is None:
            raise ConfigError(f"{name.upper()} is not set: {type(self).model_fields[name].description}")
        return value


def _sentence(error: Any, entries: Mapping[str, ListedSetting]) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else ""
    return sentence(error, str(entries[name]) if name in entries else f"{name}={error['input']!r}")


def as_variable(value: Any) -> str:
    """Formats a value as it is written in the environment."""
    if value is None or value == "":
        return ""
    if isinstance(value, tuple):
        return ("x" if isinstance(value[0], int) else ",").join(map(str, value))
    return str(value)
