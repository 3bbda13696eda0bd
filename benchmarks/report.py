"""Writes ``docs/performance.md``, with all numbers from the results: ``python -m benchmarks.report``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import dollars, record
from benchmarks.spread import Spread, ratio

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
RESULTS = "../benchmarks/results"
TWELVE = "12 MP JPEG"
#: The pipeline as its image ships it, and with Pillow alone; and the loops with the same image code.
OURS = ("ours_simd", "ours")
LOOPS = {"ours_simd": "our_loop_simd", "ours": "our_loop"}
HOW = {"ours_simd": "as shipped", "ours": "with Pillow alone"}
#: The goals for CPU: the photo, which of ours, the system to compare with, its name in the page, the highest ratio.
SMALL = "web JPEG 800x600"
SHIPPED, PLAIN = OURS
OF_CPU = (
    (TWELVE, SHIPPED, "sample_loop", "the sample's design", 0.30),
    (TWELVE, PLAIN, "sample_loop", "the sample's design", 0.45),
    (TWELVE, SHIPPED, LOOPS[SHIPPED], "its loop with our image code", 1.10),
    (TWELVE, PLAIN, LOOPS[PLAIN], "its loop with our image code", 1.25),
    (TWELVE, SHIPPED, "sharp_worker", "Node with sharp", 0.75),
    (TWELVE, PLAIN, "sharp_worker", "Node with sharp", 1.00),
    (SMALL, SHIPPED, "sample_loop", "the sample's design", 1.00),
    (SMALL, SHIPPED, LOOPS[SHIPPED], "its loop with our image code", 1.25),
)
SHORT = {TWELVE: "a 12 MP photo", SMALL: "a web JPEG"}
S3_PER_IMAGE, WITH_MONITORING, DOLLARS, LATENCY = 3.0, 0.8, 12.4, 1.5
#: Long polls an hour: the fewest requests that one process can make to one queue.
POLLS_PER_HOUR = 3600 / 20

Row = Sequence[str]


def table(header: Row, rows: Sequence[Row]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows)]


def per_image(requests: dict[str, float]) -> dict[str, float]:
    found = {"S3": 0.0, "SQS": 0.0, "SNS": 0.0}
    for name, number in requests.items():
        action = name.split(" ")[-2]
        service = "S3" if action in dollars.FREE else dollars.PRICED.get(action, "SQS").partition(" ")[0]
        found[service] += number
    return found


class Results:
    def __init__(self) -> None:
        self.end_to_end = record.load("end_to_end")
        self.dollars = record.load("dollars")
        self.cold_start = record.load("cold_start")

    def cpu(self, photo: str, name: str) -> list[float] | None:
        found = self.end_to_end["photos"][photo].get(name)
        return None if found is None else found["cpu_s"]

    @property
    def ours(self) -> list[str]:
        """Our variants that were measured; the shipped one comes first, if it was available."""
        return [name for name in OURS if self.cpu(TWELVE, name) is not None]

    def of(self, other: str, photo: str, mine: str) -> Spread | None:
        """The ratio; None if there is nothing to compare. A loop is compared only with ours with the same resampler."""
        if other in LOOPS.values() and other != LOOPS[mine]:
            return None
        a, b = self.cpu(photo, mine), self.cpu(photo, other)
        return None if a is None or b is None else ratio(a, b)

    def title(self, name: str) -> str:
        return str(self.end_to_end["titles"][name])


def goals(results: Results) -> list[str]:
    rows: list[Row] = []

    def add(text: str, shown: str, met: bool) -> None:
        rows.append((text, shown, "met" if met else "**missed**"))

    def at_most(text: str, found: Spread | None, bound: float) -> None:
        if found is not None:
            add(f"{text}: at most {bound:.2f}", found.shown(digits=2), found.middle <= bound)

    for photo, mine, other, called, bound in OF_CPU:
        if mine in results.ours:
            at_most(f"CPU of {SHORT[photo]}, ours {HOW[mine]} ÷ {called}", results.of(other, photo, mine), bound)
    best = results.ours[0]
    requests = per_image(results.end_to_end["photos"][TWELVE][best]["requests"])
    whole = requests["SQS"] + requests["SNS"]
    add(f"SQS requests an image, with monitoring: at most {WITH_MONITORING}", f"{whole:.2f}", whole <= WITH_MONITORING)
    add(f"S3 requests an image: at most {S3_PER_IMAGE:g}", f"{requests['S3']:.2f}", requests["S3"] <= S3_PER_IMAGE)
    cost = dollars.total(results.dollars["per_million"][results.title(best)], "Fargate x86")
    add(f"dollars a million 12 MP photos: at most {DOLLARS}", f"{cost:.2f}", cost <= DOLLARS)
    waits = results.end_to_end["latency"]["s"]
    if LOOPS[best] in waits:
        at_most(
            "time from upload to thumbnail, ours as shipped ÷ its loop with our image code",
            ratio(waits[best], waits[LOOPS[best]]),
            LATENCY,
        )
    return table(("goal", "measured", ""), rows)


def side_by_side(results: Results) -> Iterator[str]:
    for photo, found in results.end_to_end["photos"].items():
        yield f"### {photo}"
        yield ""
        rows = []
        for name, facts in found.items():
            requests = per_image(facts["requests"])
            ratios = [results.of(name, photo, mine) for mine in results.ours]
            peak = max(max(each) for each in results.end_to_end["peak_mb"][name].values())
            rows.append(
                (
                    results.title(name),
                    Spread.of(facts["cpu_s"]).shown(1000),
                    *("–" if each is None else each.shown(digits=2) for each in ratios),
                    Spread.of(facts["wall_s"]).shown(1000, 0),
                    f"{requests['S3']:.1f}",
                    f"{requests['SQS']:.2f}",
                    f"{requests['SNS']:.2f}",
                    f"{peak:.0f}",
                )
            )
        mine = [f"ours {HOW[name]} ÷ it" for name in results.ours]
        yield from table(("", "CPU ms", *mine, "wall ms", "S3", "SQS", "SNS", "largest process, MB"), rows)
        yield ""


def busy(results: Results) -> str:
    """A warning if other work loads the machine: the benchmark itself keeps some four processes busy."""
    cores, load = results.end_to_end["cores"], results.end_to_end["load"]
    if load <= cores + 4:
        return ""
    return (
        f"**Other work kept the machine busy** (a load of {load} on {cores} cores). Wall times are several times as "
        "long as on an idle machine. So an image also takes several times as many of the requests that depend on time: "
        "a message of events each second, and batches that are sent before they are full."
    )


def latency(results: Results) -> Iterator[str]:
    """The table of times from an upload to its thumbnail, one upload at a time."""
    found = results.end_to_end["latency"]["s"]
    of_loop = LOOPS[results.ours[0]] if LOOPS[results.ours[0]] in found else None
    rows = [
        (
            results.title(name),
            Spread.of(waits).shown(1000),
            "–" if of_loop is None else ratio(waits, found[of_loop]).shown(digits=2),
        )
        for name, waits in found.items()
    ]
    yield from table(("", "ms from upload to thumbnail", "÷ the loop with our image code"), rows)


def cold_start(results: Results) -> Iterator[str]:
    """CPU until a worker is ready, beside what it can't do without."""
    found = results.cold_start["cpu_s"]
    needed = next(iter(found.values()))
    rows = [
        (name, Spread.of(times).shown(digits=2), ratio(times, needed).shown(digits=2)) for name, times in found.items()
    ]
    yield from table(("", "s of CPU", "÷ the libraries"), rows)


