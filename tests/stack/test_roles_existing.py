"""The pipeline on buckets that were there before, encrypted with keys of KMS, under the template's roles.

Uploads come through the stack's EventBridge rule; what is allowed is enough, and no bucket is written but the output's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.deploy import written
from tests.stack.cloud import Cloud
from tests.stack.iam import Call, grants
from tests.stack.rules.base import EXISTING, KEYS
from tests.stack.template import Stack, load
from tests.support.waiting import wait_until

SAMPLES = Path(__file__).parents[2] / "samples"
ROLES = {"bridge": "BridgeRole", "worker": "WorkerRole"}
PHOTOS, SCANS = EXISTING["ExistingInputBuckets"].split(",")
SITE, PREFIX = EXISTING["ExistingOutputBucket"], EXISTING["OutputPrefix"]
RENDITIONS = ("resized", "thumbs", "sizes/medium")
PHOTOS_KEY, SCANS_KEY = KEYS["InputKmsKeyArns"].split(",")


@dataclass(frozen=True)
class Run:
    calls: frozenset[tuple[str, Call]]
    denied: frozenset[tuple[str, Call]]
    outputs: frozenset[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("existing")
    parameters = EXISTING | {"Flower": "no", "Renditions": "resized=1024x768,thumbs=192x192,sizes/medium=640x480"}
    parameters[written.PARAMETER] = written.arns(parameters, bucket=SITE, partition="aws")
    stack = Stack(load(), parameters)
    cloud = Cloud(stack, folder)
    try:
        s3 = cloud.client("s3")
        for bucket in (PHOTOS, SCANS, SITE):
            s3.create_bucket(Bucket=bucket)
        for bucket in (PHOTOS, SCANS):  # what `deploy --input-bucket` does
            s3.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
        cloud.deploy(**{name: value for name, value in parameters.items() if name in stack.template["Parameters"]})
        cloud.guard({who: grants(stack, role) for who, role in ROLES.items()})
        cloud.encrypt({PHOTOS: PHOTOS_KEY, SCANS: SCANS_KEY, SITE: KEYS["OutputKmsKeyArn"]})
        cloud.start("bridge", "BridgeTask")
        cloud.start("worker", "WorkerTask", "-n", "worker@test")
        photo = (SAMPLES / "rocket.jpg").read_bytes()
        s3.put_object(Bucket=PHOTOS, Key="a b/one.jpg", Body=photo)
        s3.put_object(Bucket=SCANS, Key="two.jpg", Body=photo)
        s3.put_object(Bucket=SCANS, Key="broken.jpg", Body=photo[:1000])
        wanted = {f"{PREFIX}{kind}/{key}" for kind in RENDITIONS for key in ("a b/one.jpg", "two.jpg")}
        wanted.add(f"{PREFIX}failed/broken.jpg.json")
        try:
            wait_until(lambda: wanted <= cloud.outputs(), "every upload's end")
            wait_until(lambda: cloud.depth("tasks") + cloud.depth("events") == 0, "empty queues")
        except AssertionError as exc:
            denied = [entry for entry in cloud.calls() if not entry[2]]
            logs = "\n".join(f"== {who}\n{cloud.log(who)[-3000:]}" for who in ROLES)
            raise AssertionError(f"{exc}\nmade: {sorted(cloud.outputs())}\ndenied: {denied}\n{logs}") from exc
        for who in ROLES:
            cloud.end(who)
        calls = cloud.calls()
        yield Run(
            frozenset((who, call) for who, call, _ in calls),
            frozenset((who, call) for who, call, allowed in calls if not allowed),
            frozenset(cloud.outputs()),
        )
    finally:
        cloud.stop()


def test_nothing_that_it_asks_for_is_denied(run: Run) -> None:
    assert run.denied == frozenset()


def test_each_key_is_used_for_its_own_bucket_and_purpose(run: Run) -> None:
    asked = {call for who, call in run.calls if who == "worker" and call.action.startswith("kms:")}
    assert {Call("kms:Decrypt", PHOTOS_KEY), Call("kms:Decrypt", SCANS_KEY)} <= asked
    assert Call("kms:GenerateDataKey", KEYS["OutputKmsKeyArn"]) in asked
    assert not {call for call in asked if call.action == "kms:GenerateDataKey"} - {
        Call("kms:GenerateDataKey", KEYS["OutputKmsKeyArn"])
    }


def test_only_the_output_bucket_is_written_and_only_in_the_pipeline_s_folders(run: Run) -> None:
    written = {call.resource for _, call in run.calls if call.action in ("s3:PutObject", "s3:DeleteObject")}
    folders = tuple(f"arn:aws:s3:::{SITE}/{PREFIX}{folder}/" for folder in (*RENDITIONS, "failed"))
    assert written
    assert [arn for arn in written if not arn.startswith(folders)] == []


def test_all_that_is_made_is_below_the_prefix(run: Run) -> None:
    assert run.outputs
    assert [name for name in run.outputs if not name.startswith(PREFIX)] == []


def test_without_flower_no_topic_and_no_control_queue_is_asked_for(run: Run) -> None:
    assert [call for _, call in run.calls if call.action.startswith("sns:") or "pidbox" in call.resource] == []
