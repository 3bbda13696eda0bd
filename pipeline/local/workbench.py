"""The live contact sheet's workbench: tries other settings on one photo, and applies them to the run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import BoundedSemaphore, Lock
from typing import Any

from pipeline.core.errors import ConfigError, PermanentError, PipelineError
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.local.board import Board, Phase
from pipeline.local.results import FileState
from tasks.trial import TRIED, attempt, present

#: Maximum number of simultaneous trials: one renders, one waits. Further ones are refused.
MAX_TRIALS = 2
#: Number of trial pictures kept for the page.
MAX_PICTURES = 8
FIELDS = ("key", "name", "box", "fit", "format", "quality")


class Refused(PipelineError):
    """A request that can't be fulfilled; the message says why."""


class Workbench:
    """``settings``: returns the run's current ones. ``read``: returns a key's original, None if it was deleted.

    Methods are called by several threads at once.
    """

    def __init__(
        self,
        board: Board,
        settings: Callable[[], Settings],
        read: Callable[[str], bytes | None],
        orders: SimpleQueue[str],
    ) -> None:
        self._board = board
        self._settings = settings
        self._read = read
        self._orders = orders
        self._free = BoundedSemaphore(MAX_TRIALS)
        self._lock = Lock()
        self._pictures: OrderedDict[int, tuple[bytes, str]] = OrderedDict()
        self._count = 0

    def renditions(self) -> list[dict[str, str]]:
        """The renditions that can be tried, with their current settings; empty if no route makes images."""
        settings = self._settings()
        steps = {step.task for route in Routes.load(settings).all for step in route.steps}
        return present(settings) if steps & TRIED else []

    def attempt(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Renders one photo with other settings. ``asked``: ``FIELDS``, all text.

        Raises ``Refused``, with the reason in words.
        """
        fields = {name: asked.get(name) for name in FIELDS}
        if not all(isinstance(value, str) for value in fields.values()):
            raise Refused(f"give {', '.join(FIELDS)} as text")
        texts = {name: str(value).strip() for name, value in fields.items()}
        result = self._board.get(texts["key"])
        if result is None or result.state is not FileState.DONE:
            raise Refused("only a photo that is done can be tried")
        if not self._free.acquire(blocking=False):
            raise Refused("other photos are being tried: try again in a moment")
        try:
            data = self._read(texts["key"])
            if data is None:
                raise Refused("the original has been removed")
            trial = attempt(data, self._settings(), texts)
        except PermanentError as exc:
            raise Refused(f"{exc} {exc.advice}") from exc
        except ConfigError as exc:
            raise Refused(str(exc)) from exc
        finally:
            self._free.release()
        made = trial.rendition
        return {
            "href": f"trial/{self._keep(made.data, made.content_type)}",
            "size": [made.width, made.height],
            "bytes": len(made.data),
            "type": made.content_type,
            "setting": trial.setting,
        }

    def picture(self, number: int) -> tuple[bytes, str] | None:
        """A trial's bytes and content type; None if newer trials have replaced it."""
        with self._lock:
            return self._pictures.get(number)

    def use(self, asked: Mapping[str, Any]) -> None:
        """Makes the run process all finished files again with a value of RENDITIONS. Raises ``Refused``."""
        setting = asked.get("setting")
        if not isinstance(setting, str):
            raise Refused("give the setting as text")
        names = {each["name"] for each in self.renditions()}
        try:
            found = {each["name"] for each in present(self._settings().model_copy(update={"renditions": setting}))}
        except ConfigError as exc:
            raise Refused(str(exc)) from exc
        if found != names:
            raise Refused("only the settings of the present renditions can be changed while it runs")
        with self._lock:
            if self._board.phase is not Phase.WAITING or not self._orders.empty():
                raise Refused("the run is busy: try again when all files are done")
            self._orders.put(setting)

    def _keep(self, data: bytes, content_type: str) -> int:
        with self._lock:
            self._count += 1
            self._pictures[self._count] = data, content_type
            while len(self._pictures) > MAX_PICTURES:
                self._pictures.popitem(last=False)
            return self._count
