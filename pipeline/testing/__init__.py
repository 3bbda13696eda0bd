"""For tests of routes of your own: everything that happens in production, in memory and in seconds.

``check_routes`` runs them through duplicates, reordering, overwrites, deletions, processes that die between any two
requests, failing services and cold caches, and says what broke. ``PipelineModel`` is what it does that on: the real
bridge and the real tasks, one step at a time, on modelled S3 and SQS.
"""

from __future__ import annotations

from pipeline.testing.conformance import BrokenRoute, check_routes
from pipeline.testing.model import PipelineModel
from pipeline.testing.s3 import S3Model

__all__ = ["BrokenRoute", "PipelineModel", "S3Model", "check_routes"]
