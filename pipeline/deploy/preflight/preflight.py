"""All checks of a deployment, in the order in which problems would occur."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.deploy.account import Account
from pipeline.deploy.preflight import image, network, permissions, quota
from pipeline.deploy.preflight import values as parameters
from pipeline.operations.check_results import CheckResult, Level


def on_paper(values: Mapping[str, str]) -> list[CheckResult]:
    """Checks the parameters without calling AWS. ``values``: of all parameters, including defaults."""
    return list(parameters.check(values))


def in_account(
    values: Mapping[str, str], here: Account, stack: str, folder: Path, service_role: str | None
) -> Iterator[CheckResult]:
    """Checks the account, with one or two requests each; changes nothing. ``folder``: of the templates."""
    yield permissions.check(here, stack, folder, service_role=service_role)
    if "Image" in values:
        yield image.check(values["Image"], values.get("CpuArchitecture", "X86_64"))
    yield from network.check(values)
    yield from quota.check(values)


def wrong(results: list[CheckResult]) -> list[CheckResult]:
    """The results that would make a deployment fail."""
    return [result for result in results if result.level is Level.BAD]
