"""The example workflow: what it runs exists, and it stores no key."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from tests.docs.test_names import _check_options
from tests.stack.test_deployer_policies import DEPLOYER

PAGE = Path(__file__).parents[2] / "examples" / "deploy-workflow.yaml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(PAGE.read_text())
STEPS = WORKFLOW["jobs"]["deploy"]["steps"]


def test_verbs_and_options_exist() -> None:
    lines = [line for step in STEPS if "run" in step for line in step["run"].splitlines()]
    verbs = [line.partition("-m pipeline ")[2] for line in lines if "-m pipeline " in line]
    assert verbs
    for verb in verbs:
        _check_options(verb)
        assert "--yes" in shlex.split(verb)  # nobody is there to agree


def test_it_proves_who_it_is_and_stores_no_key() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in PAGE.read_text()
    assert any("role-to-assume" in step.get("with", {}) for step in STEPS)


def test_the_roles_are_those_of_the_policies() -> None:
    (handed,) = (statement for statement in DEPLOYER["Statement"] if statement["Sid"] == "HandToCloudFormation")
    role = handed["Resource"].rpartition("/")[2].replace("STACK", "batch-images")
    assert f"role/{role}" in PAGE.read_text()
    for name in ("deployer-policy.json", "service-role-policy.json"):
        assert f"cloudformation/{name}" in PAGE.read_text()
