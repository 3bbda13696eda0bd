"""Layers are folders: a folder imports only from the folders below it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import tables

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "tasks", "bridge")

#: From the bottom up: a folder is a layer, and imports only from itself and the layers before it.
LAYERS = (
    "pipeline.aws",
    "pipeline.sqs",
    "pipeline.core",
    "pipeline.s3",
    "pipeline.images",
    "pipeline",  # the app, and how programs enqueue
    "tasks",
    "bridge",
    "pipeline.operations",
    "pipeline.testing",
    "pipeline.deploy",
    "pipeline.local",
    "pipeline.cli",
)
#: What of a layer below may be imported: values have no use for workers, nor for a queue.
ONLY = {
    "pipeline.core": {
        "pipeline.aws": {"pipeline.aws.plain_errors"},
        "pipeline.sqs": {"pipeline.sqs.settings", "pipeline.sqs.installation"},
    },
    "pipeline.s3": {"pipeline.sqs": set[str]()},
}
#: What these import must stay light, or pure.
PURE = {
    "pipeline.core.s3_event": {"celery", "boto3", "botocore", "kombu", "PIL"},
    "tasks.images.render": {"celery", "boto3", "botocore", "kombu"},
    "pipeline.core.settings": {"celery", "boto3", "botocore", "kombu", "PIL"},
}


def modules() -> list[str]:
    names = []
    for package in PACKAGES:
        for path in sorted(ROOT.joinpath(package).rglob("*.py")):
            names.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return names


MODULES = modules()


def level(module: str) -> int:
    """Of the longest match."""
    parts = module.split(".")
    if module == "pipeline.__main__":
        return len(LAYERS)
    folders = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(LAYERS.index(folder) for folder in folders if folder in LAYERS)


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


def test_the_page_has_the_same_layers() -> None:
    (rows,) = [rows[1:] for rows in tables("docs/architecture.md") if rows[0][0] == "layer"]
    named = [row[0].strip("`").rstrip("/").replace("/", ".") for row in rows]
    assert named == list(reversed(LAYERS))


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pipeline"])
def test_a_module_imports_only_from_layers_below_its_own(module: str) -> None:
    for imported in own_imports(module):
        if imported == "pipeline":
            continue  # only its lazy names
        assert level(imported) <= level(module), f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", [name for name in MODULES if LAYERS[level(name) % len(LAYERS)] in ONLY])
def test_of_some_layers_only_a_part_may_be_imported(module: str) -> None:
    for folder, allowed in ONLY[LAYERS[level(module)]].items():
        used = {name for name in own_imports(module) if name.startswith(folder)}
        assert used <= allowed, module


def test_the_broker_layer_is_a_package_by_itself() -> None:
    """Celery on SQS, for apps that have nothing to do with the pipeline: with ``pipeline.aws`` it needs no more."""
    part = [name for name in MODULES if name.startswith(("pipeline.sqs", "pipeline.aws"))]
    assert len(part) > 40
    assert {name for module in part for name in own_imports(module)} <= set(part)


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith(("pipeline.operations", "pipeline.local", "bridge"))]
)
def test_what_looks_at_objects_knows_only_routes_and_outputs(module: str) -> None:
    """Nothing of the images there: what holds for them holds for what users declare."""
    # They run the image code, on a sample and on the photo that a person tries.
    tried_out = module in ("pipeline.operations.adopt.survey", "pipeline.local.workbench")
    for imported in own_imports(module):
        assert not imported.startswith("pipeline.images"), f"{module} imports {imported}"
        assert tried_out or imported.partition(".")[0] != "tasks", f"{module} imports {imported}"


def test_no_import_cycles_between_levels_hide_in_the_package_itself() -> None:
    assert set(own_imports("pipeline")) <= {
        "pipeline.s3.content",
        "pipeline.celery",
        "pipeline.core.outputs",
        "pipeline.core.routes",
        "pipeline.enqueue",
        "pipeline.sqs.transport.publishing",
        "pipeline.core.errors",
    }


def test_every_package_goes_into_the_wheel() -> None:
    listed = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for name in PACKAGES for path in ROOT.joinpath(name).rglob("*.py")}
    templates = "pipeline.deploy.templates"  # cloudformation/
    assert set(listed) == {".".join(folder.parts) for folder in folders} | {templates}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not PURE[module] & set(loaded.split())


def test_only_the_embedded_run_knows_of_an_emulator() -> None:
    for path in (path for package in PACKAGES for path in ROOT.joinpath(package).rglob("*.py")):
        if "local" not in path.relative_to(ROOT).parts:
            assert "moto" not in path.read_text(), path
