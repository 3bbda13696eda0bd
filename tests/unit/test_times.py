from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.times import age, parse_time

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00+01:00", datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_moment(text: str, wanted: datetime) -> None:
    assert parse_time(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "soon", "3", "3w", "-1h", "2026-13-01"])
def test_no_moment(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0 s"), (59, "59 s"), (90, "2 min"), (7200, "2 h"), (3 * 86400, "3 d")]
)
def test_an_age(seconds: float, wanted: str) -> None:
    assert age(seconds) == wanted
