"""A full bucket: what is told of it before anything is made, and what is enqueued after."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.operations.adopt import estimate as arithmetic
from pipeline.operations.adopt.estimate import estimate
from pipeline.operations.adopt.survey import Tried
from tasks.rehearsal import Rehearsed
from tests.support.chain import picture
from tests.support.queues import depth

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def full(stack: Settings) -> Settings:
    """Three good photos, one cut short, and two that are no pictures."""
    s3 = clients.s3()
    for number in range(3):
        s3.put_object(Bucket="local-input", Key=f"2026/{number}.jpg", Body=picture(number))
    s3.put_object(Bucket="local-input", Key="2026/cut.jpg", Body=(SAMPLES / "broken-upload.jpg").read_bytes())
    for key in ("2026/notes.txt", "2026/b.txt"):
        s3.put_object(Bucket="local-input", Key=key, Body=b"text")
    return stack


def adopt(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["adopt", "s3://local-input/2026/", *arguments], input=answer)


def outputs() -> list[str]:
    found = clients.s3().list_objects_v2(Bucket="local-output").get("Contents", [])
    return [entry["Key"] for entry in found]


def test_what_is_there_what_would_fail_and_what_it_costs_without_making_anything(full: Settings) -> None:
    result = adopt("--dry-run")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "objects:    6\n" in text
    assert "processed:  4 by the route images, into resized/, thumbs/" in text
    assert "left alone: 2, its key ends in none of SUFFIXES" in text
    assert "sample:     4 objects tried, 1 would fail" in text
    assert "1 truncated, for example s3://local-input/2026/cut.jpg: " in text
    assert "price:      about less than a cent on demand" in text
    assert "time:       about 1 min with 20 vCPUs" in text
    assert outputs() == []
    assert depth("local-tasks") == (0, 0)


def test_nobody_is_there_to_agree_so_nothing_is_enqueued(full: Settings) -> None:
    result = adopt()
    assert (result.exit_code, "pass --yes" in result.stderr) == (0, True)
    assert depth("local-tasks") == (0, 0)


def test_then_it_is_enqueued(full: Settings) -> None:
    result = adopt("--yes", "--sample", "1")
    assert result.exit_code == 0, result.output
    assert "sample:     1 object tried" in result.stdout
    assert "4 objects enqueued, 2 skipped" in result.stderr
    assert depth("local-tasks") == (4, 0)


def test_going_on_begins_behind_a_key(full: Settings) -> None:
    result = adopt("--yes", "--start-after", "2026/1.jpg")
    assert "processed:  2 by" in result.stdout  # 2.jpg, cut.jpg
    assert depth("local-tasks") == (2, 0)


def test_what_is_too_old_is_counted_and_left(full: Settings) -> None:
    result = adopt("--newer-than", "2999-01-01", "--yes")
    assert "too old:    6" in result.stdout
    assert depth("local-tasks") == (0, 0)


def test_the_limit_of_pixels_is_the_workers(full: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_PIXELS", "1000")
    assert "4 objects tried, 4 would fail" in adopt("--dry-run").stdout


def sampled(*cpu_s: float | None) -> list[Tried]:
    """None is one that fails."""
    source = Source("b", "k")
    return [
        Tried(source, reason="truncated") if each is None else Tried(source, made=Rehearsed((90_000, 10_000), each))
        for each in cpu_s
    ]


def test_dollars_and_hours_from_a_sample() -> None:
    found = estimate(1_000_000, sampled(0.1, 0.3, 0.2, None), vcpus=20)
    assert found is not None
    assert found.failing == 0.25
    assert found.cpu_hours == pytest.approx(750_000 * 0.2 / 3600)
    assert found.hours == pytest.approx(found.cpu_hours / 20 / 0.95)
    assert found.stored_gb == pytest.approx(75.0)
    assert found.dollars_a_month == pytest.approx(75 * 0.023)
    requests = 2 * 5.0 + 6 * 0.4 + 4 * 0.4
    compute = found.cpu_hours / 0.95 * (0.04048 + 2 * 0.004445)
    assert found.dollars == pytest.approx(requests + compute)
    assert found.dollars_spot == pytest.approx(requests + 0.3 * compute)


def test_nothing_is_estimated_of_routes_that_cannot_be_tried() -> None:
    assert estimate(10, [Tried(Source("b", "k"))], vcpus=1) is None
    everything_fails = estimate(10, sampled(None), vcpus=1)
    assert everything_fails is not None
    assert (everything_fails.failing, everything_fails.cpu_hours) == (1.0, 0.0)


def test_prices_are_those_of_the_benchmarks() -> None:
    from benchmarks.dollars import PRICES, PRICES_AS_OF

    assert arithmetic.PRICES_AS_OF == PRICES_AS_OF
    assert (PRICES["S3 PUT"], PRICES["S3 GET"]) == (arithmetic.PUT, arithmetic.GET)
    assert PRICES["SQS request"] == arithmetic.SQS_REQUEST
    assert PRICES["Fargate x86 vCPU hour"] == arithmetic.VCPU_HOUR
    assert PRICES["Fargate x86 GB hour"] == arithmetic.GB_HOUR
