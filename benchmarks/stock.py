"""The pipeline on Celery's stock SQS transport, for comparison.

``celery -A benchmarks.stock worker`` and ``python -m benchmarks.stock`` (the bridge).
"""

from __future__ import annotations

import sys

from pipeline.celery import app
from tests.support.stock import make_stock

make_stock(app)
__all__ = ["app"]

if __name__ == "__main__":
    from bridge.__main__ import main

    sys.exit(main())
