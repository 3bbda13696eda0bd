"""Common parts of the pages: who may press a button, how an action ends, and how links are made."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from flower.views import BaseHandler
from tornado.web import HTTPError

from pipeline.core.console import printable
from pipeline.core.errors import PipelineError

logger = logging.getLogger(__name__)

#: Names of the routes.
OBJECT, LETTERS = "object", "dead-letters"
#: The cookie that carries an action's result to the page that it redirects to.
NOTICE = "notice"
#: The template for that result, and for a page's own error.
MESSAGES = Path(__file__).with_name("messages.html")

Value = TypeVar("Value")


class PageHandler(BaseHandler):  # type: ignore[misc, unused-ignore]
    """A page with buttons. A form's POST does the work and redirects to the page, so that reloading repeats nothing."""

    def check_xsrf_cookie(self) -> None:
        """Flower's check, and refuses requests from other sites: Flower checks nothing if no login is configured."""
        site, origin = self.request.headers.get("Sec-Fetch-Site"), self.request.headers.get("Origin")
        if site is not None and site != "same-origin":
            raise HTTPError(403, "Cross-site request forbidden")
        if site is None and origin is not None and urlsplit(origin).netloc != self.request.host:
            raise HTTPError(403, "Cross-origin request forbidden")
        super().check_xsrf_cookie()

    @property
    def read_only(self) -> bool:
        return bool(self.application.options.read_only)

    def check_may_act(self) -> None:
        if self.read_only:
            raise HTTPError(403, "Read only mode is enabled")

    def literal(self, name: str, found: dict[str, list[bytes]]) -> str:
        """A text of the query or the form, exactly as sent: tornado would replace control characters in keys.

        Empty if it is missing; raises ``HTTPError`` if it is not UTF-8.
        """
        values = found.get(name, [b""])
        try:
            return values[-1].decode()
        except UnicodeDecodeError:
            raise HTTPError(400, f"{name} is not UTF-8") from None

    def show(self, template: Path, **values: Any) -> None:
        """Renders a page. Adds what all templates need: the result of the previous action, and ``printable``."""
        self.render(str(template), messages=str(MESSAGES), said=self.notice(), printable=printable, **values)

    async def in_thread(self, work: Callable[[], Value]) -> Value:
        """Runs a blocking function in a thread, so that Flower's event loop goes on; returns its result."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def act(self, work: Callable[[], str], then: str) -> None:
        """Runs a button's action, then redirects to the page ``then``, which shows the sentence from ``work``."""
        try:
            notice, failed = await self.in_thread(work), False
        except PipelineError as exc:
            notice, failed = str(exc), True
            logger.warning("a button of %s failed: %s", self.request.path, exc)
        self.set_secure_cookie(NOTICE, json.dumps([notice[:1000], failed]), expires_days=None)
        self.redirect(then, status=303)

    def notice(self) -> tuple[str, bool] | None:
        """The sentence of the previous action, shown once, and whether that action failed; else None."""
        said = self.get_secure_cookie(NOTICE)
        if said is None:
            return None
        self.clear_cookie(NOTICE)
        text, failed = json.loads(said)
        return text, failed

    def object_link(self, uri: str) -> str:
        return f"{self.reverse_url(OBJECT)}?{urlencode({'uri': uri})}"
