"""Figures of the length of a slide: accuracy and counts in each bin beside the paper's, and shortened slides."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.figures.style import BLUE, GREY, SKY, clean, interval, looks, panels

OF_ANSWERS = {
    "accuracy": "subset",
    "accuracy_full": "same slides, whole",
    "flips": "other answer than the whole slide's",
}
OF_TILES = {
    "retained": "kept again, of those still offered",
    "retained_chance": "the same at random",
    "jaccard": "both kept, of all kept (Jaccard index)",
}


def by_length(table: pd.DataFrame, *, overall: float, paper: pd.DataFrame | None = None) -> Figure:
    """Draw counts above and accuracies below, a column a bin of length; the paper's beside ours, if given."""
    drawn, (above, below) = panels(2, columns=1, width=7.2, height=3.2, sharey=False)
    counts(above, table, paper)
    accuracy(below, table, overall=overall, paper=paper)
    return drawn


def shortened(table: pd.DataFrame) -> Figure:
    """Draw what becomes of answers, and of the tiles kept where a method keeps any, on subsets of the slides' tiles."""
    keeps = table["retained"].notna().any()
    drawn, axes = panels(1 + keeps, columns=2, width=4.8, height=4.0, sharey=False)
    against_length(axes[0], table, OF_ANSWERS, ylabel="questions (%)")
    if keeps:
        against_length(axes[1], table, OF_TILES, ylabel="kept tiles (%)")
    return drawn


def counts(ax: Axes, table: pd.DataFrame, paper: pd.DataFrame | None = None) -> Axes:
    """Draw the number of questions in each length bin, written above its bar; the paper's as hollow bars beside."""
    place, most = np.arange(len(table)), table["n_questions"].max()
    width = 0.8 if paper is None else 0.4
    shift = 0.0 if paper is None else width / 2
    bars = ax.bar(place - shift, table["n_questions"], color=SKY, width=width, label="ours")
    ax.bar_label(bars, color=GREY, fontsize=8)
    if paper is not None:
        hollow = ax.bar(
            place + shift,
            paper["n_questions"],
            width=width,
            facecolor="none",
            edgecolor=GREY,
            label="SparseLearn paper",
        )
        ax.bar_label(hollow, color=GREY, fontsize=8)
        most = max(most, paper["n_questions"].max())
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    ax.set(ylabel="questions", ylim=(0, 1.15 * most))
    ax.set_xticks(place, table["bin"])
    return clean(ax)


def accuracy(ax: Axes, table: pd.DataFrame, *, overall: float, paper: pd.DataFrame | None = None) -> Axes:
    """Draw accuracy in each length bin: thick 95 % intervals over patients, thin binomial ones; the paper's in grey."""
    place = np.arange(len(table))
    value = 100 * table["accuracy"]
    if paper is not None:
        _paper(ax, place, paper)
    for low, high, width, label in (
        ("binomial_low", "binomial_high", 0.9, "95 % binomial"),
        ("ci_low", "ci_high", 2.6, "95 % clustered by patient"),
    ):
        at = place + (0.08 if width < 1 else -0.08)
        interval(ax, at, 100 * table[low], 100 * table[high], axis="y", ecolor=BLUE, elinewidth=width, label=label)
    ax.plot(place - 0.08, value, "o", color=BLUE, markersize=6)
    ax.axhline(100 * overall, color=BLUE, linestyle="--", linewidth=1.2, label="all lengths")
    ax.set(xlabel="tiles on the slide", ylabel="accuracy (%)", ylim=(0, 102))
    ax.set_xticks(place, table["bin"], rotation=30)
    ax.legend(frameon=False, fontsize=8, ncols=3 if paper is None else 2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def against_length(ax: Axes, table: pd.DataFrame, curves: dict[str, str], *, ylabel: str) -> Axes:
    """Draw columns of `table` (0 to 1) against its `size` on a log axis; `curves` maps column -> legend.

    Columns accuracy and flips get their interval (`ci_low` or `flips_low` ...) as a band.
    """
    bands = {"accuracy": ("ci_low", "ci_high"), "flips": ("flips_low", "flips_high")}
    for column, look in looks(curves).items():
        ax.plot(table["size"], 100 * table[column], marker=look.marker, label=curves[column], **look.line)
        if column in bands:
            low, high = (100 * table[end] for end in bands[column])
            ax.fill_between(table["size"], low, high, color=look.colour, alpha=0.18, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="tiles offered (slides longer than that)", ylabel=ylabel, ylim=(0, 102))
    ax.set_xticks(table["size"], [f"{n}\n({s})" for n, s in zip(table["size"], table["n_slides"], strict=True)])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def _paper(ax: Axes, place: np.ndarray, paper: pd.DataFrame) -> None:
    """Draw the paper's accuracies with how far they may be read wrong, each written below its point."""
    value = 100 * paper["accuracy"]
    low, high = 100 * paper["accuracy_low"], 100 * paper["accuracy_high"]
    most = max((value - low).max(), (high - value).max())
    label = f"SparseLearn paper, {paper['n_questions'].sum():,} questions,\nread off its Fig. 4 (±{most:.1f})"
    style = {"color": GREY, "mfc": "white", "mec": GREY, "markersize": 5, "linewidth": 1.0, "elinewidth": 1.0}
    interval(ax, place + 0.22, low, high, value=value, axis="y", fmt="o-", label=label, **style)
    for x, y in zip(place + 0.22, value, strict=True):
        ax.annotate(
            f"{y:.1f}", (x, y), (0, -5), textcoords="offset points", ha="center", va="top", fontsize=7, color=GREY
        )
