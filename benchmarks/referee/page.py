"""The results of the referee: a page to look through, and the tables of docs/images.md."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.referee.judging import CPU_BOUND_S, MEMORY_BOUND_MB, Case, Judge
from benchmarks.referee.ledger import reasons

#: In the order of the page: what a person should look at comes first.
VERDICTS = (
    "differs",
    "refused, and shown whole",
    "right by some judges",
    "only here",
    "refused",
    "another format",
    "right",
)
REASONS = ("truncated", "damaged", "unsupported", "too-large", "not-an-image")
_STYLE = """body{font:14px/1.4 sans-serif;margin:2em}h2{margin-top:2em}
table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:6px;vertical-align:top;text-align:left}
td:nth-child(1){max-width:22em;overflow-wrap:anywhere}td:last-child{max-width:34em;overflow-wrap:anywhere}
img{background:repeating-conic-gradient(#ddd 0 25%,#fff 0 50%) 0 0/16px 16px;max-width:192px}
nav a{margin-right:1.5em}.why{color:#060}"""


def write_page(cases: Sequence[Case], accepted: Mapping[str, str], judges: Sequence[str], folder: Path) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    counted = Counter(case.verdict for case in cases)
    links = "".join(f'<a href="#{index}">{name}: {counted[name]}</a>' for index, name in enumerate(VERDICTS))
    parts = [f"<!doctype html><meta charset=utf-8><title>Referee</title><style>{_STYLE}</style><nav>{links}</nav>"]
    number = 0
    for index, verdict in enumerate(VERDICTS):
        parts.append(f'<h2 id="{index}">{verdict} ({counted[verdict]})</h2><table>')
        parts.append(f"<tr><th>file<th>here{''.join(f'<th>{who}' for who in judges)}<th>")
        for case in (case for case in cases if case.verdict == verdict):
            cells = []
            for who in ("here", *judges):
                picture = case.pictures.get(who)
                if picture is None:
                    cells.append("<td>–")
                    continue
                number += 1
                picture.save(pictures / f"{number}.webp", quality=80, method=0)
                size = f"width={picture.width} height={picture.height}"
                cells.append(f'<td><img loading=lazy {size} src="pictures/{number}.webp">')
            reason = accepted.get(case.name)
            why = "" if reason is None else f"<br><span class=why>accepted: {html.escape(reason)}</span>"
            parts.append(f"<tr><td>{html.escape(case.name)}{''.join(cells)}<td>{html.escape(case.detail)}{why}")
        parts.append("</table>")
    page = folder / "index.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def tables(cases: Sequence[Case], accepted: Mapping[str, str], judges: Sequence[Judge]) -> str:
    columns = [*(f"refused: `{reason}`" for reason in REASONS), "another format", "only here", "differs"]
    lines = [
        f"Judges: {', '.join(f'{each.name} {each.version}' for each in judges)}. "
        "*Right*: the same as with all judges that show the file, or as with one of them where they differ. "
        "*Refused*: at most one judge shows the whole file; where two do, it counts as *differs*. "
        "*Another format*: one that the renderer does not read. *Only here*: no judge shows the file.",
        "",
        f"| corpus | files | right | {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) + 2)}",
    ]
    corpora = list(dict.fromkeys(case.corpus for case in cases))
    for name in [*corpora, "all"]:
        own = [case for case in cases if name in (case.corpus, "all")]
        verdicts = Counter(case.verdict for case in own)
        refused = Counter(case.reason for case in own if case.verdict == "refused")
        figures = [
            len(own),
            verdicts["right"] + verdicts["right by some judges"],
            *(refused[reason] for reason in REASONS),
            verdicts["another format"],
            verdicts["only here"],
            sum(case.needs_acceptance for case in own),
        ]
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    lines += ["", "Why the files that differ are accepted:", "", "| why | files |", "|---|---:|"]
    lines += reasons(accepted)
    slowest, largest = max(cases, key=lambda case: case.cpu_s), max(cases, key=lambda case: case.memory_mb)
    lines += [
        "",
        f"No file may take more than {CPU_BOUND_S:g} s of CPU time or {MEMORY_BOUND_MB:g} MB. The highest were "
        f"{slowest.cpu_s:.1f} s (`{slowest.name}`) and {largest.memory_mb:.0f} MB (`{largest.name}`).",
    ]
    return "\n".join(lines) + "\n"
