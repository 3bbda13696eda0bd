"""Reports about Flower, events, remote control and places."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from flower.options import default_options
from kombu.transport import SQS

from pipeline.aws.plain_errors import ConfigError
from pipeline.core.s3_event import parse
from pipeline.sqs import BrokerSettings, install
from pipeline.sqs.flower import options as ours
from pipeline.sqs.monitoring import claimed_queue
from pipeline.sqs.monitoring.names import Kind, kind_of, topics
from pipeline.sqs.transport.transport import Transport
from tests.public_reports.registry import report


@report(
    "mher/flower#687, #65, #497, #727, #783, celery/celery#1291, #4279",
    "events and remote control on SQS",
    "over two SNS topics",
    "the transport has no fanout",
)
def test_the_transport_has_fanout() -> None:
    assert "fanout" in Transport.implements.exchange_type
    assert "fanout" not in SQS.Transport.implements.exchange_type


@report(
    "celery/celery#8348",
    "the cost of the queues for remote control",
    "no queues without topics; otherwise each is removed with its process, and leftovers are swept",
)
def test_without_topics_there_is_no_remote_control() -> None:
    app = Celery("reports", set_as_current=False)
    install(app)
    assert app.conf.worker_enable_remote_control is False
    assert kind_of("0123456789abcdef0123-pidbox") is Kind.CONTROL


@report(
    "mher/flower#1128, PR#1492, #604, #1004, #900, #1422",
    "workers that have stopped stay in the list and in the metrics",
    "removed after ten minutes",
    "kept for ever, unless an option is set",
)
def test_dead_workers_are_forgotten() -> None:
    assert ours.DEFAULTS["purge_offline_workers"] == 600
    assert default_options.purge_offline_workers is None


@report(
    "mher/flower#1075, #1198, #1020",
    "Flower's memory and file grow",
    "the last 10,000 tasks are kept",
    "the last 100,000 are kept",
)
def test_flower_keeps_so_many_tasks() -> None:
    assert ours.DEFAULTS["max_tasks"] == 10_000
    assert default_options.max_tasks == 100_000


class Options:
    basic_auth: tuple[str, ...] = ()
    auth = ""
    address = ""
    unix_socket = ""
    read_only = False


@report(
    "mher/flower#1240",
    "Flower and its API without a password",
    "listens only on 127.0.0.1, without buttons; refuses any other address",
    "listens on all addresses, with buttons",
)
def test_without_a_password_it_is_not_open() -> None:
    assert (default_options.address, default_options.basic_auth, default_options.auth) == ("", [], "")
    options: Any = Options()
    assert ours.access(options, {}) == {"address": "127.0.0.1", "read_only": True}
    options.address = "0.0.0.0"  # noqa: S104
    with pytest.raises(ConfigError, match="open to everyone"):
        ours.access(options, {})


@report(
    "dapr/components-contrib#1907, aws-samples/ecs-refarch-cloudformation#82",
    "regions in China (`aws-cn`)",
    "ARNs have the region's partition",
)
def test_other_partitions() -> None:
    settings = BrokerSettings.made(queue_prefix="shop-", topic_arn_prefix="arn:aws-cn:sns:cn-north-1:123456789012:")
    arn = topics(settings)["celeryev"]["arn"]
    assert arn == "arn:aws-cn:sns:cn-north-1:123456789012:shop-celeryev"
    assert claimed_queue.queue_arn("shop-q", arn) == "arn:aws-cn:sqs:cn-north-1:123456789012:shop-q"


@report("localstack#2741, getmoto/moto#9060, binaryalert#54", "keys in S3's events are URL-encoded", "decoded once")
def test_keys_are_decoded() -> None:
    body = (
        '{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, '
        '"object": {"key": "a+b%2B%C3%BC%2520.jpg", "eTag": "e", "size": 1, "sequencer": "0A"}}}]}'
    )
    assert "a b+ü%20.jpg" in repr(parse(body))
