"""The systems that are compared: each is a set of processes that turns events of a queue into renditions.

All get the same variables: ``QUEUE_PREFIX``, ``INPUT_BUCKET``, ``OUTPUT_BUCKET``, and AWS's own. All read
``<prefix>events`` and write ``resized/<key>`` (within 1024x768) and ``thumbs/<key>`` (within 192x192).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = sys.executable
#: How many images each contender works on at the same time: suits a machine with two cores.
PARALLEL = 2
SHIPPED = "this pipeline, as its image ships it"


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    processes: Mapping[str, tuple[str, ...]]  # role: command; the names of several processes of a role end in a number
    environ: Mapping[str, str] = field(default_factory=dict)
    missing: str | None = None  # why it can't run here


def _loop(name: str, title: str) -> Contender:
    command = (PYTHON, "-m", f"benchmarks.contenders.{name}")
    return Contender(name, title, {f"loop{number}": command for number in range(1, PARALLEL + 1)})


def _simd(contender: Contender, title: str) -> Contender:
    # Imported here, so that modules of this package that run as programs don't load what they don't use.
    from tasks.images.resample import simd_problem

    name = f"{contender.name}_simd"
    return replace(
        contender, name=name, title=title, environ={**contender.environ, "RESAMPLER": "simd"}, missing=simd_problem()
    )


def ours(concurrency: int = PARALLEL, workers: int = 1) -> Contender:
    """The pipeline as the stack runs it, with events and remote control."""
    worker = (
        *(PYTHON, "-m", "pipeline.worker", "-E", "--loglevel", "INFO"),
        *("--concurrency", str(concurrency)),
    )
    names = ["worker"] if workers == 1 else [f"worker{number}" for number in range(1, workers + 1)]
    commands = {name: (*worker, "--hostname", f"{name}@bench") for name in names}
    environ = {"RESAMPLER": "pillow", "S3_CLIENT": "auto"}
    return Contender("ours", "this pipeline, Pillow alone", {"bridge": (PYTHON, "-m", "bridge"), **commands}, environ)


def shipped(concurrency: int = PARALLEL, workers: int = 1) -> Contender:
    """The pipeline as in the container image; with Pillow alone if the SIMD resampler is not available."""
    plain = ours(concurrency, workers)
    simd = _simd(plain, SHIPPED)
    return simd if simd.missing is None else plain


def _stock_celery() -> Contender:
    module = "benchmarks.contenders.stock_celery"
    worker = (PYTHON, "-m", "celery", "-A", module, "worker", "--loglevel", "INFO", "--concurrency", str(PARALLEL))
    return Contender(
        "stock_celery",
        "stock Celery on SQS, two independent tasks",
        {"bridge": (PYTHON, "-m", module), "worker": worker},
    )


@cache
def _sharp_problem() -> str | None:
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    probe = subprocess.run([node, str(HERE / "sharp_worker.mjs"), "--probe"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "not installed: npm install --prefix benchmarks/contenders"


def _sharp_worker() -> Contender:
    return Contender(
        "sharp_worker",
        "Node with sharp",
        {"worker": ("node", str(HERE / "sharp_worker.mjs"))},
        {"PARALLEL": str(PARALLEL), "VIPS_CONCURRENCY": "1"},
        _sharp_problem(),
    )


def contenders() -> dict[str, Contender]:
    """The contenders in the order of the tables; the first two are this pipeline."""
    loop = _loop("our_loop", "its loop with our image code, Pillow alone")
    found = [
        _simd(ours(), SHIPPED),
        ours(),
        _loop("sample_loop", "the sample's design"),
        _simd(loop, "its loop with our image code, as shipped"),
        loop,
        _stock_celery(),
        _sharp_worker(),
    ]
    return {contender.name: contender for contender in found}
