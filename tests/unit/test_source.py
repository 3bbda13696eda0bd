import pytest

from pipeline.core.errors import MessageError
from pipeline.core.source import Source


def test_a_uri_names_bucket_and_literal_key() -> None:
    assert Source.parse("s3://bucket/a b/100%25+c.jpg") == Source(bucket="bucket", key="a b/100%25+c.jpg")


def test_its_json_form_round_trips_and_leaves_out_what_is_not_known() -> None:
    source = Source("b", "k", version_id="v", etag="e", size=0, sequencer="00A1")
    assert Source.parse(source.to_json()) == source
    assert Source("b", "k").to_json() == {"bucket": "b", "key": "k"}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("bucket/key", "write s3://bucket/key"),
        ("s3://bucket", "write s3://bucket/key"),
        ("s3:///key", "write s3://bucket/key"),
        ({"bucket": "b"}, "needs a bucket and a key"),
        ({"bucket": "b", "key": 7}, "key of a source is 7"),
        ({"bucket": "b", "key": "k", "size": True}, "size of a source is True"),
        (None, "not None"),
    ],
)
def test_what_names_no_object_is_refused_with_a_reason(value: object, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        Source.parse(value)
