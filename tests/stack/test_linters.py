"""cfn-lint and checkov find nothing in the templates. Both work offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.template import FOLDER

TEMPLATES = sorted(FOLDER.glob("*.yaml"))
#: The oldest, a European, a young and an isolated one: they differ in what they offer.
REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2", "mx-central-1", "us-gov-west-1", "cn-north-1")
#: checkov needs an environment of its own, as it pins an old boto3; `make test` makes it.
CHECKOV = FOLDER.parent / ".venv-checkov" / "bin" / "checkov"


#: CloudFront is a service of the commercial partition here: the others lack one or all of its resources.
WITH_CLOUDFRONT = [FOLDER / "cdn.yaml"]


@pytest.mark.parametrize(
    ("templates", "regions"),
    [([path for path in TEMPLATES if path not in WITH_CLOUDFRONT], REGIONS), (WITH_CLOUDFRONT, REGIONS[:4])],
    ids=["all", "with CloudFront"],
)
def test_cfn_lint_finds_nothing(templates: list[Path], regions: tuple[str, ...]) -> None:
    """Its start takes as long as most templates."""
    command = [Path(sys.executable).with_name("cfn-lint"), "--regions", *regions, "--", *map(str, templates)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.fixture(scope="module")
def checkov() -> Path:
    if not CHECKOV.exists():
        assert "CI" not in os.environ, "checkov is not installed"
        pytest.skip("checkov is not installed: `make test` does it")
    return CHECKOV


def test_checkov_finds_nothing(checkov: Path) -> None:
    command = [checkov, "--directory", FOLDER, "--framework", "cloudformation", "--skip-download", "--output", "json"]
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LOG_LEVEL": "ERROR"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    results = json.loads(ran.stdout)["results"]
    assert [(check["check_id"], check["resource"]) for check in results["failed_checks"]] == []
    assert results["parsing_errors"] == []
    looked_at = results["passed_checks"] + results["skipped_checks"]
    assert {Path(check["file_path"]).name for check in looked_at} == {path.name for path in TEMPLATES}


def test_every_skip_says_why() -> None:
    lines = [line.strip() for path in TEMPLATES for line in path.read_text().splitlines() if "checkov:skip" in line]
    assert lines
    assert [line for line in lines if len(line.split(":", 3)[-1].strip()) < 5] == []
