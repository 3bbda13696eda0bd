"""Identifies an object, and exactly which version of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pipeline.core.errors import MessageError

_SCHEME = "s3://"
#: S3's limit for a key, in UTF-8:
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One version of one object; the identity that tasks carry.

    Only ``bucket`` and ``key`` are always known: manually enqueued work has no event to take the rest from. ``key`` is
    decoded (no percent-encoding left).
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None  # without quotes
    size: int | None = None  # bytes
    sequencer: str | None = None  # hex; orders the events of this key only
    event_time: str | None = None  # ISO 8601, as S3 sent it

    def __post_init__(self) -> None:
        if not self.bucket or not self.key:
            raise MessageError(f"a source needs a bucket and a key, not {self.bucket!r} and {self.key!r}")
        try:
            size_bytes = len(self.key.encode())
        except UnicodeEncodeError:
            raise MessageError(f"the key {shortened(self.key)} is not valid Unicode") from None
        if size_bytes > MAX_KEY_BYTES:
            raise MessageError(f"the key {shortened(self.key)} has {size_bytes} bytes, more than S3's {MAX_KEY_BYTES}")

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

    @property
    def from_event(self) -> bool:
        """Whether it comes from an event, and not from a person or a program."""
        return self.event_time is not None or self.sequencer is not None

    def to_json(self) -> dict[str, Any]:
        """The known fields as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Accepts a ``Source``, its ``to_json()`` form, or ``s3://bucket/key``.

        The key of a URI is taken literally, without percent-decoding.
        Raises ``MessageError``.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            bucket, slash, key = value.removeprefix(_SCHEME).partition("/")
            if not value.startswith(_SCHEME) or not (bucket and slash and key):
                raise MessageError(f"{value!r} does not name an object: write s3://bucket/key")
            return cls(bucket=bucket, key=key)
        if not isinstance(value, dict):
            raise MessageError(f"a source is s3://bucket/key or an object with bucket and key, not {value!r}")
        known: dict[str, Any] = {field.name: value.get(field.name) for field in fields(cls)}
        for name, found in known.items():
            expected = int if name == "size" else str
            if found is not None and (not isinstance(found, expected) or isinstance(found, bool)):
                raise MessageError(f"{name} of a source is {found!r}, which is not of type {expected.__name__}")
        return cls(**{**known, "bucket": known["bucket"] or "", "key": known["key"] or ""})


def shortened(value: Any, limit: int = 80) -> str:
    """An untrusted value, cut for an error message."""
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def place(uri: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket`` or ``s3://bucket/prefix``. Raises ``MessageError``."""
    bucket, _, prefix = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not bucket:
        raise MessageError(f"{uri!r} names no bucket: write s3://bucket or s3://bucket/prefix")
    return bucket, prefix
