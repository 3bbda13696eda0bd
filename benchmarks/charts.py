"""Draws the results as SVG files next to them: ``python -m benchmarks.charts`` (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import dollars, record
from benchmarks.spread import Spread

STYLE = {
    "svg.hashsalt": "charts",  # the same results give the same file
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
OURS, OTHERS = "#1f6f8b", "#b8bfc4"
#: Blue for work on pixels, warm colours for everything else.
COLOURS = {
    "S3": "#d98e04",
    "SQS": "#e8b84a",
    "SNS": "#c7d36f",
    "logs": "#9a9a9a",
    "computing": "#1f6f8b",
}


def _save(figure: Figure, name: str) -> None:
    path = record.FOLDER / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path)


def _grid(axis: Axes, which: Literal["x", "y"]) -> None:
    axis.grid(axis=which, alpha=0.3)


def end_to_end() -> None:
    """Draws the CPU of an image, by contender, with the lowest and the highest round."""
    facts = record.load("end_to_end")
    figure, axes = pyplot.subplots(1, len(facts["photos"]), figsize=(9.5, 2.8), sharey=True, layout="constrained")
    for axis, (photo, found) in zip(axes, facts["photos"].items(), strict=True):
        names = list(found)[::-1]
        for place, name in enumerate(names):
            spread = Spread.of(found[name]["cpu_s"])
            low, high = spread.middle - spread.low, spread.high - spread.middle
            colour = OURS if name.startswith("ours") else OTHERS
            axis.barh(place, spread.middle * 1000, color=colour, height=0.65)
            axis.errorbar(
                spread.middle * 1000, place, xerr=[[low * 1000], [high * 1000]], color="#333333", capsize=2, lw=0.8
            )
            axis.annotate(
                f"{spread.middle * 1000:.0f}",
                (spread.high * 1000, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
            )
        axis.set_yticks(range(len(names)), [facts["titles"][name] for name in names])
        axis.margins(x=0.15)
        axis.set_title(photo, fontsize=9)
        axis.set_xlabel("ms of CPU an image")
        _grid(axis, "x")
    _save(figure, "end_to_end")


def _stacked(axis: Axes, rows: dict[str, dict[str, float]], parts: Iterable[str], least_shown: float) -> None:
    for place, (_, row) in enumerate(reversed(rows.items())):
        left = 0.0
        for part in parts:
            value = row.get(part, 0.0)
            axis.barh(place, value, left=left, color=COLOURS[part], height=0.6, label=part if place == 0 else None)
            if value >= least_shown:
                axis.text(
                    left + value / 2, place, f"{value:.1f}", ha="center", va="center", color="white", fontsize=7.5
                )
            left += value
        axis.annotate(f"{left:.1f}", (left, place), xytext=(4, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(rows)), list(rows)[::-1])
    axis.margins(x=0.08)
    _grid(axis, "x")


def money() -> None:
    facts = record.load("dollars")
    rows = {}
    for title, row in facts["per_million"].items():
        for computing in ("Fargate x86", "Fargate x86 Spot", "Lambda x86"):
            if computing in row:
                label = title if computing.startswith("Lambda") else f"{title}, {computing.partition(' ')[2]}"
                rows[label] = {**row, "computing": row[computing]}
    rows = dict(sorted(rows.items(), key=lambda item: dollars.total(item[1], "computing")))
    figure, axis = pyplot.subplots(figsize=(9.5, 0.9 + 0.3 * len(rows)), layout="constrained")
    _stacked(axis, rows, ("S3", "SQS", "SNS", "logs", "computing"), 0.6)
    axis.set_title(f"dollars a million photos of 12 MP (us-east-1, list prices of {facts['prices_as_of']})", fontsize=9)
    axis.legend(loc="upper right", frameon=False)  # the shortest bars are at the top
    _save(figure, "dollars")


def main() -> None:
    mpl.use("svg")
    mpl.rcParams |= STYLE
    end_to_end()
    money()


if __name__ == "__main__":
    main()
