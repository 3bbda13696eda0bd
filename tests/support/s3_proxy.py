"""A proxy between the tasks and S3 that can be told to fail: ``python -m tests.support.s3_proxy <upstream>``.

Prints its address. ``POST /_control/faults`` adds a fault (``aws_server.Fault``; the action is the HTTP
method, the queue a part of the path), ``POST /_control/repair`` removes all, ``GET /_control/counts`` tells
what was done.
"""

from __future__ import annotations

import asyncio
import sys

import tornado.httpclient
import tornado.httpserver
import tornado.netutil
import tornado.web

from tests.support.aws_server import FOREVER_S, ControlHandler, State

HOP_BY_HOP = {"connection", "transfer-encoding", "content-encoding", "keep-alive", "te", "trailer", "upgrade"}
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected</Message></Error>'


class ProxyHandler(tornado.web.RequestHandler):
    def initialize(self, state: State, upstream: str) -> None:
        self._state = state
        self._upstream = upstream
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def forward(self) -> None:
        method, path = str(self.request.method), self.request.path
        self._state.counts[method] += 1
        fault = self._state.fault(method, path)
        if fault is None:
            await self._pass_on(method)
            return
        self._state.counts[f"fault {method} {fault.kind} {fault.status}"] += 1
        if fault.kind == "error":
            self.set_status(fault.status)
            self.set_header("Content-Type", "application/xml")
            self.finish("" if method == "HEAD" else ERROR.format(code=fault.code))
        elif fault.kind == "hang":
            await asyncio.wait([asyncio.ensure_future(self._gone.wait())], timeout=FOREVER_S)
        else:
            connection = self.request.connection
            assert connection is not None
            connection.close()  # type: ignore[attr-defined]

    get = put = head = delete = post = forward  # type: ignore[assignment]

    async def _pass_on(self, method: str) -> None:
        request = tornado.httpclient.HTTPRequest(
            self._upstream + self.request.uri,  # type: ignore[operator]
            method=method,
            headers={name: value for name, value in self.request.headers.get_all() if name.lower() != "expect"},
            body=self.request.body if method in ("PUT", "POST") else None,
            allow_nonstandard_methods=True,
            decompress_response=False,
            follow_redirects=False,
            request_timeout=60,
        )
        reply = await tornado.httpclient.AsyncHTTPClient().fetch(request, raise_error=False)
        self.set_status(reply.code, reply.reason)
        self.clear_header("Content-Type")
        for name, value in reply.headers.get_all():
            if name.lower() not in HOP_BY_HOP:
                self.add_header(name, value) if name.lower() == "set-cookie" else self.set_header(name, value)
        if reply.code not in (204, 304) and method != "HEAD":
            self.write(reply.body or b"")
        self.finish()


async def serve(upstream: str) -> None:
    state = State()
    tornado.httpclient.AsyncHTTPClient.configure(None, max_clients=100, max_body_size=500_000_000)
    application = tornado.web.Application(
        [
            (r"/_control/(\w+)", ControlHandler, {"state": state}),
            (r"/.*", ProxyHandler, {"state": state, "upstream": upstream}),
        ],
        log_function=lambda handler: None,
    )
    server = tornado.httpserver.HTTPServer(application, max_buffer_size=500_000_000)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
