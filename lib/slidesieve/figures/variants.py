"""A method's variants beside their reference, and soft beside hard selection."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.answers.names import run_name
from slidesieve.answers.palette import DARK, GREY
from slidesieve.figures import style
from slidesieve.figures.style import PALE, RED, clean, interval, told_apart

LINEAR_POINTS = 10  # beyond this many points an axis is logarithmic, if anything lies beyond twice as many
TICKS = (-100, -50, -20, -10, -5, 0, 5, 10, 20, 50, 100)


def row_names(methods: Sequence[str], *, reference: str) -> list[str]:
    """Name a row by what differs from the reference: "gate = scale"."""
    names = [method.removeprefix(f"{reference}:") for method in methods]
    return [reference if name == reference else name.replace("=", " = ").replace(":", ",\n") for name in names]


def differences(ax: Axes, paired: pd.DataFrame, *, reference: str, xlabel: str) -> Axes:
    """Draw each variant's pooled difference and interval, a small dot for each seed, the paper's delta hollow.

    `paired` holds one group's rows, with `paper_delta`; the reference is the first row, at zero.
    """
    methods = [reference, *paired["method"].unique()]
    ax.axvline(0, color=GREY, linewidth=1.0)
    ax.plot(0, 0, "s", color=GREY, markersize=5)
    _intervals(ax, paired, methods, column="difference", low="ci_low", high="ci_high")
    known = paired[paired["pooled"] & paired["paper_delta"].notna()]
    if len(known):
        place, style = known["method"].map(methods.index) + 0.28, {"color": RED, "mfc": "none", "markersize": 6}
        ax.plot(100 * known["paper_delta"], place, "D", label="paper, other benchmark", **style)
    return _rows(ax, methods, reference=reference, xlabel=xlabel)


def gaps(ax: Axes, gaps: pd.DataFrame, methods: Sequence[str], *, reference: str, xlabel: str) -> Axes:
    """Draw each method's pooled gap and interval in the rows of `differences`, a small dot for each seed.

    Its colour tells whether the gap differs from the reference's.
    """
    ax.axvline(0, color=GREY, linewidth=1.0)
    _intervals(ax, gaps, methods, column="gap", low="gap_low", high="gap_high")
    return _rows(ax, methods, reference=reference, xlabel=xlabel)


def _intervals(ax: Axes, table: pd.DataFrame, methods: Sequence[str], *, column: str, low: str, high: str) -> None:
    pooled, seeds = table[table["pooled"]], table[~table["pooled"]]
    for rows, how in told_apart(pooled["verdict"]):
        part = pooled[rows]
        place, value = part["method"].map(methods.index), 100 * part[column]
        interval(ax, place, 100 * part[low], 100 * part[high], value=value, markersize=6, **how)
    place = seeds["method"].map(methods.index) - 0.24
    ax.plot(100 * seeds[column], place, "o", color=GREY, alpha=0.55, markersize=3, label="one seed")


def _rows(ax: Axes, methods: Sequence[str], *, reference: str, xlabel: str) -> Axes:
    low, high = ax.get_xlim()
    if max(-low, high) > 2 * LINEAR_POINTS:
        ax.set_xscale("symlog", linthresh=LINEAR_POINTS, linscale=1.4)
        shown = [tick for tick in TICKS if low <= tick <= high]
        ax.set_xticks(shown, [str(tick) for tick in shown])
        ax.minorticks_off()
        xlabel = f"{xlabel}\nlogarithmic beyond {LINEAR_POINTS} points"
    ax.set(xlabel=xlabel, yticks=range(len(methods)), yticklabels=row_names(methods, reference=reference))
    ax.set_ylim(len(methods) - 0.45, -0.55)
    return clean(ax, grid="x")


def all_soft_and_hard(pairs: pd.DataFrame) -> Figure:
    """Draw a panel of `soft_and_hard` for each method and k."""
    runs = pairs.groupby(["method", "k"], sort=False)
    drawn, axes = style.panels(len(runs), width=6)
    for ax, (run, part) in zip(axes, runs, strict=True):
        soft_and_hard(ax, part).set_title(run_name(*run), loc="left", pad=24)
    return drawn


def soft_and_hard(ax: Axes, pairs: pd.DataFrame) -> Axes:
    """Join soft (all tiles, gated) and hard (k tiles) accuracy of each group, as `scores.soft_and_hard` has them.

    Of one seed both have their 95 % interval; of several each seed has its bar.
    """
    names = list(dict.fromkeys(pairs["group"]))
    for place, name in enumerate(names):
        part = pairs[pairs["group"] == name]
        offset = place + np.linspace(-0.15, 0.15, len(part)) * (len(part) > 1)
        labels = ("soft: all tiles, gated", "hard: k tiles, as used") if place == 0 else (None, None)
        for path, beside in (("soft", -0.24), ("hard", 0.24)) if len(part) == 1 else ():
            low, high = (100 * part[f"{path}_{end}"] for end in ("low", "high"))
            interval(ax, offset + beside, low, high, color=GREY, linewidth=1)
        ax.hlines(offset, 100 * part["soft"], 100 * part["hard"], color=PALE, linewidth=3, zorder=1)
        ax.plot(100 * part["soft"], offset, "D", color=DARK, mfc="white", markersize=6, label=labels[0])
        ax.plot(100 * part["hard"], offset, "o", color=DARK, markersize=6, label=labels[1])
    ax.set(xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return clean(ax, grid="x")
