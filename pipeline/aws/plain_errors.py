"""The base classes of all errors that this project raises. Imports nothing."""

from __future__ import annotations


class PlainError(Exception):
    """Base of all errors raised on purpose; its message can be shown to a person.

    ``reason`` is a short fixed word for grouping (metrics, failure records, audit).
    """

    reason = "refused"


class ConfigError(PlainError):
    """A setting is missing or out of bounds: the message names the variable, the value and the bound."""


class TransientError(PlainError):
    """A service failed; a retry later is expected to succeed."""

    reason = "unavailable"
