"""Flower's page of an object: the report of ``python -m pipeline explain``, and buttons that process it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornado.web import authenticated

from pipeline.core.errors import PipelineError
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import check_bucket, process_many
from pipeline.operations.explain import as_dict, collect
from pipeline.operations.flower import letters
from pipeline.operations.flower.parts import PageHandler

TEMPLATE = Path(__file__).with_name("object_page.html")
#: The states in which processing the object again may help.
AGAIN = ("missing", "stale", "failed")
#: Maximum number of the object's tasks that are listed, the latest first.
TASKS = 20


def source_of(text: str, settings: Settings) -> Source:
    """``s3://bucket/key``, or a key of the one input bucket. Keys are taken literally. Raises ``PipelineError``."""
    source = Source.parse(text) if text.startswith("s3://") else Source(settings.one_input_bucket(), text)
    check_bucket(settings, source)
    return source


class ObjectView(PageHandler):
    @authenticated
    async def get(self) -> None:
        text = self.literal("uri", self.request.query_arguments)
        report: dict[str, Any] | None = None
        error = ""
        if text:
            try:
                report = await self.in_thread(lambda: self._report(text))
            except PipelineError as exc:
                error = str(exc)
        self.show(
            TEMPLATE,
            text=text,
            report=report,
            error=error,
            may_make=report is not None and report["status"] in AGAIN and not self.read_only,
            may_redrive=report is not None and report["dead_letters"] and not self.read_only,
            tasks=[] if report is None else list(self._tasks(report["object"])),
        )

    @authenticated
    async def post(self) -> None:
        self.check_may_act()
        text = self.literal("uri", self.request.body_arguments)
        work = self._redrive if self.get_body_argument("action", "") == "redrive" else self._make
        await self.act(lambda: work(text), self.object_link(text))

    def _report(self, text: str) -> dict[str, Any]:
        source = source_of(text, self.capp.settings)
        names: list[str] = []
        error = ""
        try:
            names = letters.with_letters(self.capp.settings)
        except PipelineError as exc:
            error = f"the dead letters could not be read: {exc}"
        with letters.READING:
            found = collect(source, self.capp.routes, letters.LIMIT, names)
        if error:
            found.errors.append(error)
        return as_dict(found, self.capp.routes)

    def _make(self, text: str) -> str:
        source = source_of(text, self.capp.settings)
        process_many([source], app=self.capp)
        return "The object is enqueued: its tasks are in the list when a worker has received them."

    def _redrive(self, text: str) -> str:
        return letters.redrive_object(self.capp.settings, source_of(text, self.capp.settings))

    def _tasks(self, uri: str) -> Iterator[Any]:
        """The object's tasks that Flower knows, found by the text of their arguments."""
        shown = uri.removeprefix("s3://")
        found = [task for task in self.application.events.state.tasks.values() if task.args == shown]
        found.sort(key=lambda task: -(task.received or task.timestamp or 0))
        yield from found[:TASKS]
