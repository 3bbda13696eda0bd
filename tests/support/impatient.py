"""The brisk app with a short S3 time-out, and short pauses between botocore's tries: its tests wait for those."""

from __future__ import annotations

from botocore.retries.standard import ExponentialBackoff

from pipeline.aws import clients
from tests.support.brisk import app

clients.S3_READ_TIMEOUT_S = 1
ExponentialBackoff.delay_amount = lambda self, context: 0.05
app.conf.worker_lost_wait = 0.3
__all__ = ["app"]
