"""The pipeline's app with a short S3 time-out, so that a test of lost replies need not wait a minute."""

from __future__ import annotations

from pipeline.aws import clients
from pipeline.celery import app

clients.S3_READ_TIMEOUT_S = 1
app.conf.worker_lost_wait = 0.3
__all__ = ["app"]
