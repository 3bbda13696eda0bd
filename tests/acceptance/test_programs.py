"""Programs that enqueue work themselves, against the real worker."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipeline.local.stack import INPUT_BUCKET, LocalStack
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json
from pipeline import process
from tasks import resize, thumbnail
from tests.support.waiting import DEADLINE_S

uri = "s3://{bucket}/a b+ü.jpg"
print(json.dumps([
    process(uri).get(timeout=120),
    resize.delay(uri).get(timeout=120),
    (resize.s(uri) | thumbnail.s()).delay().get(timeout=120),
    process({{"bucket": "{bucket}", "key": "a b+ü.jpg", "etag": "0"}}).parent.get(timeout=120),
]))
"""


class WithResults(LocalStack):
    def environ(self) -> dict[str, str]:
        return super().environ() | {"RESULT_BACKEND": "s3://results/celery/"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[LocalStack]:
    with WithResults(tmp_path, concurrency=1) as stack:
        stack.emulator.client("s3").create_bucket(Bucket="results")
        yield stack


def test_programs_enqueue_and_wait_for_results(running: LocalStack) -> None:
    photo = io.BytesIO()
    Image.new("RGB", (400, 300), (9, 9, 200)).save(photo, "JPEG")
    running.emulator.client("s3").put_object(Bucket=INPUT_BUCKET, Key="a b+ü.jpg", Body=photo.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(bucket=INPUT_BUCKET)],
        env=running.environ(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_process, by_task, by_chain, of_an_old_version = json.loads(done.stdout)
    assert by_process["rendition"]["key"] == by_chain["rendition"]["key"] == "thumbs/a b+ü.jpg"
    assert (by_task["rendition"]["width"], by_task["rendition"]["height"]) == (400, 300)
    assert of_an_old_version["outcome"] == "superseded"


@pytest.mark.parametrize(
    "arguments", [["report"], ["-A", "pipeline", "report"], ["-A", "pipeline", "worker", "--help"]]
)
def test_celery_s_own_commands_work(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
