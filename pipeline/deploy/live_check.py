"""``python -m pipeline live-check``: checks a deployed stack on AWS, which no emulator can do.

It uploads images, and checks that workers start from zero, make all renditions, and stop again.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click
from PIL import Image

from bridge.wake import REASON
from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import DEAD_LETTER_QUEUES, EVENTS_QUEUE, QUEUES, TASKS_QUEUE
from pipeline.deploy import account, written

COUNTS = ("", "NotVisible", "Delayed")


@dataclass
class Check:
    """One run of the check against one stack."""

    stack: str
    images: int
    expect_workers: int
    poll_s: float
    patience_s: float
    with_ecs: bool
    run_id: str = field(default_factory=lambda: f"live-check-{uuid.uuid4().hex[:8]}")
    peak: int = 0
    first_worker_s: float | None = None

    def __post_init__(self) -> None:
        found = account.describe(self.stack)
        outputs, parameters = account.outputs_of(found), account.parameters_of(found)
        if "InputBucketName" not in outputs:
            raise PipelineError(f"there is no stack {self.stack} of the pipeline here: correct --stack or AWS_REGION")
        self.input_bucket, self.output_bucket = outputs["InputBucketName"], outputs["OutputBucketName"]
        self.prefix = f"{parameters.get('KeyPrefix', '')}{self.run_id}/"
        self.outputs = parameters.get("OutputPrefix", "")
        self.folders = written.folders(parameters)
        self.minimum = int(parameters.get("MinWorkers", "0"))
        self.s3, self.sqs = clients.client("s3"), clients.client("sqs")
        queues = {name: f"{outputs['QueuePrefix']}{name}" for name in (*QUEUES, *DEAD_LETTER_QUEUES)}
        self.urls = {name: self.sqs.get_queue_url(QueueName=queue)["QueueUrl"] for name, queue in queues.items()}
        self.cluster = outputs.get("ClusterName", self.stack)
        self.service = outputs.get("WorkerServiceName", "worker")

    def run(self) -> list[str]:
        """Runs the check; returns the problems."""
        dead = self.dead_letters()
        before = self.workers()
        click.echo(f"{self.images} images to s3://{self.input_bucket}/{self.prefix}; {before} workers run.")
        started, began = time.monotonic(), datetime.now(UTC)
        try:
            self.upload()
            click.echo(f"Uploaded after {time.monotonic() - started:.0f} s.")
            made = self.follow(started)
            wrong = [
                f"{self.images - count} of {folder} are missing"
                for folder, count in made.items()
                if count < self.images
            ]
            if lost := self.dead_letters() - dead:
                wrong.append(f"{lost} messages are in the dead-letter queues")
            if failed := self.count("failed/"):
                wrong.append(
                    f"{failed} images failed: see s3://{self.output_bucket}/{self.outputs}failed/{self.prefix}"
                )
            if self.with_ecs and not before:
                wrong += self.wake(began)
            if self.with_ecs:
                wrong += self.rest(started)
        finally:
            self.clean_up()
        return wrong

    def upload(self) -> None:
        def put(number: int) -> None:
            colour = (number % 256, number // 256 % 256, 128)
            data = io.BytesIO()
            Image.new("RGB", (1600, 1200), colour).save(data, "JPEG")
            self.s3.put_object(Bucket=self.input_bucket, Key=f"{self.prefix}{number:06}.jpg", Body=data.getvalue())

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, range(self.images)))

    def follow(self, started: float) -> dict[str, int]:
        """Prints a line per poll until all renditions exist, or the time is up; returns how many exist."""
        deadline = time.monotonic() + self.patience_s
        names = ("events", "tasks", "workers", *(folder.rstrip("/") for folder in self.folders))
        click.echo("     s" + "".join(f" {name:>8}" for name in names))
        while True:
            made = {folder: self.count(folder) for folder in self.folders}
            workers = self.workers()
            self.peak = max(self.peak, workers)
            numbers = [self.depth(EVENTS_QUEUE), self.depth(TASKS_QUEUE), workers, *made.values()]
            elapsed = time.monotonic() - started
            if workers and self.first_worker_s is None:
                self.first_worker_s = elapsed
            click.echo(
                f"{elapsed:>6.0f}"
                + "".join(f" {number:>{max(8, len(name))}}" for name, number in zip(names, numbers, strict=True))
            )
            finished = all(count >= self.images for count in made.values())
            if finished or self.count("failed/") or time.monotonic() > deadline:
                return made
            time.sleep(self.poll_s)

    def wake(self, began: datetime) -> list[str]:
        """Whether the bridge woke the workers, by its alarm's history."""
        if self.first_worker_s is not None:
            click.echo(f"{self.first_worker_s:>6.0f}  the first worker ran, from zero")
        alarm = f"{self.stack}-wake"
        pages = clients.cloudwatch().get_paginator("describe_alarm_history")
        found = pages.paginate(AlarmName=alarm, StartDate=began, EndDate=datetime.now(UTC)).build_full_result()
        return not_woken(alarm, found["AlarmHistoryItems"])

    def rest(self, started: float) -> list[str]:
        """Waits for the workers to go back to their minimum."""
        wrong = []
        if self.peak < max(1, self.expect_workers):
            wrong.append(f"at most {self.peak} workers ran")
        deadline = time.monotonic() + self.patience_s
        while (workers := self.workers()) > self.minimum:
            self.peak = max(self.peak, workers)
            if time.monotonic() > deadline:
                return [*wrong, f"{workers} workers still run, not {self.minimum}"]
            click.echo(f"{time.monotonic() - started:>6.0f}  all done; {workers} workers still run")
            time.sleep(self.poll_s)
        click.echo(f"{time.monotonic() - started:>6.0f}  back to {workers} workers; {self.peak} at most")
        return wrong

    def workers(self) -> int:
        if not self.with_ecs:
            return 0
        ecs = clients.client("ecs")
        found = ecs.describe_services(cluster=self.cluster, services=[self.service])["services"]
        if not found:
            raise PipelineError(f"there is no service {self.service} in cluster {self.cluster}")
        return int(found[0]["runningCount"])

    def depth(self, name: str) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=self.urls[name], AttributeNames=["All"])["Attributes"]
        return sum(int(found[f"ApproximateNumberOfMessages{count}"]) for count in COUNTS)

    def dead_letters(self) -> int:
        return sum(map(self.depth, DEAD_LETTER_QUEUES))

    def count(self, folder: str) -> int:
        return sum(1 for _ in self.keys(self.output_bucket, self.outputs + folder + self.prefix))

    def keys(self, bucket: str, prefix: str) -> Iterator[dict[str, str]]:
        """Every version of every object below a prefix."""
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                yield {"Key": entry["Key"], "VersionId": entry["VersionId"]}

    def clean_up(self) -> None:
        """Deletes the images and their renditions; keeps failure records, for a person to read."""
        places = [(self.input_bucket, ""), *((self.output_bucket, self.outputs + each) for each in self.folders)]
        for bucket, folder in places:
            found = list(self.keys(bucket, folder + self.prefix))
            for start in range(0, len(found), 1000):
                objects: Any = found[start : start + 1000]
                self.s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


def not_woken(alarm: str, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems if the bridge has not woken workers by this alarm."""
    told = [item for item in history if item["HistoryItemType"] == "StateUpdate" and REASON in item["HistoryData"]]
    if not told:
        return [f"the bridge did not set the alarm {alarm}, so workers came by the metrics, minutes later: see its log"]
    actions = [item["HistorySummary"] for item in history if item["HistoryItemType"] == "Action"]
    if not any(action.startswith("Successfully") for action in actions):
        return [f"the bridge set the alarm {alarm}, and its action started no worker: {'; '.join(actions) or 'none'}"]
    return []


def live_check(
    stack: str, *, images: int, expect_workers: int, poll_s: float, patience_s: float, with_ecs: bool
) -> int:
    """Returns the exit status. Raises ``PipelineError``."""
    with translate_errors(f"checking stack {stack}"):
        wrong = Check(stack, images, expect_workers, poll_s, patience_s, with_ecs=with_ecs).run()
    for sentence in wrong:
        click.echo(f"WRONG: {sentence}.")
    if not wrong:
        click.echo(f"OK: {images} images in, {images} of each rendition out, no dead letters.")
    return 1 if wrong else 0
