"""What a person reads when this machine's set-up is wrong, whichever service was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from pipeline.aws import clients
from pipeline.aws.errors import describe_error, is_denied, translate_errors
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.settings import Settings
from pipeline.operations import own_queues
from pipeline.s3 import storage
from tests.support.scripted import scripted_channel


def client_error(code: str, status: int, message: str = "") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "ListThings"
    )


@pytest.mark.parametrize(
    ("exc", "says"),
    [
        (boto.NoCredentialsError(), "no AWS credentials (Unable to locate credentials): run `aws configure`"),
        (boto.ProfileNotFound(profile="p"), "no AWS credentials (The config profile (p) could not be found): run"),
        (boto.SSOTokenLoadError(error_msg="expired"), "log in again"),
        (boto.NoRegionError(), "no AWS region: set AWS_REGION, for example"),
        (boto.EndpointConnectionError(endpoint_url="http://x"), '"http://x": check the network, AWS_REGION and AWS_E'),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), '"http://x": check the network, AWS_REGION and AWS_E'),
        (client_error("ExpiredToken", 400), "AWS does not accept these credentials (ExpiredToken): log in again"),
        (client_error("InvalidAccessKeyId", 403), "AWS does not accept these credentials (InvalidAccessKeyId)"),
        (client_error("AccessDenied", 403), "not allowed (AccessDenied): these credentials may not call ListThings"),
        (client_error("SlowDown", 503, "Reduce"), "AWS answered 503 SlowDown to ListThings: Reduce"),
    ],
)
def test_it_says_what_to_do(exc: Exception, says: str) -> None:
    assert says in describe_error(exc)
    with pytest.raises(PipelineError) as caught, translate_errors("counting things"):
        raise exc
    assert str(caught.value) == f"counting things: {describe_error(exc)}"


def test_credentials_that_are_not_accepted_need_no_permission() -> None:
    assert is_denied(client_error("403", 403))
    assert not is_denied(client_error("SignatureDoesNotMatch", 403))


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """This process, with clients of its own for what the test sets."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    clients.forget_clients()
    yield monkeypatch
    clients.forget_clients()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_credentials_the_store_and_the_queues_say_so(nowhere: pytest.MonkeyPatch, variable: str) -> None:
    nowhere.delenv(variable)
    with pytest.raises(PipelineError, match=r"^could not look at s3://b/k: no AWS credentials .*aws configure"):
        storage.head("b", "k")
    with pytest.raises(PipelineError, match=r"^queue pipeline-tasks: no AWS credentials .*aws configure"):
        own_queues.url_of(Settings(), "tasks")


def test_an_address_that_is_none_is_named(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(ConfigError, match=r"AWS_ENDPOINT_URL=localhost:4566.*written http://host:port"):
        storage.head("b", "k")


def test_aws_region_is_enough(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.delenv("AWS_DEFAULT_REGION")
    nowhere.setenv("AWS_REGION", "eu-west-1")
    assert clients.sqs().meta.region_name == "eu-west-1"
    nowhere.delenv("AWS_REGION")
    clients.forget_clients()
    with pytest.raises(PipelineError, match="no AWS region is set: set AWS_REGION"):
        own_queues.url_of(Settings(), "tasks")


def test_a_worker_signs_its_receives_for_aws_region(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.delenv("AWS_DEFAULT_REGION")
    nowhere.setenv("AWS_REGION", "eu-west-1")
    with scripted_channel() as channel:
        assert channel.sqs().meta.region_name == "eu-west-1"
        assert clients.sqs_receiver(channel.reply_timeout_s).meta.region_name == "eu-west-1"


def test_an_answer_that_is_not_of_aws_is_one_sentence() -> None:
    with (
        pytest.raises(PipelineError, match=r"asking: the answer is not AWS's .*check AWS_ENDPOINT_URL"),
        translate_errors("asking"),
    ):
        raise ResponseParserError("<html>")
