"""The one place that makes AWS clients: plain boto3, so the usual AWS variables decide where they go."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.config import Config
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient


def _config(*, read_timeout_s: int = 60, max_connections: int = 10) -> Config:
    # Imported late: botocore costs most of the start-up time, and not every verb needs it.
    from botocore.config import Config

    return Config(
        connect_timeout=5,
        read_timeout=read_timeout_s,
        max_pool_connections=max_connections,
        retries={"mode": "standard", "total_max_attempts": 4},
        user_agent_extra="batch-image-pipeline",
    )


@cache
def s3() -> S3Client:
    import boto3

    return boto3.client("s3", config=_config())


@cache
def sqs() -> SQSClient:
    """Its read timeout is above the longest long poll (20 s)."""
    import boto3

    return boto3.client("sqs", config=_config(read_timeout_s=30))


@cache
def sns() -> SNSClient:
    import boto3

    return boto3.client("sns", config=_config())


def forget_clients() -> None:
    """Makes the next call build new clients: a connection must not be shared across a fork."""
    for client in (s3, sqs, sns):
        client.cache_clear()


os.register_at_fork(after_in_child=forget_clients)
