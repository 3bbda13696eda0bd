"""Errors that are raised on purpose: what all of this project's derive from. Loads nothing."""

from __future__ import annotations


class PlainError(Exception):
    """Base of all errors raised on purpose; its text is fit to be shown to a person.

    ``reason`` is a short fixed word for grouping (metrics, failure records, audit).
    """

    reason = "refused"


class ConfigError(PlainError):
    """A setting is missing or out of bounds: the message names the variable, the value and the bound."""


class TransientError(PlainError):
    """A service did not do its part this time; trying again later is expected to help."""

    reason = "unavailable"
