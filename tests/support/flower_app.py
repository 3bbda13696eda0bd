"""Flower's web application in this process, for tests of its pages that need neither a browser nor workers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import flower.api.control
import flower.events
import flower.urls
import flower.views
import pytest
from flower.app import Flower
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.testing import bind_unused_port

from pipeline.sqs.flower import options as ours
from tests.support.waiting import DEADLINE_S

PASSWORD = "user:secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    headers: HTTPHeaders
    text: str

    @property
    def cookies(self) -> dict[str, str]:
        """Set by the response; a cookie that it clears is empty."""
        pairs = (each.partition(";")[0].partition("=") for each in self.headers.get_list("Set-Cookie"))
        return {name: value.strip('"') for name, _, value in pairs}


class FlowerApp:
    """Answers requests as the installed Flower does. ``tasks``: what it knows of tasks, by id."""

    def __init__(self, capp: Any, **options: Any) -> None:
        self.tasks: dict[str, Any] = {}
        self._capp = capp
        defaults = {"url_prefix": "", "inspect_timeout": 1000.0, "basic_auth": [PASSWORD], "auth": "", "debug": False}
        more = {"read_only": False, "auto_refresh": True, "natural_time": False, "format_task": None}
        self._options = SimpleNamespace(**{**defaults, **more, "tasks_columns": "name,args,uuid", **options})

    def get(self, path: str, **headers: str) -> Page:
        return asyncio.run(self._fetch("GET", path, None, headers))

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        return asyncio.run(self._fetch("POST", path, urlencode(fields), headers))

    async def _fetch(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Page:
        """``headers``: with underscores for hyphens; an empty one is not sent."""
        secret = base64.b64encode(PASSWORD.encode()).decode()
        named = {"Authorization": f"Basic {secret}"} | {name.replace("_", "-"): text for name, text in headers.items()}
        events = SimpleNamespace(state=SimpleNamespace(tasks=self.tasks, workers={}, counter={}))
        settings = {**flower.urls.settings, "cookie_secret": "of these tests"}
        app = Flower(capp=self._capp, options=self._options, events=events, **settings)
        socket, port = bind_unused_port()
        server = HTTPServer(app)
        server.add_sockets([socket])
        try:
            found: HTTPResponse = await AsyncHTTPClient().fetch(
                f"http://127.0.0.1:{port}{path}",
                method=method,
                body=body,
                headers={name: text for name, text in named.items() if text},
                follow_redirects=False,
                raise_error=False,
                request_timeout=DEADLINE_S,
            )
        finally:
            server.stop()
            app.executor.shutdown()
        return Page(found.code, found.headers, found.body.decode())


@contextmanager
def installed_flower(capp: Any, **options: Any) -> Iterator[FlowerApp]:
    """With what ``pipeline.sqs.flower`` puts into Flower's modules, which are as before at the end."""
    handler = flower.api.control.ControlHandler
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flower.urls, "handlers", list(flower.urls.handlers))
        patch.setattr(flower.urls, "settings", dict(flower.urls.settings))
        patch.setattr(flower.views, "Broker", flower.views.Broker)
        patch.setattr(flower.events, "PrometheusMetrics", flower.events.PrometheusMetrics)
        patch.setattr(handler, "error_reason", handler.error_reason)
        ours.install(capp.sqs)
        patch.setattr("flower.app.default_handlers", flower.urls.handlers)
        yield FlowerApp(capp, **options)
