"""The version, which stands in ``pyproject.toml`` alone."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_NAME = "batch-image-pipeline"
_BESIDE = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """Of the files that run: a checkout and the container image have ``pyproject.toml`` beside them."""
    if not _BESIDE.exists():
        return metadata.version(_NAME)
    found: str = tomllib.loads(_BESIDE.read_text(encoding="utf-8"))["project"]["version"]
    return found
