"""S3, SQS and SNS in the memory of one process, which counts each request: ``python -m benchmarks.server``.

SQS and SNS are those of the tests. The S3 supports what an image pipeline needs: whole objects with metadata, checksums
and write conditions, single and multiple deletes, and listings, in buckets that need not be created. It prints its
address, then serves until its standard input ends. ``/_bench/…`` puts thousands of objects, with their events, and
reports what was written; these requests are not counted. Signatures are not checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, quote_plus, unquote
from xml.sax.saxutils import escape

import tornado.httpserver
import tornado.netutil
import tornado.web

from tests.support.aws_server import AwsHandler, State

#: Maximum bytes of an object; the largest input of the benchmarks has 60 MB.
MAX_BYTES = 200_000_000
#: Keys in a page of a listing, as in S3.
MAX_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Blob:
    """The contents that all copies of a photo share."""

    data: bytes
    etag: str

    @classmethod
    def of(cls, data: bytes) -> Blob:
        return cls(data, hashlib.md5(data, usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Stored:
    blob: Blob
    headers: dict[str, str]  # from the PUT: content type, metadata, checksum
    modified: datetime


class Store(State):
    """The state of SQS and SNS, and the objects by bucket and key."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, Blob] = {}
        self.objects: defaultdict[str, dict[str, Stored]] = defaultdict(dict)
        self.last_put: dict[str, float] = {}  # time.monotonic(), by bucket
        self.first_receive: dict[str, float] = {}  # likewise, by caller and queue
        self.unknown: Counter[str] = Counter()  # requests that this server does not understand
        self.sequence = 0

    def put(self, bucket: str, key: str, stored: Stored) -> None:
        self.objects[bucket][key] = stored
        self.last_put[bucket] = time.monotonic()

    def seed(self, bucket: str, queue: str, prefix: str, blobs: list[str], count: int) -> None:
        """Puts ``count`` objects, from the blobs in turn, and sends S3's event for each."""
        url = self.url(self.sqs.find(queue))
        now = datetime.now(UTC).replace(microsecond=0)
        for number in range(count):
            key, blob = f"{prefix}{number:06d}.jpg", self.blobs[blobs[number % len(blobs)]]
            self.objects[bucket][key] = Stored(blob, {"Content-Type": "image/jpeg"}, now)
            self.sequence += 1
            self.sqs.send(
                self.sqs.find(url), {"MessageBody": event(bucket, key, blob, self.sequence)}, time.monotonic()
            )
        self.wake(queue)


