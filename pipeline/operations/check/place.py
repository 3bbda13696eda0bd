"""The resources for the checks: queues, a topic and a bucket, created for them and removed at the end."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients

#: The folder for objects.
FOLDER = "check/"


@dataclass(slots=True)
class Place:
    """``bucket``: for objects; None: a new bucket. The check of events always uses a new bucket.

    Thread-safe; each thread has queues of its own.
    """

    bucket: str | None
    queue_prefix: str
    patience_s: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _undo: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)
    _buckets: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prefix(self) -> str:
        return f"{FOLDER}{self.id}/"

    def objects(self) -> str:
        """The bucket for objects."""
        return self.own_bucket("objects") if self.bucket is None else self.bucket

    def own_bucket(self, purpose: str) -> str:
        """A new bucket for one purpose, created on first use."""
        with self._lock:
            if purpose not in self._buckets:
                name = f"pipeline-check-{self.id}-{purpose}"
                s3 = clients.client("s3")
                region = s3.meta.region_name
                # For us-east-1, S3 wants no LocationConstraint.
                where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
                s3.create_bucket(Bucket=name, **where)
                self._buckets[purpose] = name
                self._undo.append((f"bucket {name}", lambda: s3.delete_bucket(Bucket=name)))
                self._undo.append((f"objects in {name}", lambda: self._remove(name, "")))
            return self._buckets[purpose]

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """Creates a queue; returns its URL and ARN."""
        sqs: Any = clients.sqs()
        full = f"{self.queue_prefix}check-{self.id}-{name}"
        url: str = sqs.create_queue(QueueName=full, Attributes=attributes)["QueueUrl"]
        self._later(f"queue {full}", lambda: sqs.delete_queue(QueueUrl=url))
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def open_queue(self, name: str, service: str) -> tuple[str, str]:
        """As ``queue``, and lets the service send to it."""
        url, arn = self.queue(name)
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        clients.sqs().set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return url, arn

    def topic(self) -> str:
        """Creates a topic; returns its ARN."""
        sns = clients.sns()
        arn: str = sns.create_topic(Name=f"{self.queue_prefix}check-{self.id}")["TopicArn"]
        self._later(f"topic {arn}", lambda: sns.delete_topic(TopicArn=arn))
        return arn

    def put(self, name: str, body: bytes = b"x", **request: Any) -> str:
        """Writes an object; returns its ETag."""
        bucket, key = self.objects(), self.prefix + name
        etag: str = clients.client("s3").put_object(Bucket=bucket, Key=key, Body=body, **request)["ETag"]
        return etag

    def _later(self, what: str, undo: Callable[[], Any]) -> None:
        with self._lock:
            self._undo.append((what, undo))

    def clean_up(self) -> list[str]:
        """Removes everything that was created; returns what could not be removed, with the reason."""
        left = []
        if self.bucket is not None:
            bucket = self.bucket
            self._undo.append((f"s3://{bucket}/{self.prefix}", lambda: self._remove(bucket, self.prefix)))
        for what, undo in reversed(self._undo):
            try:
                undo()
            except (ClientError, BotoCoreError) as exc:
                left.append(f"{what}: {exc}")
        return left

    def _remove(self, bucket: str, prefix: str) -> None:
        """All versions."""
        s3 = clients.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                version = {"VersionId": entry["VersionId"]} if entry.get("VersionId") not in (None, "null") else {}
                s3.delete_object(Bucket=bucket, Key=entry["Key"], **version)