def losses(results: Results) -> Iterator[str]:
    """Sentences about whatever is cheaper than ours."""
    for photo, found in results.end_to_end["photos"].items():
        for name in found:
            ratios = {mine: results.of(name, photo, mine) for mine in results.ours if name not in OURS}
            dearer = [
                f"{each.shown(digits=2)} times its CPU {HOW[mine]}"
                for mine, each in ratios.items()
                if each is not None and each.middle > 1
            ]
            if dearer:
                yield f"- {photo}, {results.title(name)}: ours takes {' and '.join(dearer)}."


def money(results: Results) -> Iterator[str]:
    rows = []
    for title, row in results.dollars["per_million"].items():
        computing = [name for name in row if name.startswith(("Fargate", "Lambda"))]
        totals = {name: dollars.total(row, name) for name in computing}

        def cell(kind: str, totals: dict[str, float] = totals) -> str:
            name = next((name for name in totals if name.partition(" ")[2] == kind), None)
            return "–" if name is None else f"{totals[name]:.2f}"

        rows.append(
            (
                title,
                *(f"{row[service]:.2f}" for service in ("S3", "SQS", "SNS", "logs")),
                *(cell(kind) for kind in ("x86", "x86 Spot", "ARM", "ARM Spot")),
            )
        )
    yield from table(
        ("", "S3", "SQS", "SNS", "logs", "all, x86", "all, x86 Spot", "all, ARM †", "all, ARM Spot †"), rows
    )


