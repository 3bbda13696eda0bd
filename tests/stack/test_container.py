"""The image and the compose file agree with the template, and the image holds no more than it must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.template import Stack, load

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BUILD, FINAL = re.split(r"^FROM \$\{BASE\}.*\n", DOCKERFILE, flags=re.MULTILINE)[1:]


def _instructions(text: str, name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(f"{name} ")]


def _container(task: str) -> dict[str, Any]:
    (container,) = Stack(load()).properties(task)["ContainerDefinitions"]
    return dict(container)


def test_nothing_is_installed_or_built_in_the_final_image() -> None:
    assert all(line.startswith(("install -d ", "python -m compileall ")) for line in _instructions(FINAL, "RUN"))
    assert _instructions(FINAL, "COPY") == ["--from=build /opt/pipeline /opt/pipeline", "--from=build /srv /srv"]
    assert "--only-binary :all: --require-hashes" in BUILD
    assert "pip uninstall --quiet --yes pycurl pip" in BUILD


@pytest.mark.parametrize("before", ["python:3.13-slim-trixie", f"python:3.13-slim-trixie@sha256:{'0' * 64}"])
@pytest.mark.parametrize("digest", [f"sha256:{'a' * 64}", "ERROR: not found"])
def test_the_base_is_pinned_to_what_the_registry_says(tmp_path: Path, before: str, digest: str) -> None:
    """``docker`` is a stand-in: the registry's answer, to the one question that is asked."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\n[ "$4" = python:3.13-slim-trixie ] && echo \'"{digest}"\'\n')
    docker.chmod(0o755)
    text = re.sub(r"^ARG BASE=.*$", f"ARG BASE={before}", DOCKERFILE, flags=re.MULTILINE)
    (tmp_path / "Dockerfile").write_text(text)
    shutil.copy(ROOT / "Makefile", tmp_path)
    environ = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    run = ["make", "pin-base"]
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    pinned = (tmp_path / "Dockerfile").read_text()
    assert (done.returncode == 0) == digest.startswith("sha256:"), done.stderr
    wanted = f"ARG BASE=python:3.13-slim-trixie@{digest}" if digest.startswith("sha256:") else f"ARG BASE={before}"
    assert pinned == re.sub(r"^ARG BASE=.*$", wanted, DOCKERFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: str(path.name))
def test_every_pin_has_its_hashes(path: Path) -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", path.read_text(encoding="utf-8"))
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert pins
    assert [entry.splitlines()[0] for entry in pins if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_whatever_make_installs_from_a_lock_is_checked_against_it() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [
        line for line in text.splitlines() if re.search(r"(-m pip install|PIP_INSTALL\)).* -r requirements", line)
    ]
    assert len(installs) == 5
    assert [line for line in installs if "--require-hashes" not in line] == []


def test_all_byte_code_is_in_the_image_since_none_can_be_written_where_it_runs() -> None:
    assert "PYTHONDONTWRITEBYTECODE=1" in FINAL
    assert "-m compileall -q /srv" in BUILD  # pip has compiled what it installed
    assert "python -m compileall -q " in FINAL.partition("\nUSER ")[0]
    assert 'get_path("stdlib")' in FINAL.partition("\nUSER ")[0]


def test_it_runs_as_the_template_says() -> None:
    assert _instructions(FINAL, "USER") == [_container("WorkerTask")["User"]]
    assert _instructions(FINAL, "STOPSIGNAL") == ["SIGTERM"]
    (command,) = _instructions(FINAL, "CMD")
    assert _container("WorkerTask")["Command"][: len(json.loads(command))] == json.loads(command)
    (health,) = _instructions(FINAL, "HEALTHCHECK")
    check = _container("WorkerTask")["HealthCheck"]
    assert ["CMD", *json.loads(health.partition("CMD ")[2])] == check["Command"]
    options = dict(word.removeprefix("--").split("=") for word in health.partition(" CMD ")[0].split())
    assert options == {
        "interval": f"{check['Interval']}s",
        "timeout": f"{check['Timeout']}s",
        "start-period": f"{check['StartPeriod']}s",
        "retries": str(check["Retries"]),
    }


def test_the_health_check_is_in_the_image() -> None:
    path = Path(_container("WorkerTask")["HealthCheck"]["Command"][3])
    assert (ROOT / path.relative_to("/srv")).is_file()
    assert "pipeline /srv/pipeline" in _instructions(BUILD, "COPY")


def test_everything_that_is_copied_is_let_in_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert {line.split()[0] for line in _instructions(BUILD, "COPY")} == let_in
    assert all((ROOT / name).exists() for name in let_in)


@pytest.mark.parametrize(
    ("service", "task"), [("bridge", "BridgeTask"), ("worker", "WorkerTask"), ("flower", "FlowerTask")]
)
def test_compose_runs_what_the_template_runs(service: str, task: str) -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"][service]
    container = _container(f"{service.title()}Task")
    length = min(len(container["Command"]), 4)
    assert compose["command"][:length] == container["Command"][:length]
    assert (compose["user"], compose["read_only"], compose["cap_drop"]) == (container["User"], True, ["ALL"])
    assert compose["stop_grace_period"] == f"{container['StopTimeout']}s"
    ours = {entry["Name"] for entry in container["Environment"]} & {"QUEUE_PREFIX", "INPUT_BUCKET", "TOPIC_ARN_PREFIX"}
    assert ours <= set(compose["environment"])
    if service != "worker":  # its check is the image's own
        assert compose["healthcheck"]["test"] == container["HealthCheck"]["Command"]


@pytest.mark.parametrize("path", sorted([*(ROOT / "cloudformation").glob("*.yaml"), ROOT / "compose.yaml"]), ids=str)
def test_no_key_stands_twice_in_one_place(path: Path) -> None:
    """Docker refuses such a file; PyYAML takes the last of them."""

    def repeated(node: yaml.Node) -> list[str]:
        if isinstance(node, yaml.MappingNode):
            names = [str(key.value) for key, _ in node.value]
            here = sorted({name for name in names if names.count(name) > 1})
            return here + [name for _, value in node.value for name in repeated(value)]
        if isinstance(node, yaml.SequenceNode):
            return [name for value in node.value for name in repeated(value)]
        return []

    assert repeated(yaml.compose(path.read_text(encoding="utf-8"))) == []
