"""Logs and Flower show where the queues are: Celery's own words for it are ``sqs://localhost//``."""

from __future__ import annotations

import pytest

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"AWS_REGION": "eu-central-1"}, "sqs://eu-central-1/photos-"),
        ({"AWS_REGION": "cn-north-1"}, "sqs://cn-north-1/photos-"),
        ({"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "sqs://127.0.0.1:9/photos-"),
        ({}, "sqs:///photos-"),
    ],
)
def test_a_connection_says_where_its_queues_are(
    environ: dict[str, str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    clients.forget_clients()
    with make_app(Settings.from_env({"QUEUE_PREFIX": "photos-"})).connection() as connection:
        assert connection.as_uri() == shown
        assert connection.clone().as_uri() == shown
    clients.forget_clients()
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
