"""Health: a heartbeat file that is touched only on progress, and the check that reads its age.

A worker touches it while its loop turns and each of its queues is being polled, or can't be because
all its processes are busy; a bridge after each turn of its loop. So a process that hangs, or that has
silently stopped to consume, is found; one that is idle or busy with long work is healthy.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.aws.plain_errors import ConfigError, PlainError
from pipeline.sqs.health_check import STALE_S, age_and_limit_s


class Unhealthy(PlainError):
    """The process has made no progress for too long, or never has."""


def heartbeat_path(folder: Path, role: str) -> Path:
    return folder / f"pipeline-{role}.heartbeat"


def role_here(folder: Path) -> str:
    """Whose heartbeat file there is; where there are several, the oldest one's, so that none is missed.

    Raises ``Unhealthy`` when there is none.
    """
    found = sorted(folder.glob("pipeline-*.heartbeat"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise Unhealthy(f"neither a worker nor a bridge has begun its work: there is no heartbeat file in {folder}")
    return found[0].stem.removeprefix("pipeline-")


class Heartbeat:
    """The file of one process. One process of a role for each folder.

    It holds the process's id and ``stale_s``, the seconds without progress after which that process is unhealthy: the
    check of the container reads no settings.
    """

    def __init__(self, folder: Path, role: str, stale_s: float = STALE_S) -> None:
        self._folder = folder
        self._path = heartbeat_path(folder, role)
        self._stale_s = stale_s
        self._written: str | None = None

    def touch(self, note: str = "") -> None:
        """Call it after something was achieved, not just because time has passed. Raises ``ConfigError``.

        ``note``: what a person who asks should know of a healthy process.
        """
        text = f"{os.getpid()} {self._stale_s:g}\n{note}"
        try:
            if self._written == text and self._path.exists():
                os.utime(self._path)
            else:
                self._path.write_text(text)
                self._written = text
        except OSError as exc:
            raise ConfigError(f"HEALTH_FOLDER={self._folder}: {self._path} can't be written: {exc.strerror}") from exc

    def remove(self) -> None:
        """At the end: a process that has stopped is not healthy."""
        self._path.unlink(missing_ok=True)


def note(folder: Path, role: str) -> str:
    """What a process says of itself beside being healthy; empty where there is nothing to say."""
    try:
        return heartbeat_path(folder, role).read_text().partition("\n")[2].strip()
    except OSError:
        return ""


def check(folder: Path, role: str, stale_s: float | None = None) -> float:
    """Seconds since the process last made progress. Raises ``Unhealthy`` when that is too long ago.

    ``stale_s``: how long is too long; without it what the process itself was given as ``HEALTH_STALE_S``.
    """
    path = heartbeat_path(folder, role)
    try:
        age_s, own_s = age_and_limit_s(str(path))
    except FileNotFoundError:
        raise Unhealthy(f"the {role} is not running, or has not begun to consume: there is no {path}") from None
    stale_s = own_s if stale_s is None else stale_s
    if age_s > stale_s:
        raise Unhealthy(
            f"the {role} has made no progress for {age_s:.0f} s (HEALTH_STALE_S={stale_s:g}): "
            "it hangs, or has stopped consuming; end it so that it is started anew"
        )
    return age_s
