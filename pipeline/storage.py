"""The object store: exact reads, writes with their metadata, and one mapping of its errors.

Errors are told apart by code and HTTP status alone, never by their text: object stores differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from pipeline import aws
from pipeline.errors import ObjectChanged, ObjectGone, PipelineError, TransientError
from pipeline.source import Source


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read: its bytes and what the store says about them."""

    data: bytes
    etag: str
    version_id: str | None
    content_type: str
    metadata: Mapping[str, str]


def read(source: Source, *, check_bytes: Callable[[int], None]) -> Stored:
    """Reads exactly the version that ``source`` names: by version id where there is one, else by ETag.

    ``check_bytes`` is given the object's size before it is downloaded, and may raise.
    Raises ``ObjectGone``, ``ObjectChanged`` and ``TransientError``.
    """
    request: dict[str, Any] = {"Bucket": source.bucket, "Key": source.key}
    if source.version_id is not None:
        request["VersionId"] = source.version_id
    elif source.etag is not None:
        request["IfMatch"] = f'"{source.etag}"'
    with _errors("read", source.uri):
        found = aws.s3().get_object(**request)
        with closing(found["Body"]) as body:
            check_bytes(found["ContentLength"])
            data = body.read()  # raises when fewer bytes arrive than were announced
    return Stored(
        data=data,
        etag=found["ETag"].strip('"'),
        version_id=_version(found),
        content_type=found.get("ContentType", ""),
        metadata=found.get("Metadata", {}),
    )


def write(bucket: str, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str]) -> str:
    """Writes one object and returns its ETag. Raises ``TransientError``."""
    with _errors("write", f"s3://{bucket}/{key}"):
        answer = aws.s3().put_object(
            Bucket=bucket, Key=key, Body=data, ContentType=content_type, Metadata=dict(metadata)
        )
    return answer["ETag"].strip('"')


def delete(bucket: str, key: str) -> None:
    """Deletes one object; one that isn't there is fine. Raises ``TransientError``."""
    with _errors("delete", f"s3://{bucket}/{key}"):
        aws.s3().delete_object(Bucket=bucket, Key=key)


def _version(answer: Mapping[str, Any]) -> str | None:
    """The version id; buckets without versioning answer none, or ``"null"``."""
    found = answer.get("VersionId")
    return None if found in (None, "null") else str(found)


@contextmanager
def _errors(verb: str, uri: str) -> Iterator[None]:
    """Turns what boto3 raises into this project's errors, naming the object."""
    try:
        yield
    except ClientError as exc:
        raise _meaning(exc, verb, uri) from exc
    except (BotoCoreError, HTTPClientError, IncompleteReadError, OSError) as exc:
        raise TransientError(f"could not {verb} {uri}: {exc}") from exc


def _meaning(exc: ClientError, verb: str, uri: str) -> PipelineError:
    code = str(exc.response.get("Error", {}).get("Code", ""))
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return TransientError(f"could not {verb} {uri}: its bucket does not exist")
    if verb == "read" and (status == 404 or code in ("NoSuchKey", "NoSuchVersion", "404")):
        return ObjectGone(f"{uri} was deleted after its event was sent")
    if status in (409, 412) or code == "PreconditionFailed":
        return ObjectChanged(f"{uri} was overwritten after its event was sent")
    if status == 403:
        operation = exc.operation_name
        return TransientError(f"could not {verb} {uri}: this role may not call s3:{operation} on it ({code})")
    return TransientError(f"could not {verb} {uri}: the store answered {status} {code}")
