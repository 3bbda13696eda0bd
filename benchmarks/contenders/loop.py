"""The loop of AWS's reference sample for batch processing on ECS, rewritten: receive ten, work, delete one by one.

It has no retries and no dead letters, and handles neither repeated deliveries nor newer uploads.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from urllib.parse import unquote_plus

import boto3

logger = logging.getLogger("sample")

#: From an image's bytes to those of its resized picture and its thumbnail, both JPEG.
MakeBoth = Callable[[bytes], tuple[bytes, bytes]]


def run(make_both: MakeBoth) -> None:
    """Until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    output = os.environ["OUTPUT_BUCKET"]
    url = sqs.get_queue_url(QueueName=os.environ["QUEUE_PREFIX"] + "events")["QueueUrl"]
    while True:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20, VisibilityTimeout=120)
        for message in received.get("Messages", []):
            found = json.loads(message["Body"])["Records"][0]["s3"]
            bucket, key = found["bucket"]["name"], unquote_plus(found["object"]["key"])
            data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            resized, thumb = make_both(data)
            s3.put_object(Bucket=output, Key=f"resized/{key}", Body=resized, ContentType="image/jpeg")
            s3.put_object(Bucket=output, Key=f"thumbs/{key}", Body=thumb, ContentType="image/jpeg")
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            logger.info("done: %s", key)
