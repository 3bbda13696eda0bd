"""Credentials and addresses as people have them: a publish and a receive with each, in ways of boto3's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest

from pipeline.aws import clients
from pipeline.local.stack import Emulator
from tests.public_reports.test_sending import Side, sides
from tests.support.stage import aws_server

__all__ = ["aws_server", "sides"]

KEY = "AKIAOFATEST000000000"


@pytest.fixture
def ours(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> Side:
    """With no credentials in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    clients.forget_clients()
    return sides[0]


def used_keys(ours: Side) -> set[str]:
    """The access keys of a publish and a receive."""
    ours.send("hello")
    client = clients.sqs_receiver(30)
    url = client.get_queue_url(QueueName=f"{ours.prefix}tasks")["QueueUrl"]
    (message,) = client.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(json.loads(message["Body"])["body"])[0] == ["hello"]
    done = {f"{action} {ours.prefix}tasks" for action in ("SendMessage", "ReceiveMessage")}
    calls = [name.split(" ", 1) for name in ours.server.calls()]
    assert done <= {what for _, what in calls}
    return {key for key, what in calls if what in done}


def test_a_profile(ours: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[shop]\naws_access_key_id = {KEY}\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    assert used_keys(ours) == {KEY}


@contextmanager
def answering(body: Callable[[], object]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = json.dumps(body()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/credentials"
        finally:
            server.shutdown()
            thread.join()


def test_a_container(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ECS gives them to a task."""
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {"AccessKeyId": KEY, "SecretAccessKey": "secret", "Token": "token", "Expiration": until}
    with answering(lambda: given) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        assert used_keys(ours) == {KEY}


def test_a_web_identity(ours: Side, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes gives them to a pod; moto's STS exchanges the token."""
    file = tmp_path / "token"
    file.write_text("a.token.of-a-test")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", emulator.endpoint)
    (key,) = used_keys(ours)
    assert key.startswith("ASIA")


def test_an_address_of_ipv6(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ours.server.url.replace("127.0.0.1", "[::1]"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clients.forget_clients()
    assert used_keys(ours) == {KEY}
