"""What must hold for ``batch.yaml`` beyond what cfn-lint and checkov know; each rule names what breaks it.

A rule takes the template and yields a sentence for each thing that is wrong. ``RULES`` has all of them by name.
"""

from __future__ import annotations

from tests.stack.rules import (
    alarms,
    containers,
    messaging,
    metrics,
    parameters,
    policies,
    roles,
    scaling,
    services,
    storage,
)
from tests.stack.rules.base import RULES

__all__ = [
    "RULES",
    "alarms",
    "containers",
    "messaging",
    "metrics",
    "parameters",
    "policies",
    "roles",
    "scaling",
    "services",
    "storage",
]
