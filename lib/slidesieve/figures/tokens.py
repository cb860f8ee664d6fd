"""Figures against the number of visual tokens: accuracy, recall of planted tiles, and the papers' own points."""

import numpy as np
import pandas as pd
import seaborn
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from slidesieve.figures.style import GREY, PALE, RED, Look, clean, floor_looks, interval, shortened

# Where a published point's name stands, in points from it; those of one token count would cover each other.
BESIDE = {"PathSelect": (7, 0), "SparseLearn": (-4, -13), "TC-SSA": (-4, 12)}


def accuracy(ax: Axes, table: pd.DataFrame, *, look: dict[str, Look], title: str) -> Axes:
    """Draw one group's accuracy: a line through the medians over seeds, pooled 95 % intervals, a dot for each seed.

    `look` is one for all panels; methods without any token are horizontal lines.
    """
    most = table[table["pooled"]].groupby("method", sort=False)["tokens"].max()
    floors = floor_looks(most.index[most == 0])
    table = dodged(table)
    for method, part in table.groupby("method", sort=False):
        pooled, seeds = part[part["pooled"]].sort_values("tokens"), part[~part["pooled"]]
        name = method.replace("_", " ")
        if method in floors:
            ax.axhline(100 * pooled["median"].iloc[0], **floors[method].line, linewidth=1.2, label=name)
            continue
        own = look[method]
        style = {"axis": "y", "ecolor": own.colour, "elinewidth": 1.6, "capsize": 2}
        interval(ax, pooled["tokens"], 100 * pooled["ci_low"], 100 * pooled["ci_high"], **style)
        ax.plot(pooled["tokens"], 100 * pooled["median"], **own.line, marker="_", label=name)
        _seeds(ax, seeds["tokens"], seeds["accuracy"], own)
    ax.set(ylabel="accuracy (%)", ylim=(0, 102), title=title)
    return log_tokens(ax, table["tokens"])


def recall(ax: Axes, table: pd.DataFrame, *, look: dict[str, Look]) -> Axes:
    """Draw the recall of planted tiles against tokens: a line through the medians, a dot for each seed, and chance."""
    for method, part in table.groupby("method", sort=False):
        median = part.groupby("tokens")["recall"].median()
        ax.plot(median.index, 100 * median, **look[method].line)
        _seeds(ax, part["tokens"], part["recall"], look[method])
    chance = table.groupby("tokens")["chance"].median()
    between = np.geomspace(chance.index.min(), chance.index.max(), 100)  # chance is linear in k, the axis is not
    expected = 100 * np.interp(between, chance.index, chance)
    ax.plot(between, expected, color=GREY, linestyle="--", linewidth=1.2, label="as many at random")
    ax.set(ylabel="planted tiles kept (%)", ylim=(0, 102), title="recall of planted tiles")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return log_tokens(ax, table["tokens"])


def published(ax: Axes, costs: pd.DataFrame, *, names: dict[str, str]) -> Axes:
    """Draw published accuracies against tokens, a marker for each benchmark; `names` maps its key -> legend."""
    marks = (("o", GREY, GREY), ("s", GREY, "none"))
    for (benchmark, part), (mark, edge, face) in zip(costs.groupby("benchmark", sort=False), marks, strict=True):
        ax.plot(
            part["tokens"], 100 * part["accuracy"], mark, color=edge, mfc=face, markersize=7, label=names[benchmark]
        )
        for row in part.itertuples():
            offset = BESIDE.get(row.method, (-7, 0))
            place = (row.tokens, 100 * row.accuracy)
            side = "right" if offset[0] == -7 else "left"
            ax.annotate(row.method, place, offset, textcoords="offset points", ha=side, va="center", fontsize=8)
    ax.set(ylabel="accuracy, all questions (%)", ylim=(25, 95), title="the papers, another benchmark")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    return log_tokens(ax, costs["tokens"])


def _seeds(ax: Axes, place: pd.Series, share: pd.Series, look: Look) -> None:
    style = {"color": look.colour, "alpha": 0.6, "markersize": 4.5}
    ax.plot(place, 100 * share, marker=look.marker, linestyle="none", **style)


def dodged(table: pd.DataFrame) -> pd.DataFrame:
    """Move each method's tokens by a few per cent, so that methods of one k stand side by side."""
    names = list(table["method"].unique())
    step = table["method"].map(names.index) - (len(names) - 1) / 2
    return table.assign(tokens=table["tokens"] * 1.05**step)


def log_tokens(ax: Axes, tokens: pd.Series) -> Axes:
    """Put visual tokens on a logarithmic axis in powers of two, from half the fewest to twice the most."""
    some = tokens[tokens > 0]
    low, high = np.floor(np.log2(some.min() / 1.6)), np.ceil(np.log2(some.max() * 1.6))
    step = max(1, int(np.ceil((high - low) / 9)))
    ticks = 2.0 ** np.arange(low, high + 1, step)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="visual tokens a slide", xlim=(2.0**low, 2.0**high))
    ax.set_xticks(ticks, [f"{tick:,g}" if tick < 1 else f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()
    return clean(ax)


def diversity(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw how alike the tiles of a selection are, over slides: kept ones beside as many random ones."""
    likeness = table[["kept", "random"]].rename(columns={"kept": "kept tiles", "random": "random tiles"})
    seaborn.histplot(likeness, ax=ax, palette=[RED, GREY], stat="count", binwidth=0.02, element="step", kde=True)
    seaborn.move_legend(ax, "lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, title=None)
    ax.set(xlabel="mean pairwise cosine of a slide's selection", ylabel="slides")
    return clean(ax)


def token_map(ax: Axes, place: Float[np.ndarray, "n 2"], kept: Int[np.ndarray, " k"], *, title: str) -> Axes:
    """Draw a two-dimensional embedding of one slide's tiles, kept ones in front."""
    rest = np.setdiff1d(np.arange(len(place)), kept)
    ax.scatter(*place[rest].T, s=10, color=PALE, linewidths=0, label="left out")
    ax.scatter(*place[kept].T, s=34, color=RED, edgecolors="white", linewidths=0.6, label="kept")
    ax.set(xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)", xticks=[], yticks=[])
    name, *numbers = title.splitlines()
    ax.set_title("\n".join([shortened(name), *numbers]), fontsize=10)
    ax.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
