"""The live check on a modelled account: it goes by the renditions that the stack's parameters say."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.deploy.live_check import live_check
from tests.support.answers import Answers

FOLDERS = ("thumbs", "medium", "sizes/large@2x")
PARAMETERS = {
    "Renditions": "thumbs=192x192:cover,medium=640x480:webp,sizes/large@2x=2048x1536",
    "OutputPrefix": "previews/",
    "KeyPrefix": "in/",
}
OUTPUTS = {"InputBucketName": "photos-in", "OutputBucketName": "photos-out", "QueuePrefix": "photos-"}


class Account:
    """A pipeline that makes every rendition at once, but for those in ``lost``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lost: str) -> None:
        self.keys: set[tuple[str, str]] = set()
        self._made = [folder for folder in FOLDERS if folder not in lost]
        aws = Answers(monkeypatch)
        described = {
            "StackName": "photos",
            "StackStatus": "CREATE_COMPLETE",
            "CreationTime": 0,
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()],
            "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in OUTPUTS.items()],
        }
        aws.on("cloudformation.DescribeStacks", {"Stacks": [described]})
        aws.on("sqs.GetQueueUrl", lambda asked: {"QueueUrl": f"https://aws.test/1/{asked['QueueName']}"})
        aws.on(
            "sqs.GetQueueAttributes",
            {"Attributes": {f"ApproximateNumberOfMessages{each}": "0" for each in ("", "NotVisible", "Delayed")}},
        )
        aws.on("s3.PutObject", self._put)
        aws.on("s3.ListObjectVersions", self._list)
        aws.on("s3.DeleteObjects", self._delete)

    def _put(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.keys.add((asked["Bucket"], asked["Key"]))
        self.keys |= {("photos-out", f"previews/{folder}/{asked['Key']}") for folder in self._made}
        return {"ETag": "e"}

    def _list(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = sorted(
            key for bucket, key in self.keys if bucket == asked["Bucket"] and key.startswith(asked["Prefix"])
        )
        return {"Versions": [{"Key": key, "VersionId": "1"} for key in found], "IsTruncated": False}

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.keys -= {(asked["Bucket"], each["Key"]) for each in asked["Delete"]["Objects"]}
        return {}


def check() -> int:
    return live_check("photos", images=1, expect_workers=1, poll_s=0, patience_s=0, with_ecs=False)


def test_every_rendition_is_waited_for_and_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(monkeypatch)
    assert check() == 0
    out = capsys.readouterr().out
    assert "OK: 1 images in, 1 of each rendition out, no dead letters." in out
    (header,) = (line.split() for line in out.splitlines() if "events" in line)
    assert sorted(header) == sorted(["s", "events", "tasks", "workers", *FOLDERS])
    assert account.keys == set()


def test_one_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    account = Account(monkeypatch, "medium")
    assert check() == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")] == [
        "WRONG: 1 of medium/ are missing."
    ]
    assert account.keys == set()
