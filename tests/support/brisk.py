"""The pipeline's app whose second look at an object comes soon: a minute and a half in a test would be waiting."""

from __future__ import annotations

import tasks.cleanup
import tasks.convergence
from pipeline.celery import app

tasks.convergence.LANDS_WITHIN_S = 4.0
tasks.convergence.FOLLOW_UP_S = tasks.cleanup.FOLLOW_UP_S = 6
__all__ = ["app"]
