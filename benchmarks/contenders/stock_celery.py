"""Celery on SQS as in its documentation: kombu's own transport, two independent tasks an image.

``celery -A benchmarks.contenders.stock_celery worker`` is the worker, ``python -m benchmarks.contenders.stock_celery``
the bridge. Each task reads the original. The image code is Pillow's ``Image.thumbnail``, with the pipeline's quality.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

import boto3
from celery import Celery
from PIL import Image, ImageOps

QUALITY = 85
PREFIX = os.environ.get("QUEUE_PREFIX", "")

app = Celery("stock", broker="sqs://")
app.conf.broker_transport_options = {"queue_name_prefix": PREFIX, "wait_time_seconds": 20, "polling_interval": 0}
app.conf.task_default_queue = "tasks"
app.conf.task_ignore_result = True
app.conf.task_acks_late = True
app.conf.broker_connection_retry_on_startup = True


@cache
def _s3(_pid: int) -> Any:
    return boto3.client("s3")


def _make(bucket: str, key: str, box: tuple[int, int], folder: str) -> None:
    s3 = _s3(os.getpid())
    data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail(box, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        ImageOps.exif_transpose(image).save(out, "JPEG", quality=QUALITY)
    s3.put_object(
        Bucket=os.environ["OUTPUT_BUCKET"], Key=f"{folder}/{key}", Body=out.getvalue(), ContentType="image/jpeg"
    )


@app.task(name="stock.resize")
def resize(bucket: str, key: str) -> None:
    _make(bucket, key, (1024, 768), "resized")


@app.task(name="stock.thumbnail")
def thumbnail(bucket: str, key: str) -> None:
    _make(bucket, key, (192, 192), "thumbs")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=PREFIX + "events")["QueueUrl"]
    while True:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in received.get("Messages", []):
            found = json.loads(message["Body"])["Records"][0]["s3"]
            bucket, key = found["bucket"]["name"], unquote_plus(found["object"]["key"])
            resize.delay(bucket, key)
            thumbnail.delay(bucket, key)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
