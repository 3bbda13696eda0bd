"""The results so far: the run writes them, and the page's server reads them from other threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from threading import Lock

from pipeline.core.names import failure_key
from pipeline.local.results import FileResult, FileState, OutputFile


class Phase(Enum):
    """What the run is doing."""

    RUNNING = "processing files"
    WAITING = "waiting for more files"
    AGAIN = "making all files again"


@dataclass(frozen=True, slots=True)
class News:
    """Changes since a revision. ``removed``: keys of files that no longer have a result."""

    revision: int
    changed: tuple[FileResult, ...]
    removed: tuple[str, ...]


class Board:
    def __init__(self, wanted: int = 0) -> None:
        self.wanted = wanted  # number of files at the start
        self.phase = Phase.RUNNING
        self._lock = Lock()
        self._revision = 0
        self._found: dict[str, tuple[int, FileResult | None]] = {}  # by key, with the revision; None: removed

    def put(self, result: FileResult) -> tuple[str, ...]:
        """Stores a file's new result; returns the paths of outputs that only its previous result had."""
        with self._lock:
            _, before = self._found.get(result.key, (0, None))
            self._set(result.key, result)
        kept = {output.path for output in result.outputs}
        return tuple(output.path for output in _outputs(before) if output.path not in kept)

    def remove(self, key: str) -> None:
        with self._lock:
            if self._found.get(key, (0, None))[1] is not None:
                self._set(key, None)

    def lose(self, path: str) -> str | None:
        """Records that an output or a failure record was removed. Returns the key of a file that has nothing left."""
        with self._lock:
            for key, (_, result) in self._found.items():
                if result is None:
                    continue
                left = tuple(output for output in result.outputs if output.path != path)
                has_lost = len(left) < len(result.outputs)
                if has_lost and left:
                    self._set(key, replace(result, outputs=left))
                    return None
                if has_lost or (result.state is FileState.FAILED and failure_key(key) == path):
                    self._set(key, None)
                    return key
        return None

    def get(self, key: str) -> FileResult | None:
        with self._lock:
            return self._found.get(key, (0, None))[1]

    def output(self, path: str) -> OutputFile | None:
        """The output with that path, if a result names it."""
        found = (output for result in self.results() for output in result.outputs if output.path == path)
        return next(found, None)

    def results(self) -> list[FileResult]:
        """All results, in the order in which the files were first finished."""
        with self._lock:
            return [result for _, result in self._found.values() if result is not None]

    def news(self, since: int) -> News:
        """Changes since that revision; 0 returns all results."""
        with self._lock:
            found = [(key, result) for key, (at, result) in self._found.items() if at > since]
            revision = self._revision
        changed = tuple(result for _, result in found if result is not None)
        removed = tuple(key for key, result in found if result is None) if since else ()
        return News(revision, changed, removed)

    def _set(self, key: str, result: FileResult | None) -> None:
        self._revision += 1
        self._found[key] = self._revision, result


def _outputs(result: FileResult | None) -> Iterable[OutputFile]:
    return () if result is None else result.outputs
