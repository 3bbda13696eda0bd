"""Flower's page of a dead-letter queue: its letters, with buttons that redrive them or make their objects again."""

from __future__ import annotations

from pathlib import Path

from tornado.web import HTTPError, authenticated

from pipeline.core.console import printable
from pipeline.core.errors import PipelineError
from pipeline.core.source import Source
from pipeline.enqueue import check_bucket, process_many
from pipeline.operations.flower import letters
from pipeline.operations.flower.parts import LETTERS, PageHandler

TEMPLATE = Path(__file__).with_name("letters_page.html")


class LettersView(PageHandler):
    @authenticated
    async def get(self, name: str) -> None:
        found, error = letters.Letters((), 0), ""
        try:
            found = await self.in_thread(lambda: letters.read(self.capp.settings, name))
        except PipelineError as exc:
            error = str(exc)
        self.show(
            TEMPLATE,
            name=name,
            letters=found.found,
            unseen=found.unseen,
            error=error,
            read_only=self.read_only,
            object_link=self.object_link,
        )

    @authenticated
    async def post(self, name: str) -> None:
        """``action``: ``redrive`` the letters whose ids are given, or ``make`` the object of the URI again."""
        self.check_may_act()
        here = self.reverse_url(LETTERS, name)
        if self.get_body_argument("action", "") == "make":
            uri = self.literal("uri", self.request.body_arguments)
            await self.act(lambda: self._make(uri), here)
            return
        ids = frozenset(self.get_body_arguments("id"))
        if not ids:
            raise HTTPError(400, "Missing argument id")
        await self.act(lambda: letters.redrive(self.capp.settings, name, lambda letter: letter.message_id in ids), here)

    def _make(self, uri: str) -> str:
        source = Source.parse(uri)
        check_bucket(self.capp.settings, source)
        process_many([source], app=self.capp)
        return f"{printable(source.uri)} is enqueued. Its dead letter stays until you redrive or purge it."