def prices(results: Results) -> list[str]:
    def shown(name: str, price: float) -> str:
        small = name.startswith(("S3", "SQS", "SNS")) or name.endswith("request")
        return f"{price * dollars.MILLION:.2f} a million" if small else f"{price:.10f}".rstrip("0")

    return table(
        ("price", "dollars"), [(name, shown(name, price)) for name, price in results.dollars["prices"].items()]
    )


def idle(results: Results) -> Iterator[str]:
    found = results.end_to_end["idle"]
    rows = [
        (f"{role}: {action} `{target}`", f"{number:.0f}")
        for name, number in found["requests_per_hour"].items()
        for role, action, target in [name.split(" ", 2)]
    ]
    yield from table(("request", f"an hour, from {found['seconds']} s"), rows)


def missing(results: Results) -> str:
    found = results.end_to_end["missing"]
    return (
        "" if not found else "Not measured here: " + "; ".join(f"{name} ({why})" for name, why in found.items()) + "."
    )


def page(results: Results) -> str:
    facts = results.end_to_end
    assumed = results.dollars["assumed"]
    own = sum(n for name, n in facts["idle"]["requests_per_hour"].items() if not name.startswith("flower"))
    fill: dict[str, Callable[[], str]] = {
        "made": lambda: facts["made"],
        "machine": lambda: facts["machine"],
        "rounds": lambda: str(facts["rounds"]),
        "goals": lambda: "\n".join(goals(results)),
        "side_by_side": lambda: "\n".join(side_by_side(results)).rstrip(),
        "missing": lambda: missing(results),
        "busy": lambda: busy(results),
        "latency": lambda: "\n".join(latency(results)),
        "single_uploads": lambda: str(facts["latency"]["uploads"]),
        "single_photo": lambda: facts["latency"]["photo"],
        "cold_start": lambda: "\n".join(cold_start(results)),
        "cold_start_rounds": lambda: str(results.cold_start["rounds"]),
        "losses": lambda: "\n".join(losses(results)) or "Nowhere, among the systems above.",
        "money": lambda: "\n".join(money(results)),
        "prices": lambda: "\n".join(prices(results)),
        "prices_as_of": lambda: results.dollars["prices_as_of"],
        "wait": lambda: f"{assumed['s3_wait_s']}",
        "spot": lambda: f"{assumed['spot_discount']:.0%}",
        "lambda_mb": lambda: f"{assumed['lambda_mb']}",
        "idle": lambda: "\n".join(idle(results)),
        "idle_own": lambda: f"{own:.0f}",
        "idle_dollars": lambda: f"{results.dollars['idle_requests_month']['pipeline']:.2f}",
        "idle_flower_dollars": lambda: f"{results.dollars['idle_requests_month']['Flower']:.2f}",
        "idle_least": lambda: f"{POLLS_PER_HOUR:.0f}",
        "results": lambda: RESULTS,
    }
    text = (Path(__file__).parent / "performance.md.in").read_text()
    for name, value in fill.items():
        text = text.replace(f"{{{{{name}}}}}", value())
    if "{{" in text:
        raise ValueError(
            f"performance.md.in asks for {text.partition('{{')[2].partition('}}')[0]}, which is not filled in"
        )
    return text


def main() -> None:
    PAGE.write_text(page(Results()))
    print(PAGE)


if __name__ == "__main__":
    main()
