"""Dollars for a million 12 MP photos, from the measured CPU and requests: ``python -m benchmarks.dollars``.

This module measures nothing. ``PRICES`` has all prices. Assumptions that come from neither a price list nor a
measurement are in ``Assumed``, and marked † wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks import record

MILLION = 1_000_000
HOUR_S = 3600
#: us-east-1, list prices in dollars, without free tiers and discounts; from AWS's price pages.
PRICES_AS_OF = "2026-03"
PRICES = {
    "S3 PUT": 0.005 / 1000,
    "S3 GET": 0.0004 / 1000,  # and HEAD; DELETE is free
    "SQS request": 0.40 / MILLION,  # standard queue, up to 64 KiB
    "SNS publish": 0.50 / MILLION,  # up to 64 KiB; deliveries to SQS are free
    "logs GB": 0.50,  # CloudWatch, ingested
    "Fargate x86 vCPU hour": 0.04048,
    "Fargate x86 GB hour": 0.004445,
    "Fargate ARM vCPU hour": 0.03238,
    "Fargate ARM GB hour": 0.00356,
    "Lambda x86 GB s": 0.0000166667,
    "Lambda ARM GB s": 0.0000133334,
    "Lambda request": 0.20 / MILLION,
}
PRICED = {"GetObject": "S3 GET", "HeadObject": "S3 GET", "PutObject": "S3 PUT", "Publish": "SNS publish"}
FREE = ("DeleteObject", "DeleteObjects")


@dataclass(frozen=True, slots=True)
class Assumed:
    """Assumptions that are neither measured nor on a price list."""

    s3_wait_s: float = 0.15  # for one photo: reading 4 MB and writing two renditions, in the same region
    spot_discount: float = 0.7  # it changes with the hour
    worker_vcpu: float = 1.0  # the template's defaults
    worker_gb: float = 2.0
    processes_per_vcpu: int = 2
    busiest: float = 0.95  # share of a vCPU that processes can use at most
    arm_cpu: float = 1.0  # CPU seconds of an image on ARM, per one on x86: not measured
    lambda_mb: int = 512  # the smallest size that is enough for the work; waiting costs less with less memory
    lambda_mb_per_vcpu: int = 1769
    lambda_log_bytes: int = 450  # START, END, REPORT and one line of ours


def requests(per_image: Mapping[str, float]) -> dict[str, float]:
    """Dollars a million images, by service. The keys of ``per_image`` end in ``<action> <target>``."""
    found = {"S3": 0.0, "SQS": 0.0, "SNS": 0.0}
    for name, number in per_image.items():
        action = name.split(" ")[-2]
        if action in FREE:
            continue
        price = PRICED.get(action, "SQS request")
        found[price.partition(" ")[0]] += number * PRICES[price] * MILLION
    return found


def busy(cpu_s: float, assumed: Assumed) -> float:
    """The share of a vCPU that a worker's processes use, since each of them also waits for S3."""
    return min(assumed.busiest, assumed.processes_per_vcpu * cpu_s / (cpu_s + assumed.s3_wait_s))


def fargate(cpu_s: float, kind: str, assumed: Assumed, *, spot: bool = False) -> float:
    """Dollars a million images that take ``cpu_s`` seconds of CPU each. ``kind``: x86 or ARM."""
    cpu_s *= assumed.arm_cpu if kind == "ARM" else 1.0
    vcpu_hour, gb_hour = (PRICES[f"Fargate {kind} {unit} hour"] for unit in ("vCPU", "GB"))
    worker_hour = assumed.worker_vcpu * vcpu_hour + assumed.worker_gb * gb_hour
    hours = cpu_s / busy(cpu_s, assumed) / assumed.worker_vcpu / HOUR_S * MILLION
    return hours * worker_hour * (1 - assumed.spot_discount if spot else 1.0)


def in_lambda(cpu_s: float, kind: str, assumed: Assumed) -> float:
    """Dollars a million images, one invocation each, directly from S3's event."""
    cpu_s *= assumed.arm_cpu if kind == "ARM" else 1.0
    duration_s = cpu_s * assumed.lambda_mb_per_vcpu / assumed.lambda_mb + assumed.s3_wait_s
    each = duration_s * assumed.lambda_mb / 1024 * PRICES[f"Lambda {kind} GB s"] + PRICES["Lambda request"]
    return each * MILLION


def logs(bytes_per_image: float) -> float:
    return bytes_per_image * MILLION / 1e9 * PRICES["logs GB"]


def rows(measured: Mapping[str, Any], photo: str, assumed: Assumed) -> dict[str, dict[str, float]]:
    """For each system, dollars a million images: of each service, and of the alternatives for computing."""
    found = {}
    for name, facts in measured["photos"][photo].items():
        cpu_s = median(facts["cpu_s"])
        found[measured["titles"][name]] = {
            **requests(facts["requests"]),
            "logs": logs(measured["log_bytes_per_image"][name]),
            "Fargate x86": fargate(cpu_s, "x86", assumed),
            "Fargate x86 Spot": fargate(cpu_s, "x86", assumed, spot=True),
            "Fargate ARM": fargate(cpu_s, "ARM", assumed),
            "Fargate ARM Spot": fargate(cpu_s, "ARM", assumed, spot=True),
        }
    for name, how in {"our_loop_simd": "as shipped", "our_loop": "Pillow alone"}.items():
        alone = measured["photos"][photo].get(name)
        if alone is None:
            continue
        cpu_s = median(alone["cpu_s"])
        s3 = {call: number for call, number in alone["requests"].items() if call.split(" ")[-2].endswith("Object")}
        found[f"Lambda with our image code, {how}"] = {
            **requests(s3),
            "logs": logs(assumed.lambda_log_bytes),
            "Lambda x86": in_lambda(cpu_s, "x86", assumed),
            "Lambda ARM": in_lambda(cpu_s, "ARM", assumed),
        }
    return found


def total(row: Mapping[str, float], computing: str) -> float:
    return sum(row[name] for name in ("S3", "SQS", "SNS", "logs", computing))


def idle_month(requests_per_hour: Mapping[str, float]) -> float:
    """Dollars for the requests of an idle stack in 730 hours, without its containers."""
    return sum(requests(requests_per_hour).values()) / MILLION * 730


def main() -> None:
    measured = record.load("end_to_end")
    assumed = Assumed()
    found = rows(measured, "12 MP JPEG", assumed)
    for title, row in found.items():
        parts = ", ".join(f"{name} {dollars:.2f}" for name, dollars in row.items())
        print(f"{title}: {parts}")
    per_hour = measured["idle"]["requests_per_hour"]
    by_flower = {name: number for name, number in per_hour.items() if name.startswith("flower ")}
    own = {name: number for name, number in per_hour.items() if name not in by_flower}
    idle = {"pipeline": round(idle_month(own), 2), "Flower": round(idle_month(by_flower), 2)}
    print(
        record.save(
            "dollars",
            {
                "prices_as_of": PRICES_AS_OF,
                "prices": PRICES,
                "assumed": asdict(assumed),
                "photo": "12 MP JPEG",
                "measured": measured["made"],
                "per_million": {title: record.rounded(row, 3) for title, row in found.items()},
                "idle_requests_month": idle,
            },
        )
    )


if __name__ == "__main__":
    main()
