"""The object store: exact reads, conditional writes with metadata, and the mapping of its errors.

Errors are distinguished by code and HTTP status, never by their text, since object stores differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.batches import batches
from pipeline.aws.errors import code, describe_error, is_denied, may_be_everybodys, status
from pipeline.aws.xml import NOT_XML
from pipeline.core.errors import (
    KeyTooLong,
    NotReadable,
    ObjectChanged,
    ObjectGone,
    PipelineError,
    ServiceUnavailable,
    TransientError,
)
from pipeline.core.source import Source
from pipeline.s3.shortcut import Shortcut

#: Of an object that is read into a file, so much is in memory.
CHUNK_BYTES = 1 << 20
#: S3's limit for one DeleteObjects.
MAX_DELETES = 1000
#: No object has this name: requesting it shows whether these credentials may read at all.
NOBODY = ".batch-image-pipeline/no-such-object"
#: Verbs that may fail for a single object. Writes and deletions happen only in the pipeline's own folders.
_OF_ONE = ("read", "look at")
#: The IAM action, where its name differs from the operation's.
_ACTIONS = {"HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket"}
_ACTIONS |= {"DeleteObjects": "DeleteObject"}


class Conflict(PipelineError):
    """A conditional write found a different object than expected: check again, then decide again."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the store says about an object."""

    key: str
    etag: str  # without quotes
    size: int  # bytes
    modified: datetime
    version_id: str | None = None
    content_type: str = ""
    metadata: Mapping[str, str] | None = None  # None where it was only listed


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's bytes (none if they are in a file), and what the store says about them."""

    data: bytes
    found: Found
    metadata: Mapping[str, str]


def read(
    source: Source,
    *,
    check_bytes: Callable[[int], None],
    into: Path | None = None,
    shortcut: Shortcut | None = None,
) -> Stored:
    """Reads the current object, if it is the one that ``source`` names: by ETag if known, else by version.

    The request does not name the version: an old version can still be read by its id after the object was
    overwritten or deleted, and renditions must not show it then.

    ``check_bytes`` gets the object's size before the download, and may raise. ``into``: a file for the bytes, instead
    of memory. ``shortcut``: what may answer in boto3's place.
    Raises ``ObjectGone``, ``ObjectChanged``, ``NotReadable`` and ``TransientError``.
    """
    request: dict[str, Any] = {"Bucket": source.bucket, "Key": source.key}
    if source.etag is not None:
        request["IfMatch"] = f'"{source.etag}"'
    with storage_errors("read", source.uri):
        answer = None if into is not None else _short_get(source, shortcut)
        if answer is None:
            with _watched(shortcut, source.bucket, source.key):
                answer = clients.s3().get_object(**request)
        with closing(answer["Body"]) as body:
            found = _found(source.key, answer)
            if source.etag is None and source.version_id not in (None, found.version_id):
                raise ObjectChanged(f"{source.uri} was overwritten after its event was sent")
            if source.size not in (None, found.size):
                raise ObjectChanged(f"{source.uri} has {found.size} bytes, and not the {source.size} that were told of")
            check_bytes(found.size)
            # Raises if fewer bytes arrive than announced.
            data = body.read() if into is None else _into_file(body, into, source.uri)
    return Stored(data, found, found.metadata or {})


def _short_get(source: Source, shortcut: Shortcut | None) -> Any:
    return shortcut and shortcut.get(source.bucket, source.key, etag=source.etag, size=source.size)


def _watched(shortcut: Shortcut | None, bucket: str, key: str) -> AbstractContextManager[None]:
    return nullcontext() if shortcut is None else shortcut.watching(clients.s3(), bucket, key)


def _into_file(body: Any, path: Path, uri: str) -> bytes:
    with path.open("wb", buffering=0) as file:
        while chunk := body.read(CHUNK_BYTES):
            try:
                file.write(chunk)
            except OSError as exc:
                raise TransientError(f"{uri} could not be kept in {path.parent}: {exc.strerror}") from exc
    return b""


def read_beginning(source: Source, length: int) -> bytes:
    """The first bytes of the object, if it is still the one that ``source`` names. Raises as ``read`` does."""
    request: dict[str, Any] = {"Bucket": source.bucket, "Key": source.key, "Range": f"bytes=0-{length - 1}"}
    if source.etag is not None:
        request["IfMatch"] = f'"{source.etag}"'
    with storage_errors("read", source.uri):
        try:
            answer = clients.s3().get_object(**request)
        except ClientError as exc:
            if status(exc) == 416:  # an empty object has no first byte
                return b""
            raise
        with closing(answer["Body"]) as body:
            data: bytes = body.read(length)  # a store without ranges sends everything
    return data


def head(bucket: str, key: str) -> Found | None:
    """What the store says about an object; None if it does not exist. Raises ``TransientError``."""
    with storage_errors("look at", f"s3://{bucket}/{key}"):
        try:
            return _found(key, clients.s3().head_object(Bucket=bucket, Key=key))
        except ClientError as exc:
            if status(exc) == 404:
                return None
            raise


def current(bucket: str, key: str) -> Found | None:
    """As ``head``, but None is certain enough to delete renditions: a missing bucket raises an error."""
    found = head(bucket, key)
    if found is None:
        with storage_errors("look at", f"s3://{bucket}"):
            try:
                clients.s3().head_bucket(Bucket=bucket)
            except ClientError as exc:
                if status(exc) == 404:
                    raise ServiceUnavailable(_no_bucket(bucket)) from exc
                raise
    return found


