"""Receiving trusts whom all other requests trust, and takes the same way: an own CA, a proxy, none for some hosts."""

from __future__ import annotations

import select
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from botocore.exceptions import SSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.aws import clients
from tests.support.scripted import scripted_channel
from tests.support.serving import serving

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


@contextmanager
def sqs(certificate: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that answers every request with ``{}``; its address, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust it hangs up."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server) as port:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{port}", paths


@contextmanager
def tunnels() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A proxy as they are for TLS: it leads to a host and sees nothing of what is said. Its address, and who asked for
    which host."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as far:
                self.send_response(200)
                self.end_headers()
                ways = {self.connection: far, far: self.connection}
                while True:
                    for ready in select.select(list(ways), [], [])[0]:
                        data = ready.recv(65_536)
                        if not data:
                            return
                        ways[ready].sendall(data)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True  # a tunnel stays until one of the two hangs up

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        yield f"127.0.0.1:{port}", asked


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own CA")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "ca.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*VARIABLES, *map(str.lower, VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    yield
    clients.forget_clients()


def receive() -> None:
    """As a worker does it."""
    with scripted_channel(wait_time_seconds=0) as channel:
        assert channel.reader.receive("tasks", 1).messages == []


@pytest.mark.parametrize("how", ["variable", "profile"])
def test_an_own_ca_is_trusted_where_aws_is_told_to(
    certificate: Path, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqs(certificate) as (address, paths):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", address)
        with pytest.raises(SSLError):
            receive()
        assert paths == []
        clients.forget_clients()
        if how == "variable":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        else:
            config = tmp_path / "config"
            config.write_text(f"[profile own]\nca_bundle = {certificate}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
            monkeypatch.setenv("AWS_PROFILE", "own")
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
        receive()
        assert paths == ["/"]


def test_a_proxy_is_used_but_for_the_hosts_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with sqs() as (proxy, through), sqs() as (address, direct):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://sqs.invalid:81")
        receive()
        assert through == ["http://sqs.invalid:81/"]
        clients.forget_clients()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        receive()
        assert (len(through), direct) == (1, ["/"])


def test_tls_goes_through_a_proxy_s_tunnel(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with tunnels() as (proxy, asked), sqs(certificate) as (address, paths):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{proxy}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", address)
        receive()
        login = f"Basic {b64encode(b'user:secret').decode()}"
        assert (paths, asked) == (["/"], [(address.removeprefix("https://"), login)])
        clients.forget_clients()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        receive()
        assert (len(paths), len(asked)) == (2, 1)
