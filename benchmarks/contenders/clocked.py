"""The pipeline with clocks: ``celery -A benchmarks.contenders.clocked worker``, and as the bridge
``python -m benchmarks.contenders.clocked``. ``CLOCKS`` is the folder that the clocks are written to.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import wraps
from pathlib import Path
from typing import Any

from botocore.client import BaseClient
from celery.canvas import Signature

from benchmarks.clocks import Clocks
from pipeline.aws import storage
from pipeline.celery import app
from pipeline.sqs.monitoring.outbox import Outbox
from tasks.images import render

__all__ = ["app"]

_SERVICES = {"s3": "S3", "sqs": "SQS", "sns": "events"}


def install(clocks: Clocks) -> None:
    clocks.patch("decode", render, "decode")
    clocks.patch("resize", render, "resample", "to_srgb", "drop_opaque_alpha")
    clocks.patch("encode", render, "encode")
    clocks.patch("S3", storage, "read", "write")
    clocks.patch("events", Outbox, "put", "_take", "_send")
    clocks.patch("logs", logging.Logger, "handle")
    clocks.patch("publish", Signature, "apply_async")
    _patch_clients(clocks)


def _patch_clients(clocks: Clocks) -> None:
    call: Any = BaseClient._make_api_call  # type: ignore[attr-defined]
    by_service = {service: clocks.timed(category, call) for service, category in _SERVICES.items()}

    @wraps(call)
    def api_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return by_service[self.meta.service_model.service_name](self, *args, **kwargs)

    BaseClient._make_api_call = api_call  # type: ignore[attr-defined]


install(Clocks(Path(os.environ["CLOCKS"])))

if __name__ == "__main__":
    from bridge.__main__ import main

    sys.exit(main())
