"""Python programs that a test runs to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def output_of(*arguments: str, cwd: Path, env: Mapping[str, str], timeout_s: float = 120) -> str:
    """What ``python arguments…`` prints. ``env`` is added to this process's. It must end with status 0."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
