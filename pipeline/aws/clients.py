"""Makes all clients of AWS: plain boto3, so the usual AWS variables configure them.

``pipeline.s3.shortcut`` makes clients of another kind, and copies from these how they reach S3.
AWS_REGION works too, as in the AWS CLI and other SDKs; boto3 itself reads only AWS_DEFAULT_REGION.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.aws.forks import unforked
from pipeline.aws.plain_errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

#: Longest time that a read from S3 may wait for data.
S3_READ_TIMEOUT_S = 60


def region() -> str | None:
    """AWS_REGION; None leaves the choice to boto3: AWS_DEFAULT_REGION, or its configuration file."""
    return os.environ.get("AWS_REGION") or None


@cache
def _client(service: str, read_timeout_s: float, region_name: str | None = None, attempts: int = 4) -> Any:
    # Imported late: botocore costs most of the start-up time, and not every verb needs it.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    session: Any = boto3
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="batch-image-pipeline",
    )
    try:
        with unforked():
            return session.client(service, region_name=region_name or region(), config=config)
    except NoRegionError as exc:
        raise ConfigError("no AWS region is set: set AWS_REGION, for example to eu-west-1") from exc
    except ValueError as exc:  # raised for an invalid endpoint URL or region
        variables = ("AWS_ENDPOINT_URL", f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_REGION", "AWS_DEFAULT_REGION")
        given = ", ".join(f"{name}={os.environ[name]}" for name in variables if name in os.environ)
        raise ConfigError(
            f"no address of {service.upper()} follows from {given} ({exc}): an endpoint is written http://host:port, "
            "a region eu-west-1"
        ) from exc


def s3() -> S3Client:
    client: S3Client = _client("s3", S3_READ_TIMEOUT_S)
    return client


def sqs(*, long_poll: bool = True) -> SQSClient:
    """The read timeout is above the longest long poll (20 s); without long polls a short one is enough."""
    client: SQSClient = _client("sqs", 30 if long_poll else 5)
    return client


def sqs_receiver(read_timeout_s: float) -> SQSClient:
    """For a receiving loop with its own back-off: boto3 does not retry."""
    client: SQSClient = _client("sqs", read_timeout_s, attempts=1)
    return client


def sns() -> SNSClient:
    client: SNSClient = _client("sns", 60)
    return client


def cloudwatch() -> Any:
    return _client("cloudwatch", 10)


def client(service: str, region_name: str | None = None) -> Any:
    """Any other service, for the commands that manage the stack: ``cloudformation``, ``ecs``, ``iam``…

    ``region_name``: a region other than the configured one.
    """
    return _client(service, 60, region_name)


def forget_clients() -> None:
    """Drops all cached clients."""
    _client.cache_clear()


def _begin_anew() -> None:
    forget_clients()
    boto3 = sys.modules.get("boto3")
    if boto3 is not None:
        vars(boto3)["DEFAULT_SESSION"] = None  # its credentials' lock may have been held at the fork


# Connections must not be shared across a fork: a worker's pool processes make their own.
os.register_at_fork(after_in_child=_begin_anew)