def event(bucket: str, key: str, blob: Blob, sequence: int) -> str:
    """S3's event for a new object, as sent to a queue."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "example"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "uploads",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {
                "key": quote_plus(key, safe="/"),
                "size": len(blob.data),
                "eTag": blob.etag,
                "sequencer": f"{sequence:018X}",
            },
        },
    }
    return json.dumps({"Records": [record]})


class Handler(AwsHandler):
    """Recognizes SQS by its target header, SNS by its form; everything else is S3."""

    _state: Store

    async def post(self, *_: str) -> None:
        is_form = self.request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
        if is_form or "X-Amz-Target" in self.request.headers:
            await super().post()
        elif "delete" in self.request.arguments or self.request.query == "delete":
            self._delete_many()
        else:
            self._refuse(501, "NotImplemented")

    async def _answer_sqs(self, action: str, request: dict[str, Any]) -> None:
        if action == "ReceiveMessage":
            queue = request["QueueUrl"].rsplit("/", 1)[-1]
            self._state.first_receive.setdefault(f"{self._caller()} {queue}", time.monotonic())
        await super()._answer_sqs(action, request)

    def _name(self) -> tuple[str, str]:
        bucket, _, key = self.request.path.lstrip("/").partition("/")
        return unquote(bucket), unquote(key)

    def _count(self, action: str, bucket: str) -> None:
        self._state.counts[f"{action} {bucket}"] += 1
        self._state.calls[f"{self._caller()} {action} {bucket}"] += 1

    async def get(self, *_: str) -> None:
        self._read("GetObject")

    async def head(self, *_: str) -> None:
        self._read("HeadObject")

    def _read(self, action: str) -> None:
        bucket, key = self._name()
        if not key:
            self._look_at(bucket, action)
            return
        self._count(action, bucket)
        stored = self._state.objects[bucket].get(key)
        wanted = self.request.headers.get("If-Match")
        if stored is None:
            self._error_xml(404, "NoSuchKey")
            return
        if wanted is not None and wanted.strip('"') != stored.blob.etag:
            self._error_xml(412, "PreconditionFailed")
            return
        checksums = self.request.headers.get("x-amz-checksum-mode") == "ENABLED"
        for name, value in stored.headers.items():
            if checksums or not name.lower().startswith("x-amz-checksum"):
                self.set_header(name, value)
        self.set_header("ETag", f'"{stored.blob.etag}"')
        self.set_header("Last-Modified", format_datetime(stored.modified, usegmt=True))
        self.set_header("Accept-Ranges", "bytes")
        if action == "HeadObject":
            self.set_header("Content-Length", str(len(stored.blob.data)))
            self.finish()
            return
        self.set_header("Content-Length", str(len(stored.blob.data)))
        self.write(stored.blob.data)
        self.finish()

    def _look_at(self, bucket: str, action: str) -> None:
        """HeadBucket, or a page of ListObjectsV2."""
        if action == "HeadObject":
            self._count("HeadBucket", bucket)
            self.finish()
            return
        if self.get_query_argument("list-type", "") != "2":
            self._refuse(501, "NotImplemented")
            return
        self._count("ListObjectsV2", bucket)
        prefix = self.get_query_argument("prefix", "", strip=False)
        after = self.get_query_argument("continuation-token", self.get_query_argument("start-after", ""))
        keys = sorted(key for key in self._state.objects[bucket] if key.startswith(prefix) and key > after)
        page, more = keys[:MAX_KEYS], len(keys) > MAX_KEYS
        items = "".join(self._listed(key, self._state.objects[bucket][key]) for key in page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self.set_header("Content-Type", "application/xml")
        self.finish(
            f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        )

    def _listed(self, key: str, stored: Stored) -> str:
        return (
            f"<Contents><Key>{quote(key)}</Key><ETag>&quot;{stored.blob.etag}&quot;</ETag>"
            f"<Size>{len(stored.blob.data)}</Size><LastModified>{stored.modified.isoformat()}</LastModified></Contents>"
        )

    async def put(self, *_: str) -> None:
        bucket, key = self._name()
        if not key or self.request.query not in ("", "x-id=PutObject"):
            self._refuse(501, "NotImplemented")
            return
        self._count("PutObject", bucket)
        headers = self.request.headers
        there = self._state.objects[bucket].get(key)
        wanted = headers.get("If-Match")
        if wanted is not None and there is None:
            self._error_xml(404, "NoSuchKey")
            return
        if (headers.get("If-None-Match") == "*" and there is not None) or (
            wanted is not None and there is not None and wanted.strip('"') != there.blob.etag
        ):
            self._error_xml(412, "PreconditionFailed")
            return
        data: bytes = self.request.body
        trailer: dict[str, str] = {}
        if "aws-chunked" in headers.get("Content-Encoding", ""):
            data, trailer = unchunked(data)
        kept = {
            name: value
            for name, value in {**dict(headers.get_all()), **trailer}.items()
            if name.lower() == "content-type" or re.match("x-amz-(meta|checksum)-", name.lower())
        }
        kept.setdefault("Content-Type", "binary/octet-stream")
        stored = Stored(Blob.of(data), kept, datetime.now(UTC).replace(microsecond=0))
        self._state.put(bucket, key, stored)
        self.set_header("ETag", f'"{stored.blob.etag}"')
        self.finish()

    async def delete(self, *_: str) -> None:
        bucket, key = self._name()
        self._count("DeleteObject", bucket)
        self._state.objects[bucket].pop(key, None)
        self.set_status(204)
        self.finish()

    def _delete_many(self) -> None:
        bucket, _ = self._name()
        self._count("DeleteObjects", bucket)
        for key in re.findall(r"<Key>(.*?)</Key>", self.request.body.decode()):
            self._state.objects[bucket].pop(key, None)
        self.set_header("Content-Type", "application/xml")
        self.finish("<DeleteResult/>")

    def _error_xml(self, status: int, code: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/xml")
        self.finish("" if self.request.method == "HEAD" else f"<Error><Code>{escape(code)}</Code></Error>")

    def _refuse(self, status: int, code: str) -> None:
        self._state.unknown[f"{self.request.method} {self.request.uri}"] += 1
        self._error_xml(status, code)


def unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The bytes and the trailing headers of a body in ``aws-chunked`` encoding."""
    data, rest = bytearray(), body
    while True:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if size == 0:
            break
        data += rest[:size]
        rest = rest[size + 2 :]
    lines = (line.partition(":") for line in rest.decode().split("\r\n") if line)
    return bytes(data), {name: value.strip() for name, _, value in lines}


class BenchHandler(tornado.web.RequestHandler):
    """Answers the harness. These requests are not counted."""

    def initialize(self, state: Store) -> None:
        self._state = state

    def get(self, what: str) -> None:
        answers: dict[str, Any] = {"calls": self._calls, "progress": self._progress, "receives": self._receives}
        self.finish(json.dumps(answers[what]()))

    def put(self, what: str) -> None:
        """``PUT blob?name=…``: stores a photo, from which objects can be made."""
        assert what == "blob"
        self._state.blobs[self.get_query_argument("name")] = Blob.of(self.request.body)
        self.finish("{}")

    def post(self, what: str) -> None:
        body = json.loads(self.request.body or b"{}")
        if what == "seed":
            self._state.seed(**body)
            self.finish(json.dumps({"at": time.monotonic()}))
            return
        assert what == "empty"
        for bucket in body["buckets"]:
            self._state.objects.pop(bucket, None)
        self.finish("{}")

    def _calls(self) -> dict[str, Any]:
        return {"calls": self._state.calls, "counts": self._state.counts, "unknown": self._state.unknown}

    def _receives(self) -> dict[str, Any]:
        return {"now": time.monotonic(), "first": self._state.first_receive}

    def _progress(self) -> dict[str, Any]:
        """The number of objects in each folder of a bucket, the time of the last PUT, and the depths of some queues."""
        bucket, queues = self.get_query_argument("bucket"), self.get_query_arguments("queue")
        folders = Counter(key.partition("/")[0] for key in self._state.objects[bucket])
        now, depths = time.monotonic(), {}
        for name in queues:
            queue = self._state.sqs.find(name)
            queue.advance(now)
            depths[name] = list(queue.counts().values())
        return {"folders": folders, "last_put": self._state.last_put.get(bucket), "depths": depths}


async def serve() -> None:
    state = Store()
    application = tornado.web.Application(
        [(r"/_bench/(\w+)", BenchHandler, {"state": state}), (r"/.*", Handler, {"state": state})],
        log_function=lambda handler: None,
    )
    server = tornado.httpserver.HTTPServer(application, max_buffer_size=MAX_BYTES)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    state.port = sockets[0].getsockname()[1]
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{state.port}", flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve())
