"""Checks the parameters for contradictions, without calling AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.core.settings_list import WORKED_ON, listed
from pipeline.deploy import written
from pipeline.operations.check_results import CheckResult, bad, ok, warning

#: Memory in MiB (from, to, step) that Fargate allows with these CPU units.
#: Source: Amazon ECS Developer Guide, "Task CPU and memory" of Fargate task definitions.
MEMORY = {
    256: (512, 2048, 512),
    512: (1024, 4096, 1024),
    1024: (2048, 8192, 1024),
    2048: (4096, 16384, 1024),
    4096: (8192, 30720, 1024),
    8192: (16384, 61440, 4096),
    16384: (32768, 122880, 8192),
}
#: The smallest CPU's only memory size that is not on its steps.
_NOT_TAKEN = {(256, 1536)}

#: registry/path:tag@digest; the registry has a dot or a port, or is localhost.
_IMAGE = re.compile(
    r"(?P<registry>[\w.-]+(:\d+)?/)?(?P<path>[a-z0-9._/-]+)(:(?P<tag>[\w.-]{1,128}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def check(values: Mapping[str, str]) -> Iterator[CheckResult]:
    """``values``: of all parameters, including defaults; skips checks of missing ones."""
    if "Image" in values:
        yield _image(values["Image"])
    if {"WorkerCpu", "WorkerMemory"} <= set(values):
        yield _size(int(values["WorkerCpu"]), int(values["WorkerMemory"]))
    if {"MinWorkers", "MaxWorkers"} <= set(values):
        low, high = int(values["MinWorkers"]), int(values["MaxWorkers"])
        said = f"MinWorkers={low}, MaxWorkers={high}"
        yield ok("workers", said) if low <= high else bad("workers", said, "MinWorkers can't be above MaxWorkers")
    yield _settings(values)


def _image(image: str) -> CheckResult:
    found = _IMAGE.fullmatch(image)
    if found is None:
        return bad(
            "image name", f"{image!r} is not an image's name", "write registry/name:tag, or registry/name@sha256:…"
        )
    if "/" not in image:
        return bad(
            "image name",
            f"{image!r} names no registry, so ECS would look for it among Docker Hub's official images",
            "push your image to a registry (cloudformation/ecr.yaml makes one) and pass its whole name",
        )
    if found["digest"] is None and found["tag"] in (None, "latest"):
        return warning(
            "image name",
            f"{image} has no tag of its own",
            "a rollback would start the same image again: give each build a tag, or name it by its digest",
        )
    return ok("image name", image)


def _size(cpu: int, memory: int) -> CheckResult:
    said = f"{cpu} CPU units, {memory} MiB"
    low, high, step = MEMORY.get(cpu, (0, -1, 1))
    if low <= memory <= high and (memory - low) % step == 0 and (cpu, memory) not in _NOT_TAKEN:
        return ok("worker size", said)
    if cpu not in MEMORY:
        return bad("worker size", said, f"WorkerCpu is one of {', '.join(map(str, MEMORY))}")
    return bad("worker size", said, f"Fargate takes WorkerMemory from {low} to {high} in steps of {step} with {cpu}")


def _settings(values: Mapping[str, str]) -> CheckResult:
    environ = written.environ(values)
    try:
        entries = listed(environ, [name.upper() for name in Settings.model_fields])
        if moved := sorted(WORKED_ON & set(entries)):
            return bad("settings", f"Settings has {', '.join(moved)}", "the roles know only the parameter for it")
        denied = written.other_folders(values)
    except ConfigError as exc:
        return bad("settings", str(exc), "correct the parameter of that name")
    if denied and "OwnFolder" in values and written.PARAMETER not in values:
        return bad(
            "settings",
            f"RENDITIONS has {', '.join(denied)}, and this template's workers may not write there",
            f"name it own/{denied[0].rstrip('/')}, and let OwnFolder be own/; or deploy a newer template",
        )
    return ok("settings", "they go together")
