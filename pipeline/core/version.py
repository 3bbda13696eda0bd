"""The version, which only ``pyproject.toml`` defines."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_NAME = "batch-image-pipeline"
_BESIDE = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """The running code's version: a checkout and the container image have a ``pyproject.toml``."""
    if not _BESIDE.exists():
        return metadata.version(_NAME)
    found: str = tomllib.loads(_BESIDE.read_text(encoding="utf-8"))["project"]["version"]
    return found
