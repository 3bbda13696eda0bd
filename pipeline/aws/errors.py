"""Describes boto3's exceptions: what is wrong with the configuration or the service, and what to do.

Errors are distinguished by code and HTTP status, never by their text, since servers differ. ``pipeline.s3.storage`` and
``pipeline.aws.queues`` know what a code means for an object or a queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from pipeline.aws.plain_errors import PlainError

#: AWS's error codes, which differ from service to service.
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_INVALID = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
#: Throttling errors; S3 sends them with HTTP status 503, other services with 400.
_BUSY = {"RequestLimitExceeded", "RequestThrottled", "SlowDown", "Throttling", "ThrottlingException"}
#: For a missing queue or topic; with and without the prefix of SQS's older protocol.
_MISSING_QUEUE = {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"}
_MISSING_TOPIC = {"NotFound", "NotFoundException"}


def code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def status(exc: ClientError) -> int | None:
    """The HTTP status."""
    found: int | None = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found


def is_denied(exc: ClientError) -> bool:
    """Whether the credentials are valid but lack the permission."""
    return (code(exc) in _DENIED or status(exc) == 403) and code(exc) not in _INVALID


def is_passing(exc: ClientError) -> bool:
    """Whether the service fails or is busy, so that it may answer in a moment."""
    known = status(exc)
    return known is None or known >= 500 or known == 429 or code(exc) in _BUSY


def may_be_everybodys(exc: ClientError) -> bool:
    """Whether every object may get the same answer: the service fails or throttles, or rejects the credentials."""
    return is_passing(exc) or code(exc) in _INVALID or is_denied(exc)


def is_missing_queue(exc: ClientError) -> bool:
    return code(exc) in _MISSING_QUEUE


def is_missing(exc: ClientError) -> bool:
    """Whether a queue or topic does not exist."""
    return code(exc) in _MISSING_QUEUE | _MISSING_TOPIC


def describe_error(exc: Exception) -> str:
    """What went wrong, and what to do if that is known.

    Formatted to follow a prefix such as ``could not read s3://…:``.
    """
    match exc:
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
            text = f"no AWS credentials ({exc}): run `aws configure`, or set AWS_PROFILE"
        case CredentialRetrievalError() | TokenRetrievalError() | SSOError():
            text = f"the AWS credentials could not be loaded ({exc}): log in again"
        case NoRegionError():
            text = "no AWS region: set AWS_REGION, for example AWS_REGION=eu-west-1"
        case ClientError() if code(exc) in _INVALID:
            text = f"AWS does not accept these credentials ({code(exc)}): log in again"
        case ClientError() if is_denied(exc):
            text = f"not allowed ({code(exc)}): these credentials may not call {exc.operation_name}: {_text(exc)}"
        case ClientError():
            text = f"AWS answered {status(exc)} {code(exc)} to {exc.operation_name}: {_text(exc)}"
        case ConnectionError():
            text = f"{str(exc).rstrip('.')}: check the network, AWS_REGION and AWS_ENDPOINT_URL"
        case _:
            text = str(exc)
    return text.rstrip(": ")


def _text(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Message", ""))


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Converts boto3's errors into ``PlainError``. ``doing``: names the operation, as the message's prefix."""
    try:
        yield
    except (ClientError, BotoCoreError) as exc:
        raise PlainError(f"{doing}: {describe_error(exc)}") from exc
    except ResponseParserError as exc:
        raise PlainError(f"{doing}: the answer is not AWS's ({exc}): check AWS_ENDPOINT_URL") from exc
