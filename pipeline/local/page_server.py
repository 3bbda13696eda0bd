"""Serves the live contact sheet on a loopback port, only to the person who runs the command.

Every path begins with a random secret, so that other users of the machine and pages of other sites get nothing. The
Host header is checked against DNS rebinding, and the Origin header against cross-site requests (CSRF).
"""

from __future__ import annotations

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import parse_qs, unquote

from pipeline.local.workbench import Refused

#: Maximum number of simultaneous connections; a browser opens six.
MAX_CONNECTIONS = 32
#: Timeout in seconds of each read and write on a connection.
TIMEOUT_S = 30
MAX_REQUEST_BYTES = 8192
#: No other site may embed or read an answer, and no cache keeps it.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: For files, whose content is untrusted: the browser runs no script in them.
FILE_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox"}


class Answer:
    """``is_file``: untrusted content. The browser downloads it unless it is a picture."""

    def __init__(self, data: bytes, content_type: str, *, is_file: bool = False) -> None:
        self.data = data
        self.content_type = content_type
        self.headers = HEADERS | (FILE_HEADERS if is_file else {})
        if is_file and not content_type.startswith("image/"):
            self.headers["Content-Disposition"] = "attachment"

    @classmethod
    def json(cls, value: Any) -> Self:
        return cls(json.dumps(value).encode(), "application/json")


class Site(Protocol):
    """Answers requests for the paths after the secret. Several threads call it at once."""

    def get(self, path: str, query: dict[str, str]) -> Answer | None:
        """Returns None for an unknown path."""

    def post(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Returns the JSON answer. Raises ``Refused``."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._free = BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores connections that the browser has closed."""


class PageServer:
    """A context manager. ``url``: the page's address, with the secret."""

    def __init__(self, site: Site) -> None:
        secret = secrets.token_urlsafe(18)

        class Handler(_Handler):
            """Each server has its own site and secret."""

        self._server = _Server(Handler)
        port = self._server.server_address[1]
        Handler.site, Handler.prefix = site, f"/{secret}/"
        Handler.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.url = f"http://127.0.0.1:{port}/{secret}/"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    site: ClassVar[Site]
    prefix: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        name, _, query = path.partition("?")
        fields = {field: values[-1] for field, values in parse_qs(query, keep_blank_values=True).items()}
        answer = self.site.get(unquote(name), fields)
        if answer is None:
            self._refuse(404, "not found")
        else:
            self._send(200, answer)

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        origins = [f"http://{host}" for host in self.hosts]
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") not in origins:
            self._refuse(403, "the request is not from this page")
        elif kind != "application/json" or not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self._refuse(400, f"the request must be JSON of at most {MAX_REQUEST_BYTES} bytes")
        else:
            self._post(path, int(length))

    def _post(self, path: str, length: int) -> None:
        try:
            asked = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            self._refuse(400, "the request is not a JSON object")
            return
        try:
            self._send(200, Answer.json(self.site.post(path, asked)))
        except Refused as exc:
            self._refuse(422, str(exc))
        except Exception as exc:  # a defect: shown on the page, where the person is looking
            self._refuse(500, f"this failed: {type(exc).__name__}: {exc}")

    def _path(self) -> str | None:
        """The path after the secret; None if the request was refused."""
        if self.headers.get("Host") not in self.hosts:
            self._refuse(403, "open the page under the address that the command printed")
        elif not secrets.compare_digest(self.path[: len(self.prefix)].encode(), self.prefix.encode()):
            self._refuse(404, "not found")
        else:
            return self.path[len(self.prefix) :]
        return None

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, Answer.json({"error": why}))

    def _send(self, status: int, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.data)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.data)

    def version_string(self) -> str:
        return "pipeline"

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the terminal shows the run's progress."""
