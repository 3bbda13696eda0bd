"""What the pages' commands are run on: a stack with a few uploads, one of them broken, and two dead letters."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, PREFIX, TOPIC_ARN_PREFIX, Emulator, make_resources
from tests.docs.shell import Shell
from tests.support.waiting import wait_until
from tests.support.warm_start import WarmStart

RESULTS_BUCKET = "results"
GOOD = ("a/b.jpg", "a b.jpg", "2026/c.jpg")
BROKEN = "broken.jpg"
#: In each event of S3, and in none of the emulator's.
SEQUENCER = "0055AED6DCD90281E5"
#: Messages that neither the bridge nor a worker can do anything with.
NONSENSE = "nonsense"


class Stage:
    def __init__(self, emulator: Emulator, shell: Shell) -> None:
        self.shell = shell
        self.s3 = emulator.client("s3")
        self._sqs = emulator.client("sqs")

    def stored(self) -> set[str]:
        listed = self.s3.list_objects_v2(Bucket=OUTPUT_BUCKET).get("Contents", [])
        return {entry["Key"] for entry in listed}

    def metadata(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self.s3.head_object(Bucket=OUTPUT_BUCKET, Key=key)["Metadata"]
        return found

    def made(self) -> dict[str, dict[str, Any]]:
        """What the pages show examples of, as it was made here."""
        lines = [json.loads(line) for line in self.shell.printed() if line.startswith('{"time"')]
        return {
            "failure record": json.load(self.s3.get_object(Bucket=OUTPUT_BUCKET, Key=f"failed/{BROKEN}.json")["Body"]),
            "metadata of a thumbnail": self.metadata(f"thumbs/{GOOD[0]}") | {"source-sequencer": SEQUENCER},
            "log line": next(line for line in lines if line.get("action") == "done"),
        }

    def fill(self) -> None:
        """Uploads, and waits for what becomes of them; then one thumbnail is lost."""
        for number, key in enumerate(GOOD):
            self.s3.put_object(Bucket=INPUT_BUCKET, Key=key, Body=photo(number))
        self.s3.put_object(Bucket=INPUT_BUCKET, Key=BROKEN, Body=photo(9)[:-200])
        for queue in ("events", "tasks"):
            url = self._sqs.get_queue_url(QueueName=PREFIX + queue)["QueueUrl"]
            self._sqs.send_message(QueueUrl=url, MessageBody=NONSENSE)
        wanted = {f"{folder}/{key}" for key in GOOD for folder in ("resized", "thumbs")} | {f"failed/{BROKEN}.json"}
        wait_until(lambda: self.stored() == wanted, f"{wanted}, not {self.stored()}")
        for queue in ("events-dlq", "tasks-dlq"):
            wait_until(lambda queue=queue: self._depth(queue) == 1, f"one message in {queue}")
        self.s3.delete_object(Bucket=OUTPUT_BUCKET, Key=f"thumbs/{GOOD[-1]}")

    def _depth(self, queue: str) -> int:
        url = self._sqs.get_queue_url(QueueName=PREFIX + queue)["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        return int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def photo(number: int, form: str = "jpeg") -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 48), 40 + number).convert("RGB").save(out, form)
    return out.getvalue()


@contextmanager
def made_stage(folder: Path, warm: WarmStart) -> Iterator[Stage]:
    """The emulator with its resources; the processes are started by the pages' own commands."""
    with Emulator() as emulator:
        make_resources(emulator)
        emulator.client("s3").create_bucket(Bucket=RESULTS_BUCKET)
        environ = emulator.environ() | {
            "INPUT_BUCKET": INPUT_BUCKET,
            "OUTPUT_BUCKET": OUTPUT_BUCKET,
            "QUEUE_PREFIX": PREFIX,
            "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX,
            "RESULT_BACKEND": f"s3://{RESULTS_BUCKET}/celery/",
            "POLL_WAIT_S": "1",
        }
        yield Stage(emulator, Shell(folder, environ, warm))
