"""The rooms of the house, and who may import whom: a room imports only rooms below it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import tables

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "tasks", "bridge")

#: Longest match wins. Rooms of one level may import each other.
LEVELS = {
    "pipeline.__main__": 6,
    "pipeline.cli": 6,
    "pipeline": 5,  # the verbs' modules, unless named below
    "bridge": 4,
    "tasks": 3,
    "pipeline.celery": 2,
    "pipeline.enqueue": 2,
    "pipeline.broker": 2,
    "pipeline.monitoring": 2,
    "pipeline.aws": 1,
    "pipeline.aws_errors": 1,
    "pipeline.config": 1,
    "pipeline.health": 1,
    "pipeline.log": 1,
    "pipeline.queues": 1,
    "pipeline.routes": 1,
    "pipeline.storage": 1,
    "pipeline.batches": 0,
    "pipeline.errors": 0,
    "pipeline.source": 0,
    "pipeline.version": 0,
}
#: What these import must stay light, or pure.
PURE = {
    "bridge.s3_event": {"celery", "boto3", "botocore", "kombu", "PIL"},
    "tasks.images": {"celery", "boto3", "botocore", "kombu"},
    "pipeline.config": {"celery", "boto3", "botocore", "kombu", "PIL"},
}


def modules() -> list[str]:
    names = []
    for package in PACKAGES:
        for path in sorted(ROOT.joinpath(package).rglob("*.py")):
            names.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return names


MODULES = modules()


def level(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = LEVELS.get(".".join(parts[:length]))
        if found is not None:
            return found
    raise AssertionError(f"{module} is in no room: give it one in LEVELS")


def own_imports(module: str) -> Iterator[str]:
    """Every module of ours that `module` imports, wherever the import stands."""
    base = ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                yield name if name in MODULES else name.rpartition(".")[0]


def test_the_page_has_the_same_rooms() -> None:
    (rows,) = [rows[1:] for rows in tables("docs/architecture.md") if rows[0][0] == "level"]
    assert {name: int(row[0]) for row in rows for name in re.findall(r"`([\w.]+)`", row[1])} == LEVELS


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pipeline"])
def test_a_module_imports_only_rooms_below_its_own(module: str) -> None:
    for imported in own_imports(module):
        if imported == "pipeline":
            continue  # only its lazy names
        assert level(imported) <= level(module), f"{module} imports {imported}, which is above it"


def test_no_import_cycles_between_levels_hide_in_the_package_itself() -> None:
    assert set(own_imports("pipeline")) <= {
        "pipeline.celery",
        "pipeline.enqueue",
        "pipeline.broker.publishing",
        "pipeline.errors",
    }


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not PURE[module] & set(loaded.split())


def test_only_the_embedded_run_knows_of_an_emulator() -> None:
    for path in (path for package in PACKAGES for path in ROOT.joinpath(package).rglob("*.py")):
        if "local" not in path.relative_to(ROOT).parts:
            assert "moto" not in path.read_text(), path
