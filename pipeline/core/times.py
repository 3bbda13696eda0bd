"""Parses and formats times and durations for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pipeline.core.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Parses ``2026-01-31``, ``2026-01-31T12:00+01:00`` (UTC if there is no zone), or an age: ``15m``, ``2h``, ``3d``.

    Raises ``ConfigError`` for any other text.
    """
    age = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if age is not None:
        return (datetime.now(UTC) if now is None else now) - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a time: write 2026-01-31, 2026-01-31T12:00+01:00, or an age: 15m, 2h, 3d"
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def age(seconds: float) -> str:
    """Formats seconds as ``3 d``, ``2 h``, ``15 min`` or ``40 s``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
