"""The processes with a health file of their own (``pipeline.sqs.health``)."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    WORKER = "worker"
    BRIDGE = "bridge"
