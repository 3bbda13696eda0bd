"""Health: a heartbeat file that is touched only on progress, and the check that reads its age.

A worker touches the file while its event loop runs and it polls each of its queues, or can't poll because all its
processes are busy. A bridge touches it after each turn of its loop. So the check finds a process that hangs, or has
silently stopped consuming; a process that is idle or busy with long work is healthy.
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
    """The role whose heartbeat file is in the folder; if there are several, that of the oldest, so none is missed.

    Raises ``Unhealthy`` if there is none.
    """
    found = sorted(folder.glob("pipeline-*.heartbeat"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise Unhealthy(f"neither a worker nor a bridge has begun its work: there is no heartbeat file in {folder}")
    return found[0].stem.removeprefix("pipeline-")


class Heartbeat:
    """The heartbeat file of one process. A folder may hold one process of each role.

    The file contains the process's id and ``stale_s``, the seconds without progress after which the process is
    unhealthy, since the container's health check reads no settings.
    """

    def __init__(self, folder: Path, role: str, stale_s: float = STALE_S) -> None:
        self._folder = folder
        self._path = heartbeat_path(folder, role)
        self._stale_s = stale_s
        self._written: str | None = None

    def touch(self, note: str = "") -> None:
        """Call this after progress, not just because time has passed. Raises ``ConfigError`` if it can't be written.

        ``note``: for a person who asks about a healthy process.
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
        """Removes the file when the process ends: a stopped process is not healthy."""
        self._path.unlink(missing_ok=True)


def note(folder: Path, role: str) -> str:
    """The note that a healthy process left in its file; empty if there is none."""
    try:
        return heartbeat_path(folder, role).read_text().partition("\n")[2].strip()
    except OSError:
        return ""


def check(folder: Path, role: str, stale_s: float | None = None) -> float:
    """Seconds since the process last made progress. Raises ``Unhealthy`` when that is too long ago.

    ``stale_s``: how long is too long; None: the process's own ``HEALTH_STALE_S``.
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
            "it hangs, or has stopped consuming; end it so that it is restarted"
        )
    return age_s
