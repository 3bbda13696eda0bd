"""Results as JSON files in ``benchmarks/results/``, with their machine and day."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL
from PIL import features

FOLDER = Path(__file__).parent / "results"


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    versions = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "boto3"))
    return (
        f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, Pillow {PIL.__version__} "
        f"(libjpeg-turbo {features.version_feature('libjpeg_turbo')}), {versions}"
    )


def save(name: str, facts: dict[str, Any]) -> Path:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    load = {"cores": os.cpu_count(), "load": round(os.getloadavg()[2], 1)}  # the average of a quarter of an hour
    whole = {"made": datetime.now(UTC).date().isoformat(), "machine": machine(), **load, **facts}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """The results of a benchmark. Raises ``FileNotFoundError`` if it has not been run."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def rounded(values: dict[str, float], digits: int = 4) -> dict[str, float]:
    return {name: round(value, digits) for name, value in sorted(values.items())}
