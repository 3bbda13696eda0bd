"""``python -m benchmarks.referee FOLDER``; ``--only TEXT``: only files with that text in their names, and no table."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.referee.chromium import chromium
from benchmarks.referee.corpora import pictures
from benchmarks.referee.judging import CHROMIUM, CPU_BOUND_S, MEMORY_BOUND_MB, Case, Judge, judge
from benchmarks.referee.ledger import ledger, read_accepted
from benchmarks.referee.page import tables, write_page
from benchmarks.referee.sharp import sharp
from benchmarks.referee.vips import by_vips, vips_version
from tests.support.marked import renewed

ACCEPTED = Path(__file__).with_name("accepted.txt")
PAGE = Path(__file__).parents[2] / "docs" / "images.md"
BEGINS, ENDS = "<!-- referee: make referee -->\n", "<!-- end of referee -->\n"

JUDGES = 3


@contextmanager
def judges() -> Iterator[list[Judge]]:
    with chromium() as browser, sharp() as third:
        bench = [
            Judge("libvips", vips_version(), lambda data, strict: by_vips(data, strict=strict)),
            Judge(CHROMIUM, browser.version, lambda data, _: browser.draw(data)),
        ]
        if third is not None:
            bench.append(Judge("sharp", third.version, lambda data, strict: third.draw(data, strict=strict)))
        yield bench


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.referee", description=__doc__)
    parser.add_argument("folder", type=Path, help="for downloads, and the page to look through")
    parser.add_argument("--only", default="", metavar="TEXT")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a normal exit also ends the browser
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"))
    cases: list[Case] = []
    with judges() as bench:
        for corpus, name, data in pictures(options.folder / "corpora"):
            if options.only in name:
                cases.append(judge(corpus, name, data, bench))
                if len(cases) % 100 == 0:
                    print(f"{len(cases)} files", file=sys.stderr)
    print(f"Look through {write_page(cases, accepted, [each.name for each in bench], options.folder)}")
    complete = len(bench) == JUDGES
    if not complete:
        print(
            "Without sharp the table stays as it was, and accepted.txt is not checked: "
            "npm install --prefix benchmarks/contenders",
            file=sys.stderr,
        )
    elif not options.only:
        table = tables(cases, accepted, bench)
        PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), BEGINS, ENDS, table), encoding="utf-8")
        print(table)
    listed = {name: why for name, why in accepted.items() if options.only in name}
    needed = {case.name for case in cases if case.needs_acceptance}
    problems = ledger(listed, needed) if complete else []  # for some files, only sharp agrees
    problems += [
        f"took {case.cpu_s:.1f} s of CPU time and {case.memory_mb:.0f} MB: {case.name}"
        for case in cases
        if case.cpu_s > CPU_BOUND_S or case.memory_mb > MEMORY_BOUND_MB or "costs too much" in case.detail
    ]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
