"""Estimates cost and hours from a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.operations.adopt.survey import Tried

#: us-east-1, list prices in dollars, without free tiers and discounts.
#: Source: AWS's price pages of S3, SQS and Fargate (Linux, x86).
PRICES_AS_OF = "2026-03"
PUT, GET = 0.005 / 1000, 0.0004 / 1000
SQS_REQUEST = 0.40 / 1_000_000
VCPU_HOUR, GB_HOUR = 0.04048, 0.004445
STORED_GB_MONTH = 0.023
#: Approximate discount of Fargate Spot; it changes hourly.
SPOT_DISCOUNT = 0.7

#: Requests for each rendition of a manually enqueued image: it is written; the original or another one is read, and two
#: checks come before; its message is sent, received and deleted, about.
PUTS, GETS, MESSAGES = 1, 3, 2
#: A worker of the template: GB per vCPU, and the largest share of a vCPU that its processes use.
GB_PER_VCPU, BUSIEST = 2.0, 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate for ``objects``."""

    objects: int
    failing: float  # share of them
    cpu_hours: float
    hours: float  # with the given workers
    dollars: float  # on demand
    dollars_spot: float
    stored_gb: float

    @property
    def dollars_a_month(self) -> float:
        return self.stored_gb * STORED_GB_MONTH


def estimate(objects: int, sample: Sequence[Tried], vcpus: float) -> Estimate | None:
    """``vcpus``: of all workers together. Uses this machine's CPU time. None if no sample could be tried."""
    known = [each for each in sample if each.made is not None or each.reason is not None]
    if not known:
        return None
    made = [each.made for each in known if each.made is not None]
    failing = 1 - len(made) / len(known)
    good = objects * (1 - failing)
    cpu_s = sum(each.cpu_s for each in made) / len(made) if made else 0.0
    size = sum(sum(each.sizes) for each in made) / len(made) if made else 0.0
    cpu_hours = good * cpu_s / 3600
    compute = cpu_hours / BUSIEST * (VCPU_HOUR + GB_PER_VCPU * GB_HOUR)
    renditions = max((len(each.sizes) for each in made), default=0)
    requests = objects * renditions * (PUTS * PUT + GETS * GET + MESSAGES * SQS_REQUEST)
    return Estimate(
        objects,
        failing,
        cpu_hours,
        hours=cpu_hours / (vcpus * BUSIEST),
        dollars=requests + compute,
        dollars_spot=requests + compute * (1 - SPOT_DISCOUNT),
        stored_gb=good * size / 1e9,
    )
