"""Health that tells the truth: a file that only real progress touches, and the check that reads its age.

A worker touches it while its loop turns and each of its queues is being polled, or can't be because
all its processes are busy; a bridge after each turn of its loop. So a process that hangs, or that has
silently stopped to consume, is found; one that is idle or busy with long work is healthy.
"""

from __future__ import annotations

import os
import time
from enum import Enum
from pathlib import Path

from pipeline.core.errors import ConfigError, PipelineError


class Role(Enum):
    WORKER = "worker"
    BRIDGE = "bridge"


class Unhealthy(PipelineError):
    """The process has made no progress for too long, or never has."""


def heartbeat_path(folder: Path, role: Role) -> Path:
    return folder / f"pipeline-{role.value}.heartbeat"


def role_here(folder: Path) -> Role:
    """Whose heartbeat file there is; where there are two, the older one's, so that neither is missed.

    Raises ``Unhealthy`` when there is none.
    """
    found = [role for role in Role if heartbeat_path(folder, role).exists()]
    if not found:
        raise Unhealthy(f"neither a worker nor a bridge has begun its work: there is no heartbeat file in {folder}")
    return min(found, key=lambda role: heartbeat_path(folder, role).stat().st_mtime)


class Heartbeat:
    """The file of one process. One process of a role for each folder."""

    def __init__(self, folder: Path, role: Role) -> None:
        self._folder = folder
        self._path = heartbeat_path(folder, role)

    def touch(self) -> None:
        """Call it after something was achieved, not just because time has passed. Raises ``ConfigError``."""
        try:
            self._path.write_text(f"{os.getpid()}\n")
        except OSError as exc:
            raise ConfigError(f"HEALTH_FOLDER={self._folder}: {self._path} can't be written: {exc.strerror}") from exc

    def remove(self) -> None:
        """At the end: a process that has stopped is not healthy."""
        self._path.unlink(missing_ok=True)


def check(folder: Path, role: Role, stale_s: float) -> float:
    """Seconds since the process last made progress. Raises ``Unhealthy`` when that is too long ago."""
    path = heartbeat_path(folder, role)
    try:
        age_s = max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        raise Unhealthy(f"the {role.value} is not running, or has not begun to consume: there is no {path}") from None
    if age_s > stale_s:
        raise Unhealthy(
            f"the {role.value} has made no progress for {age_s:.0f} s (HEALTH_STALE_S={stale_s:g}): "
            "it hangs, or has stopped consuming; end it so that it is started anew"
        )
    return age_s
