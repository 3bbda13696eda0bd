"""Knows which objects have a failure record, so that the next good version of one removes it.

The tasks of a new upload write renditions without checking for existing objects, so they must be told when there is a
record to remove. The bridge does that with one listing of ``failed/`` a minute, however many events there are. For a
record written after that listing, the task that wrote it checks again when the listing has expired
(``tasks.convergence.FOLLOW_UP_S``), and removes the record if it isn't about the newest version.
"""

from __future__ import annotations

import logging
from itertools import islice
from time import monotonic

from pipeline.core.errors import PipelineError
from pipeline.core.names import failure_key
from pipeline.core.settings import Settings
from pipeline.s3.listing import list_objects

#: Seconds for which a listing is valid; must be below FOLLOW_UP_S.
GOOD_FOR_S = 60.0
#: Maximum number of listed records, about 150 bytes each; if there are more, any object may have one.
MAX_RECORDS = 10_000

logger = logging.getLogger(__name__)


class FailedKeys:
    """``may_have_failed``: False is certain, True is not."""

    def __init__(self, settings: Settings) -> None:
        self._bucket, self._folder = settings.output_bucket, settings.failed_folder
        self._prefix = settings.output_prefix
        self._known: frozenset[str] | None = None  # keys of records; None: any object may have one
        self._good_until = 0.0
        self._complained = False

    def may_have_failed(self, key: str) -> bool:
        if monotonic() >= self._good_until:
            self._good_until = monotonic() + GOOD_FOR_S  # from before the listing
            self._known = self._listed()
        return self._known is None or failure_key(key, self._prefix) in self._known

    def _listed(self) -> frozenset[str] | None:
        if self._bucket is None:
            return None
        try:
            records = [found.key for found in islice(list_objects(self._bucket, self._folder), MAX_RECORDS + 1)]
        except PipelineError as exc:
            if not self._complained:
                self._complained = True
                logger.warning(
                    "bridge: can't list the failure records, so every object costs a few requests more: %s",
                    exc,
                    extra={"action": "failure_listing_failed"},
                )
            return None
        return frozenset(records) if len(records) <= MAX_RECORDS else None
