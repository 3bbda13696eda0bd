"""What an outage costs: ``python -m benchmarks.outage [uploads] [seconds]``; its table is in docs/broker.md.

Runs a real bridge and a real worker of two processes, with their default settings and back-offs. After some images are
done, a service fails for everybody, ``uploads`` objects arrive, and after ``seconds`` the service works again. Nobody
types a command. The requests, CPU and log lines in the second half of the outage, when everything is steady, give the
cost of an hour.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes, record
from benchmarks.report import table
from tests.support.aws_process import S3Proxy
from tests.support.chain import Chain, chain, picture
from tests.support.waiting import wait_until

PAGE = Path(__file__).parents[1] / "docs" / "broker.md"
RESULT = "outage"
WARM_UP = 20
HEADER = (
    "outage",
    "uploads, minutes",
    "S3 requests an hour",
    "SQS requests an hour",
    "CPU s an hour",
    "lines logged about it",
    "failed, dead",
    "all done after, s",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    title: str
    begin: Callable[[Chain, S3Proxy], None]
    stops_sqs: bool = False


def _s3(**fault: Any) -> Callable[[Chain, S3Proxy], None]:
    return lambda _made, proxy: proxy.fault(times=-1, **fault)


def _sqs(**fault: Any) -> Callable[[Chain, S3Proxy], None]:
    return lambda made, _proxy: made.server.fault("*", queue=made.prefix, times=-1, **fault)


def _expired(made: Chain, proxy: S3Proxy) -> None:
    for fail in (_s3(action="*", status=403, code="ExpiredToken"), _sqs(status=403, code="ExpiredToken")):
        fail(made, proxy)


SCENARIOS = (
    Scenario("S3 answers 503", _s3(action="*", status=503, code="SlowDown")),
    Scenario(
        "a policy denies reading, and is corrected",
        _s3(action="GET", queue="input", status=403, code="AccessDenied"),
    ),
    Scenario("the credentials expire, and are renewed", _expired, stops_sqs=True),
    Scenario("SQS answers 503", _sqs(status=503), stops_sqs=True),
)


@dataclass(frozen=True, slots=True)
class Used:
    at: float
    s3: int
    sqs: int
    cpu_s: float
    warnings: Counter[str]

    def per_hour(self, after: Used) -> dict[str, float]:
        hours = (after.at - self.at) / 3600
        return {name: round((getattr(after, name) - getattr(self, name)) / hours) for name in ("s3", "sqs", "cpu_s")}


def used(made: Chain, proxy: S3Proxy) -> Used:
    return Used(
        at=time.monotonic(),
        s3=sum(number for name, number in proxy.counts().items() if " " not in name),
        sqs=made.server.requests(made.prefix),
        cpu_s=processes.cpu_s([process.pid for process in made.processes.values()]),
        warnings=warnings(made),
    )


def measure(scenario: Scenario, uploads: int, seconds: float) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        chain(Path(folder), s3_proxy=True, POLL_WAIT_S="20", S3_CLIENT="auto") as (made, proxy),
    ):
        assert proxy is not None
        events = [made.upload(f"{number}.jpg", picture(number), 1) for number in range(WARM_UP + uploads)]
        made.start_bridge()
        made.start_worker()
        made.notify(events[:WARM_UP])
        wait_until(lambda: len(made.outputs("thumbs")) == WARM_UP and made.idle(), "the first images are done", 120)
        if scenario.stops_sqs:
            made.notify(events[WARM_UP:])
        scenario.begin(made, proxy)
        began = used(made, proxy)
        if not scenario.stops_sqs:
            made.notify(events[WARM_UP:])
        time.sleep(seconds / 2)
        half = used(made, proxy)
        time.sleep(seconds / 2)
        ended = used(made, proxy)
        proxy.repair()
        made.server.repair()
        wait_until(lambda: done(made, WARM_UP + uploads), "all is done", 900)
        finished = used(made, proxy)
        return {
            "uploads": uploads,
            "seconds": seconds,
            "an_hour": half.per_hour(ended),
            "in_all": {"s3": ended.s3 - began.s3, "sqs": ended.sqs - began.sqs},
            "warnings": dict(sorted((finished.warnings - began.warnings).items())),
            "failed": len(made.outputs("failed")),
            "dead": made.dead(),
            "done_after_s": round(finished.at - ended.at),
        }


def warnings(made: Chain) -> Counter[str]:
    """The number of warnings and errors in the logs of bridge and worker, by action."""
    text = made.log("worker") + made.log("bridge")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return Counter(str(line.get("action")) for line in lines if line["level"] != "INFO")


def done(made: Chain, images: int) -> bool:
    """Whether all is done; makes the cheapest check first."""
    return made.idle() and len(made.outputs("thumbs")) + len(made.outputs("failed")) + made.dead() >= images


def shown(results: dict[str, Any]) -> list[str]:
    rows = []
    for title, found in results["outages"].items():
        hour = found["an_hour"]
        rows.append(
            (
                title,
                f"{found['uploads']:,}, {found['seconds'] / 60:.1f}",
                *(f"{hour[name]:,.0f}" for name in ("s3", "sqs", "cpu_s")),
                f"{sum(found['warnings'].values())}",
                f"{found['failed']}, {found['dead']}",
                f"{found['done_after_s']}",
            )
        )
    return table(HEADER, rows)


def renewed(page: str) -> str:
    """The page with a new table. Raises ``ValueError`` if it has none."""
    head = re.escape(f"| {' | '.join(HEADER)} |")
    text = "\n".join(shown(record.load(RESULT)))
    page, count = re.subn(rf"^{head}\n(?:\|.*\n)+", lambda _: f"{text}\n", page, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"the page has {count} tables of outages, not one")
    return page


def main() -> None:
    uploads = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 300.0
    outages = {}
    for scenario in SCENARIOS:
        outages[scenario.title] = measure(scenario, uploads, seconds)
        print(scenario.title, outages[scenario.title], flush=True)
    record.save(RESULT, {"outages": outages})
    PAGE.write_text(renewed(PAGE.read_text()))


if __name__ == "__main__":
    main()
