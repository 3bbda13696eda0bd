"""How an app adds pages of its own to Flower: ``install(app, flower_pages="module:function")``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kombu.utils.imports import symbol_by_name
from tornado.routing import URLSpec

from pipeline.sqs.installation import Installation


@dataclass(frozen=True, slots=True)
class FlowerPages:
    """What an app adds to Flower.

    ``routes``: tornado's ``url(pattern, handler, name=…)``; handlers extend ``flower.views.BaseHandler``. ``tabs``:
    the names of routes that the navigation shows, with their labels. ``scripts``: JavaScript files that every page
    loads. ``dead_letters``: the name of the route that the row of a dead-letter queue leads to; its one argument is
    the name of the queue that the letters came from.
    """

    routes: Sequence[URLSpec] = ()
    tabs: Mapping[str, str] = field(default_factory=dict)
    scripts: Sequence[Path] = ()
    dead_letters: str | None = None


def pages_of(installed: Installation) -> FlowerPages:
    """Loads the app's pages. Called only in Flower's process: workers need neither the pages nor tornado."""
    if installed.flower_pages is None:
        return FlowerPages()
    make: Callable[[], Any] = symbol_by_name(installed.flower_pages)
    pages: FlowerPages = make()
    return pages
