"""The verbs of an operator, on the real bridge and a real worker."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, LocalStack
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.warm_start import WarmStart

ROOT = Path(__file__).parents[2]


class Operator:
    """A person at a terminal, beside a running stack."""

    def __init__(self, stack: LocalStack, warm: WarmStart) -> None:
        self._stack = stack
        self._warm = warm
        self.s3 = stack.emulator.client("s3")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self._warm.command, "-m", "tests.support.one_server", "pipeline", *arguments],
            env=self._stack.environ(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def upload(self, key: str, colour: int | None) -> None:
        out = io.BytesIO()
        if colour is not None:
            Image.new("RGB", (64, 48), (colour, 90, 20)).save(out, "PNG")
        self.s3.put_object(Bucket=INPUT_BUCKET, Key=key, Body=out.getvalue() or b"no picture")

    def stored(self) -> dict[str, str]:
        """ETags by key."""
        listed = self.s3.list_objects_v2(Bucket=OUTPUT_BUCKET).get("Contents", [])
        return {item["Key"]: item["ETag"] for item in listed}

    def expect(self, *keys: str) -> None:
        wait_until(lambda: set(self.stored()) == set(keys), f"{keys}, not {set(self.stored())}")

    def audit(self) -> dict[str, Any]:
        _, out, err = self.run("audit", "--json")
        assert err.count("\n") <= 1, err
        counts: dict[str, Any] = json.loads(out)["counts"]
        return {status: count for status, count in counts.items() if count}


@pytest.fixture
def operator(tmp_path: Path, warm_start: WarmStart) -> Iterator[Operator]:
    with LocalStack(tmp_path, concurrency=2) as stack:
        queue = stack.emulator.client("sqs").get_queue_attributes(
            QueueUrl=stack.emulator.client("sqs").get_queue_url(QueueName="local-events")["QueueUrl"],
            AttributeNames=["QueueArn"],
        )["Attributes"]["QueueArn"]
        stack.emulator.client("s3").put_bucket_notification_configuration(
            Bucket=INPUT_BUCKET,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
            },
        )
        yield Operator(stack, warm_start)


def test_a_day_of_an_operator(operator: Operator) -> None:
    both = [f"{prefix}/{key}" for key in ("a b.png", "c.png") for prefix in ("resized", "thumbs")]
    operator.upload("a b.png", 10)
    operator.upload("c.png", 20)
    operator.upload("bad.png", None)
    operator.expect(*both, "failed/bad.png.json")
    assert operator.audit() == {"done": 2, "failed": 1}
    status, out, _ = operator.run("explain", f"s3://{INPUT_BUCKET}/bad.png")
    assert status == 0
    assert "verdict:    Failed: The file begins with “no pictu”" in out

    # A better file, a newer version, a deleted object.
    operator.upload("bad.png", 30)
    mended = [f"{prefix}/bad.png" for prefix in ("resized", "thumbs")]
    wait_until(lambda: set(mended) <= set(operator.stored()), "the better file")
    before = operator.stored()["thumbs/c.png"]
    operator.upload("c.png", 200)
    wait_until(lambda: operator.stored()["thumbs/c.png"] != before, "the newer version")
    operator.s3.delete_object(Bucket=INPUT_BUCKET, Key="a b.png")
    wait_until(lambda: "thumbs/a b.png" not in operator.stored(), "the removal")
    assert operator.audit()["done"] == 2

    # Something is lost, something is too much: the audit finds it, and has it repaired.
    operator.s3.delete_object(Bucket=OUTPUT_BUCKET, Key="thumbs/c.png")
    operator.s3.copy_object(
        Bucket=OUTPUT_BUCKET, Key="resized/old.png", CopySource={"Bucket": OUTPUT_BUCKET, "Key": "resized/c.png"}
    )
    found = operator.audit()
    assert (found["missing"], found["orphaned"], found["done"]) == (1, 1, 1)
    status, _, err = operator.run("audit", "--repair", "--yes")
    assert status == 1
    assert "The workers do the rest" in err
    repaired = {f"{prefix}/{key}" for key in ("bad.png", "c.png") for prefix in ("resized", "thumbs")}
    wait_until(lambda: repaired == {k for k in operator.stored() if "failed/" not in k}, "the repair")

    # The same again changes nothing.
    before_again = operator.stored()
    status, _, err = operator.run("backfill", f"s3://{INPUT_BUCKET}")
    assert (status, err) == (0, "2 objects enqueued, 0 skipped.\n")
    wait_until(lambda: operator.audit() == {"done": 2}, "an end of all work")
    assert {key: etag for key, etag in before_again.items() if "failed/" not in key} == operator.stored()
    assert operator.run("deadletters", "list") == (0, "", "0 dead letters.\n")
