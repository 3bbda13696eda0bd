"""Rules for ``Route.content`` that look into the object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.core.errors import ObjectChanged, ObjectGone
from pipeline.core.source import Source
from pipeline.s3 import storage


def begins_with(*beginnings: bytes) -> Callable[[Source], bool]:
    """A rule for ``Route.content``: whether the object begins with one of these. Costs one GetObject per object.

    An object that is deleted or overwritten does not match: it has a newer event. Raises ``TransientError``.
    """
    length = max(map(len, beginnings))

    def rule(source: Source) -> bool:
        try:
            return storage.read_beginning(source, length).startswith(beginnings)
        except (ObjectGone, ObjectChanged):
            return False

    return rule


def look(source: Source) -> Source | None:
    """The object with its size and ETag, for rules that need them; None if it is deleted or overwritten.

    Costs one HeadObject. Raises ``TransientError``.
    """
    now = storage.current(source.bucket, source.key)
    if now is None or source.etag not in (None, now.etag):
        return None
    return replace(source, etag=now.etag, size=now.size)
