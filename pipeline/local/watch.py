"""Watches folders by listing them: finds files that are new, changed or removed, once they are complete.

Listing needs no other package, and works on every file system, including network drives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.local.files import File, find

#: Seconds without a change after which a file counts as complete. A copy that pauses for longer is processed as it is,
#: and again when it continues.
SETTLE_S = 2.0
#: Maximum share of the time that listing may take.
MAX_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identifies a version of a file. The inode changes when another file is renamed into its place."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Changes:
    """``ready``: complete files that are new or changed. ``gone``: keys of removed files that were ready before."""

    ready: tuple[File, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    stamp: Stamp
    since: float  # when it was first seen with this stamp
    taken: Stamp | None = None  # the stamp with which it was last ready
    missing_since: float | None = None


class Settling:
    """Compares one listing with the next. Pure: the caller passes listings and times."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def look(self, files: Sequence[File], stamps: Mapping[str, Stamp], *, now: float, wall: float) -> Changes:
        """``stamps``: by key. ``now``: seconds of a monotonic clock; ``wall``: of the clock of the files' times."""
        ready = tuple(file for file in files if file.key in stamps and self._is_ready(file.key, stamps, now, wall))
        return Changes(ready, tuple(self._gone(stamps, now)))

    def _is_ready(self, key: str, stamps: Mapping[str, Stamp], now: float, wall: float) -> bool:
        stamp, seen = stamps[key], self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(stamp, now)
        elif seen.stamp != stamp:
            seen.stamp, seen.since = stamp, now
        seen.missing_since = None
        # A file that was moved here keeps its old time, and is complete.
        is_old = wall - stamp.modified_ns / 1e9 >= SETTLE_S
        if seen.taken == stamp or not (is_old or now - seen.since >= SETTLE_S):
            return False
        seen.taken = stamp
        return True

    def _gone(self, stamps: Mapping[str, Stamp], now: float) -> list[str]:
        gone = []
        for key, seen in list(self._seen.items()):
            if key in stamps:
                continue
            if seen.missing_since is None:
                seen.missing_since = now  # some programs delete a file before they save it
            if now - seen.missing_since >= SETTLE_S:
                del self._seen[key]
                if seen.taken is not None:
                    gone.append(key)
        return gone


class Watch:
    """Lists the files below some paths repeatedly."""

    def __init__(self, paths: Sequence[Path], *, leave_out: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._leave_out = leave_out
        self._clock = clock
        self._settling = Settling()
        self._next_at = 0.0

    def changes(self) -> Changes:
        """Lists the folders. Returns no changes if another listing now would exceed ``MAX_SHARE``.

        Raises ``PipelineError`` as ``find`` does: a missing folder does not mean that its files were removed.
        """
        begun = self._clock()
        if begun < self._next_at:
            return Changes()
        files = find(self._paths, leave_out=self._leave_out, may_change=True)
        stamps = {file.key: stamp for file in files if (stamp := _stamp(file.path)) is not None}
        found = self._settling.look(files, stamps, now=self._clock(), wall=time.time())
        self._next_at = self._clock() + (self._clock() - begun) * (1 / MAX_SHARE - 1)
        return found


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path) if path.exists() else os.lstat(path)
    except OSError:
        return None  # removed since it was listed
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
