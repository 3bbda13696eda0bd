"""``python -m pipeline check``: runs all checks in parallel, and removes what they created."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.core import console
from pipeline.core.settings import Settings
from pipeline.operations import check_results
from pipeline.operations.check import bucket_events, messages, own, store
from pipeline.operations.check.guarantee import Guarantee
from pipeline.operations.check.place import Place
from pipeline.operations.check_results import CheckResult

#: For any endpoint, whatever is deployed there.
OF_THE_ENDPOINT = (*store.GUARANTEES, *messages.GUARANTEES, *bucket_events.GUARANTEES)


def tried(guarantees: Sequence[Guarantee], place: Place) -> list[CheckResult]:
    """All results, in the order of the guarantees. Always removes what the checks created."""
    try:
        with ThreadPoolExecutor(len(guarantees) or 1) as pool:
            return list(pool.map(lambda guarantee: guarantee.tried(place), guarantees))
    finally:
        for left in place.clean_up():
            console.echo_err(f"could not be removed: {left}")


def check(*, as_json: bool, patience_s: float) -> int:
    """Returns the exit status. Raises ``PipelineError``."""
    settings = Settings.from_env()
    place = Place(settings.output_bucket, settings.queue_prefix, patience_s)
    return check_results.show(tried([*own.guarantees(settings), *OF_THE_ENDPOINT], place), as_json=as_json)
