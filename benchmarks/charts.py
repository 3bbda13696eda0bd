"""The results as SVG, beside the results: ``python -m benchmarks.charts`` (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import dollars, profile, record
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
#: Work on pixels in blues, what surrounds it in warm colours.
COLOURS = {
    "decode": "#0b3c5d",
    "resize": "#1f6f8b",
    "encode": "#6aa9c4",
    "S3": "#d98e04",
    "SQS": "#e8b84a",
    "SNS": "#c7d36f",
    "events": "#c7d36f",
    "logs": "#9a9a9a",
    "Celery": "#a8324a",
    "bridge": "#d98aa0",
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
    """CPU of an image, by contender, with the lowest and the highest round."""
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


def where_the_time_goes() -> None:
    runs = record.load("profile")["runs"]
    photos = list(runs[-1]["photos"])
    figure, axes = pyplot.subplots(
        len(photos), 1, figsize=(9.5, 1.1 + len(photos) * (0.7 + 0.4 * len(runs))), layout="constrained"
    )
    for axis, photo in zip(axes, photos, strict=True):
        rows = {
            run["label"]: {part: seconds * 1000 for part, seconds in run["photos"][photo].items()}
            for run in runs
            if photo in run["photos"]
        }
        widest = max(sum(row.values()) for row in rows.values())
        _stacked(axis, rows, profile.SHOWN, widest / 25)
        axis.set_title(f"{photo}: ms of CPU an image", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    _save(figure, "profile")


def growth() -> None:
    facts = record.load("growth")
    figure, axes = pyplot.subplots(1, 4, figsize=(11, 2.7), layout="constrained")
    panels = (
        (axes[0], facts["backlogs"]["sizes"], "images waiting", True),
        (axes[1], facts["workers"], "workers", False),
    )
    for axis, found, label, logarithmic in panels:
        places = [int(place) for place in found]
        spreads = [Spread.of(each["cpu_s"]) for each in found.values()]
        axis.errorbar(
            places,
            [spread.middle * 1000 for spread in spreads],
            yerr=[
                [(spread.middle - spread.low) * 1000 for spread in spreads],
                [(spread.high - spread.middle) * 1000 for spread in spreads],
            ],
            color=OURS,
            marker="o",
            capsize=2,
        )
        axis.set_xscale("log" if logarithmic else "linear")
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
        axis.set_title(f"ms of CPU an image, {facts['small']}", fontsize=9)
        _grid(axis, "y")
    axes[1].set_xticks([int(number) for number in facts["workers"]])
    sizes = [int(size) for size in facts["megapixels"]]
    for axis, key, factor, title in (
        (axes[2], "cpu_s", 1000, "ms of CPU an image"),
        (axes[3], "peak_mb", 1, "MB of the largest process, at most"),
    ):
        axis.plot(sizes, [each[key] * factor for each in facts["megapixels"].values()], color=OURS, marker="o")
        axis.set_xlabel("megapixels")
        axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=9)
        _grid(axis, "y")
    _save(figure, "growth")


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
    where_the_time_goes()
    growth()
    money()


if __name__ == "__main__":
    main()
