"""One guarantee that the pipeline relies on, and its test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.errors import describe_error, is_denied
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.operations.check.place import Place
from pipeline.operations.check_results import CheckResult, bad, ok, unknown


class Broken(Exception):
    """The endpoint behaves differently; the message says how."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """``means``: the consequence for the pipeline if it does not hold. ``attempt`` returns what was observed."""

    name: str
    means: str
    attempt: Callable[[Place], str]

    def tried(self, place: Place) -> CheckResult:
        """Never raises: a failure of the test itself is a result, too."""
        try:
            return ok(self.name, self.attempt(place))
        except (Broken, ConfigError) as exc:
            return bad(self.name, str(exc), self.means)
        except ClientError as exc:
            if is_denied(exc):
                return unknown(self.name, describe_error(exc), f"allow it and check again. It matters: {self.means}")
            return bad(self.name, describe_error(exc), self.means)
        except (BotoCoreError, PipelineError) as exc:
            return unknown(self.name, describe_error(exc), f"It matters: {self.means}")
