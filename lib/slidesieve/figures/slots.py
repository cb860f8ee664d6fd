"""Figures of slot usage: load by rank, sweeps, and tiles coloured by their slot."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from slidesieve.figures.style import BLUE, CYCLE, GREY, PALE, RED, clean

COLLAPSE = 0.6  # TC-SSA's report of the largest slot's share at low balance


def load_by_rank(ax: Axes, usage: pd.DataFrame) -> Axes:
    """Draw the load of the fullest slot, the next, ...: median over slides and the middle half of them."""
    shares = usage.pivot_table(index="slide_id", columns="slot", values="load").to_numpy()
    low, middle, high = 100 * np.quantile(np.sort(shares, axis=1)[:, ::-1], [0.25, 0.5, 0.75], axis=0)
    rank = np.arange(1, shares.shape[1] + 1)
    ax.bar(rank, middle, color=BLUE, alpha=0.7, label="median slide")
    ax.vlines(rank, low, high, color=GREY, linewidth=1.5, label="middle half of slides")
    ax.axhline(100 / shares.shape[1], color=RED, linestyle="--", linewidth=1.2, label="all alike")
    ax.set(xlabel="slot, fullest first", ylabel="share of routings (%)")
    ax.legend(frameon=False)
    return clean(ax)


def sweep(ax: Axes, runs: pd.DataFrame, *, option: str, xlabel: str, column: str, ylabel: str) -> Axes:
    """Draw one number of every run (dots) and its median over seeds (line) for each value of the option."""
    values = sorted(runs[option].unique())
    place = runs[option].map(values.index)
    scale = 100 if column.startswith("largest") else 1
    ax.plot(place, scale * runs[column], "o", color=BLUE, alpha=0.7, markersize=5, label="one seed")
    median = runs.groupby(option)[column].median()
    ax.plot(range(len(values)), scale * median, "-", color=BLUE, label="median")
    if column.startswith("largest"):
        ax.axhline(100 * COLLAPSE, color=RED, linestyle="--", linewidth=1.2, label="collapse in the paper")
    if column.startswith("effective"):
        slots = runs.groupby(option)["k"].first()
        ax.plot(range(len(values)), slots, "--", color=RED, linewidth=1.2, label="all slots alike")
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(values)), xticklabels=[f"{v:g}" for v in values])
    ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
    ax.legend(frameon=False)
    return clean(ax)


def slot_map(ax: Axes, coords: Int[np.ndarray, "n 2"], slot: Int[np.ndarray, " n"], *, tile_px0: float) -> Axes:
    """Draw tiles where they lie (level-0 px), in their slot's colour (see `colours`)."""
    boxes = [Rectangle((x, y), tile_px0, tile_px0) for x, y in coords.tolist()]
    ax.add_collection(PatchCollection(boxes, facecolor=colours(slot), edgecolor="white", linewidth=0.3))
    (left, top), (right, bottom) = coords.min(0), coords.max(0) + tile_px0
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="x (level-0 px)", ylabel="y (level-0 px)")
    return ax


def slot_cloud(ax: Axes, place: Float[np.ndarray, "n 2"], slot: Int[np.ndarray, " n"]) -> Axes:
    """Draw embedded tiles in their slot's colour, with a legend of the fullest slots that have any."""
    for number, colour in enumerate(CYCLE):
        inside = slot == number
        if not inside.any():
            continue
        ax.scatter(*place[inside].T, s=12, color=colour, linewidths=0, label=f"slot {number + 1} ({inside.mean():.0%})")
    rest = slot >= len(CYCLE)
    if rest.any():
        ax.scatter(*place[rest].T, s=12, color=PALE, linewidths=0, label=f"others ({rest.mean():.0%})", zorder=0)
    ax.set(xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)", xticks=[], yticks=[])
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def colours(slot: Int[np.ndarray, " n"]) -> list[str]:
    """A colour for each of the fullest slots (numbered by size, see slots.by_size), one for all others."""
    return [CYCLE[number] if number < len(CYCLE) else PALE for number in slot]
