"""The object store's errors, told apart by code and status alone; and what is asked of the store."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

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
from pipeline.s3 import storage
from pipeline.s3.listing import UnorderedListing, list_objects
from pipeline.testing.s3 import EPOCH, S3Model, error


def failing(exc: Exception) -> Any:
    class Client:
        def __getattr__(self, name: str) -> Any:
            def call(**_: Any) -> None:
                raise exc

            return call

    return Client()


def read() -> Any:
    return storage.read(Source("b", "k"), check_bytes=lambda _: None)


def write() -> Any:
    return storage.write("b", "k", b"", content_type="", metadata={})


def head() -> Any:
    return storage.head("b", "k")


def listing() -> Any:
    return list(list_objects("b"))


@pytest.mark.parametrize(
    ("act", "operation", "code", "status", "kind", "says"),
    [
        (read, "GetObject", "NoSuchKey", 404, ObjectGone, "s3://b/k was deleted"),
        (read, "GetObject", "", 404, ObjectGone, "was deleted"),
        (read, "GetObject", "PreconditionFailed", 412, ObjectChanged, "was overwritten"),
        (read, "GetObject", "InvalidObjectState", 403, NotReadable, "archived"),
        (read, "GetObject", "NoSuchBucket", 404, ServiceUnavailable, "bucket b does not exist"),
        (read, "GetObject", "AccessDenied", 403, ServiceUnavailable, "need s3:GetObject on s3://b/k"),
        (read, "GetObject", "SlowDown", 503, ServiceUnavailable, "answered 503 SlowDown"),
        (write, "PutObject", "PreconditionFailed", 412, storage.Conflict, "somebody else"),
        (write, "PutObject", "ConditionalRequestConflict", 409, storage.Conflict, "somebody else"),
        (write, "PutObject", "NoSuchKey", 404, storage.Conflict, "somebody else"),
        (write, "PutObject", "NoSuchBucket", 404, ServiceUnavailable, "bucket b does not exist"),
        (write, "PutObject", "KeyTooLongError", 400, KeyTooLong, "longer than S3 allows"),
        (write, "PutObject", "AccessDenied", 403, ServiceUnavailable, "need s3:PutObject on s3://b/k"),
        (head, "HeadObject", "403", 403, ServiceUnavailable, "need s3:GetObject on s3://b/k"),
        (head, "HeadObject", "503", 503, ServiceUnavailable, "answered 503"),
        (listing, "ListObjectsV2", "AccessDenied", 403, ServiceUnavailable, "need s3:ListBucket on bucket b"),
        (listing, "ListObjectsV2", "NoSuchBucket", 404, ServiceUnavailable, "bucket b does not exist"),
    ],
)
def test_what_an_answer_means(
    monkeypatch: pytest.MonkeyPatch,
    act: Any,
    operation: str,
    code: str,
    status: int,
    kind: type[PipelineError],
    says: str,
) -> None:
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: failing(error(operation, code, status)))
    with pytest.raises(kind, match=says) as caught:
        act()
    assert type(caught.value) is kind


@pytest.mark.parametrize("act", [read, head])
@pytest.mark.parametrize(
    ("status", "kind"), [(404, TransientError), (403, ServiceUnavailable), (503, ServiceUnavailable)]
)
def test_an_object_that_alone_is_denied_is_told_from_a_policy(
    monkeypatch: pytest.MonkeyPatch, act: Any, status: int, kind: type[PipelineError]
) -> None:
    """By asking for what does not exist beside it."""

    def answer(Key: str, **_: Any) -> None:  # noqa: N803 - boto3's
        raise error("GetObject", "AccessDenied", 403) if Key == "k" else error("HeadObject", "", status)

    client = type("S3", (), {"get_object": staticmethod(answer), "head_object": staticmethod(answer)})
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: client)
    with pytest.raises(kind, match="need s3:GetObject on s3://b/k") as caught:
        act()
    assert type(caught.value) is kind


@pytest.mark.parametrize("act", [read, write, head, listing])
def test_no_answer_may_be_better_next_time(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: failing(ReadTimeoutError(endpoint_url="s3")))
    with pytest.raises(TransientError, match="could not"):
        act()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> S3Model:
    model = S3Model("b")
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: model)
    return model


def test_a_missing_bucket_is_not_a_missing_object(s3: S3Model) -> None:
    assert storage.current("b", "k") is None
    with pytest.raises(TransientError, match="bucket nowhere does not exist"):
        storage.current("nowhere", "k")


def test_an_old_version_is_not_read(s3: S3Model) -> None:
    old = s3.put("b", "k", b"old")
    s3.put("b", "k", b"new")
    with pytest.raises(ObjectChanged):
        storage.read(Source("b", "k", version_id=old.version_id), check_bytes=lambda _: None)
    s3.remove("b", "k")
    with pytest.raises(ObjectGone):
        storage.read(Source("b", "k", version_id=old.version_id), check_bytes=lambda _: None)


def test_the_same_bytes_uploaded_again_are_read_for_the_first_event(s3: S3Model) -> None:
    first = s3.put("b", "k", b"same")
    again = s3.put("b", "k", b"same")
    source = Source("b", "k", version_id=first.version_id, etag=first.etag)
    assert storage.read(source, check_bytes=lambda _: None).found.version_id == again.version_id


def test_a_listing_goes_through_all_pages(s3: S3Model) -> None:
    s3.page_size = 3
    for n in range(10):
        s3.put("b", f"a/{n}", b"")
        s3.put("b", f"b/{n}", b"")
    asked: list[str] = []
    assert [found.key for found in list_objects("b", "a/", on_request=asked.append)] == [f"a/{n}" for n in range(10)]
    assert asked == ["ListObjectsV2"] * 4
    assert [found.key for found in list_objects("b", "b/", after="b/6")] == ["b/7", "b/8", "b/9"]


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ([["b", "a"]], "lists 'a' after 'b'"),
        ([["a", "b"], ["b", "c"]], "lists 'b' after 'b'"),  # a page that is given twice
        ([["b", "c"], ["a"]], "lists 'a' after 'c'"),
        ([["é"], ["z"]], "lists 'z' after 'é'"),
        ([["a"], [], []], "has no more pages after 'a', and says that it has"),
    ],
)
def test_a_listing_that_goes_backwards_is_an_error_and_ends(
    pages: list[list[str]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Store:
        """Lists the pages, and the last one again and again, each time with the same token."""

        asked = 0

        def list_objects_v2(self, **_: Any) -> dict[str, Any]:
            keys = pages[min(self.asked, len(pages) - 1)]
            self.asked += 1
            contents = [{"Key": key, "ETag": '"e"', "Size": 1, "LastModified": EPOCH} for key in keys]
            return {"Contents": contents, "IsTruncated": True, "NextContinuationToken": str(min(self.asked, 2))}

    store = Store()
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: store)
    with pytest.raises(UnorderedListing, match=f"bucket b {says}"):
        list(list_objects("b"))
    assert store.asked <= 3


def test_what_is_listed_at_or_before_the_key_to_go_on_after_is_an_error(
    s3: S3Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("b", "a", b"")

    class Forgetful:
        def list_objects_v2(self, StartAfter: str, **more: Any) -> Any:  # noqa: N803
            return s3.list_objects_v2(**more)

    monkeypatch.setattr("pipeline.aws.clients.s3", Forgetful)
    with pytest.raises(UnorderedListing, match="lists 'a' after 'b'"):
        list(list_objects("b", after="b"))


def test_deletes_are_one_request_a_thousand_but_for_keys_that_xml_can_t_carry(s3: S3Model) -> None:
    keys = [f"{n}" for n in range(1500)]
    for key in (*keys, "bell\x07"):
        s3.put("b", key, b"")
    storage.delete("b", [*keys, "bell\x07", "not there"])
    assert s3.buckets["b"].existing() == []
    assert s3.requests == {"DeleteObjects": 2, "DeleteObject": 1}


@pytest.mark.parametrize(("code", "status"), [("MissingContentMD5", 400), ("NotImplemented", 501), ("", 405)])
def test_a_store_without_batch_deletes_is_asked_one_by_one(
    s3: S3Model, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    def refuse(**_: Any) -> None:
        raise error("DeleteObjects", code, status)

    monkeypatch.setattr(s3, "delete_objects", refuse)
    for key in "xyz":
        s3.put("b", key, b"")
    storage.delete("b", "xyz")
    assert s3.buckets["b"].existing() == []


def test_a_delete_that_failed_within_a_batch_is_an_error(s3: S3Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "delete_objects", lambda **_: {"Errors": [{"Key": "x", "Code": "AccessDenied"}]})
    with pytest.raises(TransientError, match="could not delete s3://b/x: the store says AccessDenied"):
        storage.delete("b", ["x", "y"])


def test_conditions_are_what_s3_documents(s3: S3Model) -> None:
    def put(data: bytes, **condition: Any) -> str:
        return storage.write("b", "k", data, content_type="", metadata={}, **condition)

    first = put(b"1", new=True)
    with pytest.raises(storage.Conflict):
        put(b"2", new=True)
    second = put(b"2", replaces=first)
    with pytest.raises(storage.Conflict):
        put(b"3", replaces=first)
    assert put(b"3") != second
    storage.delete("b", ["k"])
    with pytest.raises(storage.Conflict):
        put(b"4", replaces=second)


def test_an_unknown_error_of_the_sdk_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ClientError({}, "GetObject")
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: failing(odd))
    with pytest.raises(TransientError, match="answered None"):
        read()