def write(
    bucket: str,
    key: str,
    data: bytes | Path,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    cache_control: str | None = None,
    new: bool = False,
    replaces: str | None = None,
    shortcut: Shortcut | None = None,
) -> str:
    """Writes one object, from memory or from a file, and returns its ETag.

    ``new``: only if no object exists; ``replaces``: only over the object with that ETag; neither: unconditionally.
    ``shortcut``: what may write in boto3's place.
    Raises ``Conflict``, ``KeyTooLong`` and ``TransientError``.
    """
    options: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
    if replaces is not None:
        options = {"IfMatch": f'"{replaces}"'}
    if cache_control is not None:
        options["CacheControl"] = cache_control
    with ExitStack() as opened, storage_errors("write", f"s3://{bucket}/{key}"):
        if shortcut is not None and replaces is None and isinstance(data, bytes):
            etag = shortcut.put(
                bucket, key, data, content_type=content_type, metadata=metadata, cache_control=cache_control, new=new
            )
            if etag is not None:
                return etag
        body = opened.enter_context(data.open("rb")) if isinstance(data, Path) else data
        with _watched(shortcut, bucket, key):
            answer = clients.s3().put_object(
                Bucket=bucket, Key=key, Body=body, ContentType=content_type, Metadata=dict(metadata), **options
            )
    return answer["ETag"].strip('"')


def delete(bucket: str, keys: Iterable[str]) -> None:
    """Deletes objects, a thousand per request; ignores missing ones. Raises ``TransientError``."""
    for batch in batches(keys, MAX_DELETES):
        with storage_errors("delete", f"s3://{bucket}/{batch[0]}"):
            for key in _delete_batch(bucket, batch):
                clients.s3().delete_object(Bucket=bucket, Key=key)


def _delete_batch(bucket: str, batch: list[str]) -> list[str]:
    """Deletes all keys that one request can name; returns those that must be deleted one by one."""
    named = [key for key in batch if not NOT_XML.search(key)]
    if len(named) < 2:
        return batch
    try:
        answer = clients.s3().delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in named]})
    except ClientError as exc:
        # Stores without DeleteObjects, or which need a checksum that today's SDKs no longer send.
        if code(exc) in ("MissingContentMD5", "NotImplemented") or status(exc) in (405, 501):
            return batch
        raise
    for error in answer.get("Errors", []):
        raise TransientError(f"could not delete s3://{bucket}/{error.get('Key')}: the store says {error.get('Code')}")
    return [key for key in batch if NOT_XML.search(key)]


def _found(key: str, answer: Any) -> Found:
    version = answer.get("VersionId")
    return Found(
        key=key,
        etag=answer["ETag"].strip('"'),
        size=answer["ContentLength"],
        modified=answer["LastModified"],
        version_id=None if version in (None, "null") else str(version),  # "null": written before versioning
        content_type=answer.get("ContentType", ""),
        metadata=answer.get("Metadata", {}),
    )


@contextmanager
def storage_errors(verb: str, uri: str) -> Iterator[None]:
    """Converts boto3's errors into this project's; the message names the object."""
    try:
        yield
    except ClientError as exc:
        raise _meaning(exc, verb, uri) from exc
    except (BotoCoreError, OSError) as exc:
        raise ServiceUnavailable(f"could not {verb} {uri}: {describe_error(exc)}") from exc


def _no_bucket(bucket: str) -> str:
    return f"bucket {bucket} does not exist: make it, or correct the name"


def _meaning(exc: ClientError, verb: str, uri: str) -> PipelineError:
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if code(exc) == "NoSuchBucket":
        return ServiceUnavailable(f"could not {verb} {uri}: {_no_bucket(bucket)}")
    if verb == "read" and (read := _of_reading(exc, uri)) is not None:
        return read
    if verb == "write" and (written := _of_writing(exc, uri)) is not None:
        return written
    is_everybodys = may_be_everybodys(exc) and not _is_alone(exc, verb, uri)
    kind = ServiceUnavailable if is_everybodys else TransientError
    if is_denied(exc):
        action = f"s3:{_ACTIONS.get(exc.operation_name, exc.operation_name)}"
        resource = f"bucket {bucket}" if action == "s3:ListBucket" else uri
        return kind(f"could not {verb} {uri}: not allowed ({code(exc)}); these credentials need {action} on {resource}")
    return kind(f"could not {verb} {uri}: {describe_error(exc)}")


def _is_alone(exc: ClientError, verb: str, uri: str) -> bool:
    """Whether only this object can't be read: a missing object in its folder is answered with 404.

    For a missing object S3 answers 404 to those who may list the bucket, and 403 to others.
    """
    if verb not in _OF_ONE or not uri.removeprefix("s3://").partition("/")[2]:
        return False
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    ask: Any = clients.s3().get_object if exc.operation_name == "GetObject" else clients.s3().head_object
    try:
        ask(Bucket=bucket, Key=f"{key.rpartition('/')[0]}/{NOBODY}".lstrip("/"))
    except ClientError as other:
        return status(other) == 404
    except (BotoCoreError, OSError):
        return False
    return False


def _of_reading(exc: ClientError, uri: str) -> PipelineError | None:
    if status(exc) == 404:
        return ObjectGone(f"{uri} was deleted after its event was sent")
    if status(exc) == 412:
        return ObjectChanged(f"{uri} was overwritten after its event was sent")
    if code(exc) == "InvalidObjectState":
        return NotReadable(f"{uri} is archived, so it can't be read.")
    return None


def _of_writing(exc: ClientError, uri: str) -> PipelineError | None:
    # 409: two conditional writes at once; 404: nothing there to replace.
    if status(exc) in (404, 409, 412):
        return Conflict(f"{uri} was written by somebody else meanwhile")
    if code(exc) == "KeyTooLongError":
        return KeyTooLong(f"The object's name is too long: {uri} is longer than S3 allows.")
    return None
