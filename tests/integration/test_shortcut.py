"""obstore reads and writes as boto3 does, or boto3 does it: each case is compared with boto3 alone."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from pipeline.aws import clients
from pipeline.core.errors import ObjectChanged, ObjectGone
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.s3 import shortcut as module
from pipeline.s3 import storage
from pipeline.s3.shortcut import UNDERSTOOD, Shortcut, problem
from pipeline.s3.storage import Stored
from tests.support.serving import serving

DATA = bytes(range(256)) * 40
METADATA = {"source-etag": "abc", "recipe": "r.1", "source-key": "a%20b"}


@contextmanager
def boto3_counted() -> Iterator[list[str]]:
    """What boto3 sends in this block: the methods of its requests."""
    sent: list[str] = []

    def note(request: Any, **_: Any) -> None:
        sent.append(request.method)

    events = clients.s3().meta.events
    events.register_first("before-send.s3", note)
    try:
        yield sent
    finally:
        events.unregister("before-send.s3", note)


def written(bucket: str, key: str, shortcut: Shortcut | None, data: bytes = DATA, **options: Any) -> str:
    headers: dict[str, Any] = {"content_type": "image/jpeg", "metadata": METADATA, "cache_control": "max-age=300"}
    return storage.write(bucket, key, data, **headers | options, shortcut=shortcut)


def read(bucket: str, key: str, shortcut: Shortcut | None, etag: str | None, size: int | None = len(DATA)) -> Stored:
    return storage.read(Source(bucket, key, etag=etag, size=size), check_bytes=lambda _: None, shortcut=shortcut)


@pytest.fixture
def bucket(stack: Settings) -> str:
    return stack.required("output_bucket")


@pytest.fixture
def shortcut(bucket: str) -> Shortcut:
    """It knows the way to the bucket."""
    made = Shortcut()
    written(bucket, "first.jpg", made)
    return made


def test_boto3_shows_the_way_and_the_rest_goes_by_obstore(bucket: str) -> None:
    made = Shortcut()
    with boto3_counted() as sent:
        etags = [written(bucket, f"a/{n}.jpg", made, new=True) for n in range(3)]
        for n, etag in enumerate(etags):
            read(bucket, f"a/{n}.jpg", made, etag)
            read(bucket, f"a/{n}.jpg", made, etag, None)  # a rendition, by the result of the task that made it
    assert sent == ["PUT"]


def test_what_is_stored_and_read_is_the_same(bucket: str, shortcut: Shortcut) -> None:
    clients.s3().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for options in ({}, {"new": True}, {"cache_control": None}):
        by_boto3 = written(bucket, "boto3.jpg", None, **options)
        with boto3_counted() as sent:
            by_obstore = written(bucket, "obstore.jpg", shortcut, **options)
            found = read(bucket, "obstore.jpg", shortcut, by_obstore)
        assert sent == []
        assert by_obstore == by_boto3
        assert found == read(bucket, "obstore.jpg", None, by_obstore)
        assert found.found.version_id is not None
        heads = [clients.s3().head_object(Bucket=bucket, Key=f"{name}.jpg") for name in ("boto3", "obstore")]
        wanted, made = ({k: v for k, v in head.items() if k in SAME} for head in heads)
        assert made == wanted
        for name in ("boto3", "obstore"):
            clients.s3().delete_object(Bucket=bucket, Key=f"{name}.jpg")


SAME = {"CacheControl", "ContentLength", "ContentType", "ETag", "Metadata"}


def test_a_stranger_s_object_is_read_the_same(bucket: str, shortcut: Shortcut) -> None:
    """Compressed, without a type, with metadata that is no ASCII."""
    client = clients.s3()
    for number, options in enumerate(
        [
            {"ContentEncoding": "gzip", "ContentLanguage": "de", "ContentDisposition": "inline"},
            {"Metadata": {"n": "=?UTF-8?B?w6k=?=", "empty": ""}},
            {"StorageClass": "STANDARD_IA"},
        ]
    ):
        etag = client.put_object(Bucket=bucket, Key=f"{number}.jpg", Body=DATA, **options)["ETag"].strip('"')  # type: ignore[arg-type]
        assert read(bucket, f"{number}.jpg", shortcut, etag) == read(bucket, f"{number}.jpg", None, etag)


@pytest.mark.parametrize(
    "key", ["a b.jpg", "a//b.jpg", "./b.jpg", "a/../b.jpg", "é.jpg", "a%2Fb.jpg", "a+b=c.jpg", "a/"]
)
def test_an_unusual_key_is_left_to_boto3(bucket: str, shortcut: Shortcut, key: str) -> None:
    with boto3_counted() as sent:
        etag = written(bucket, key, shortcut)
        assert read(bucket, key, shortcut, etag).data == DATA
    assert sent == ["PUT", "GET"]


def test_conflicts_and_changes_are_boto3_s_answers(bucket: str, shortcut: Shortcut) -> None:
    etag = written(bucket, "a.jpg", shortcut)
    with boto3_counted() as sent:
        with pytest.raises(storage.Conflict):
            written(bucket, "a.jpg", shortcut, new=True)
        with pytest.raises(ObjectChanged):
            read(bucket, "a.jpg", shortcut, "0" * 32)
        with pytest.raises(ObjectChanged, match="has 10240 bytes"):
            read(bucket, "a.jpg", shortcut, etag, 5)
        with pytest.raises(ObjectGone):
            read(bucket, "gone.jpg", shortcut, etag)
        assert sent == ["PUT", "GET", "GET", "GET"]
        read(bucket, "a.jpg", shortcut, etag)  # none of these is a failure
    assert sent == ["PUT", "GET", "GET", "GET"]


def test_large_objects_are_left_to_boto3(bucket: str, shortcut: Shortcut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", len(DATA) - 1)
    with boto3_counted() as sent:
        etag = written(bucket, "a.jpg", shortcut)
        read(bucket, "a.jpg", shortcut, etag)
        assert read(bucket, "a.jpg", shortcut, etag, None).data == DATA  # of unknown size
    assert sent == ["PUT", "GET", "GET"]


def test_what_a_stub_answers_teaches_nothing(bucket: str) -> None:
    made = Shortcut()
    with Stubber(clients.s3()) as stub:
        stub.add_response("put_object", {"ETag": '"stubbed"'})
        assert written(bucket, "a.jpg", made) == "stubbed"
    with boto3_counted() as sent:
        written(bucket, "a.jpg", made)
    assert sent == ["PUT"]


class Door:
    """A server that stores nothing: it keeps the requests' headers, with names in lower case."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.obstore_status = 200
        self.open = threading.Event()
        self.open.set()


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Where this process's S3 is."""
    made = Door()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.requests.append((self.path, headers))
            made.open.wait()
            self.send_response(200 if is_of_boto3(headers) else made.obstore_status)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that waits no longer hangs up."""

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        clients.forget_clients()
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
        yield made
        made.open.set()
    clients.forget_clients()
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def signer(headers: dict[str, str]) -> str:
    found = re.match(r"AWS4-HMAC-SHA256 Credential=(.+?)/\d{8}/(.+?)/s3/aws4_request", headers["authorization"])
    assert found is not None
    return f"{found[1]} in {found[2]} {headers.get('x-amz-security-token')}"


def is_of_boto3(headers: dict[str, str]) -> bool:
    return "amz-sdk-invocation-id" in headers


def callers(door: Door) -> str:
    """Who asked, in order: b for boto3, o for obstore."""
    return "".join("b" if is_of_boto3(headers) else "o" for _, headers in door.requests)


def test_the_credentials_are_boto3_s_at_each_request(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.credentials import Credentials

    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    made = Shortcut()
    written("some-bucket", "a.jpg", made)
    import boto3

    held: Any = boto3.DEFAULT_SESSION.get_credentials()  # type: ignore[attr-defined]
    assert isinstance(held, Credentials)
    written("some-bucket", "b.jpg", made)
    held.access_key, held.token = "renewed", "a-token"  # as a container's are, every few hours
    written("some-bucket", "c.jpg", made)
    headers = [each for _, each in door.requests]
    assert [signer(each) for each in headers] == [
        "test in eu-west-3 None",
        "test in eu-west-3 None",
        "renewed in eu-west-3 a-token",
    ]
    assert len({each["user-agent"] for each in headers}) == 1
    assert [is_of_boto3(each) for each in headers] == [True, False, False]
    assert "x-amz-checksum-sha256" in headers[1]


def test_boto3_takes_over_and_obstore_rests(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    made = Shortcut()

    def callers_of(writes: int) -> str:
        del door.requests[:]
        for each in range(writes):
            written("some-bucket", f"{each}.jpg", made)
        return callers(door)

    assert callers_of(3) == "boo"
    door.obstore_status = 503
    assert callers_of(3) == "obbb"
    for rest_s in (2.0, 4.0, 8.0):  # the first, of a second, is over
        now[0] += rest_s / 2
        assert callers_of(3) == "bobb"
    door.obstore_status = 200
    now[0] += 8.0
    assert callers_of(3) == "boo"
    door.obstore_status = 403
    callers_of(1)
    now[0] += module.FIRST_REST_S
    assert callers_of(3) == "bobb"


def test_a_signal_s_error_passes_through(door: Door) -> None:
    """A soft time limit is such a signal. It is late by the patience at most, and nothing takes it for a failure."""

    class Limit(Exception):
        pass

    def limit(*_: Any) -> None:
        raise Limit

    made = Shortcut(patience_s=0.3)
    written("some-bucket", "a.jpg", made)
    door.open.clear()
    before = signal.signal(signal.SIGALRM, limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Limit):
            written("some-bucket", "b.jpg", made)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_forked_child_leaves_everything_to_boto3(door: Door) -> None:
    made = Shortcut()
    for name in "ab":
        written("some-bucket", f"{name}.jpg", made)
    child = os.fork()
    if child == 0:
        try:
            for name in "cd":
                written("some-bucket", f"{name}.jpg", made)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert callers(door) == "bobb"


def test_a_route_is_that_of_its_process(door: Door) -> None:
    """A child makes its own: at the fork, a lock of its parent's credentials may have been held."""
    made = Shortcut()
    written("some-bucket", "a.jpg", made)
    assert list(made._own_routes()) == ["some-bucket"]
    made._pid -= 1
    assert made._own_routes() == {}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("AWS_ALLOW_INVALID_CERTIFICATES", "may mean something else"),
        ("AWS_SERVER_SIDE_ENCRYPTION", "may mean something else"),
        ("AWS_USE_FIPS_ENDPOINT", "may mean something else"),
        ("HTTPS_PROXY", "proxy"),
        ("all_proxy", "proxy"),
    ],
)
def test_what_only_one_of_them_understands_is_left_to_boto3(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (*os.environ,):
        if each.lower().endswith("_proxy"):
            monkeypatch.delenv(each)
    assert problem() is None
    monkeypatch.setenv(name, "x")
    assert says in str(problem())


def test_only_a_route_that_obstore_can_repeat_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import boto3

    for name in module.TRUST:
        monkeypatch.delenv(name, raising=False)
    boto3.setup_default_session()
    signature = "AWS4-HMAC-SHA256 Credential=test/20260102/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"

    def route(url: str, authorization: str = signature) -> str | None:
        request = SimpleNamespace(url=url, headers={"Authorization": authorization, "User-Agent": b"agent"})
        found = module._route_of(request, "a/b.jpg")
        return None if found is None else f"{found.url} {found.region} {found.user_agent}"

    own = "https://photos.s3.eu-west-1.amazonaws.com"
    for url in (
        own,
        "https://s3.eu-west-1.amazonaws.com/photos",
        "https://mine-1.s3-accesspoint.eu-west-1.amazonaws.com",
    ):
        assert route(f"{url}/a/b.jpg") == f"{url} eu-west-1 agent"
    assert route(f"{own}/a/b.jpg?versionId=1") is None
    assert route(f"{own}/a/b.jpg", signature.replace("/s3/", "/s3express/")) is None
    assert route(f"{own}/a/b.jpg", signature.replace("AWS4-HMAC", "AWS4-ECDSA-P256")) is None
    assert route(f"{own}/a/b.jpg", "") is None
    assert route(f"{own}/a/b.jpg", signature.replace("=test/", "=others/")) is None
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/own.pem")
    boto3.setup_default_session()
    assert route(f"{own}/a/b.jpg") is None
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def test_obstore_s_own_variables_are_known() -> None:
    """An upgrade that reads one more of the variables that are let through fails here."""
    spec = find_spec("obstore")
    assert spec is not None
    assert spec.origin is not None
    told = set(re.findall(r"`(AWS_\w+)`", Path(spec.origin).with_name("_store").joinpath("_aws.pyi").read_text()))
    assert {name for name in told if UNDERSTOOD.match(name)} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
