"""Figures of tiles as tokens: what is answered with how many of them, which are kept, and how alike they are."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slidesieve.analyses.token_maps import Picture, TokenMap
from slidesieve.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    Look,
    clean,
    floor_looks,
    interval,
    panels,
    shortened,
)

NONE = np.empty(0, int)

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
    seaborn.histplot(likeness, ax=ax, palette=[ORANGE, GREY], stat="count", binwidth=0.02, element="step", kde=True)
    seaborn.move_legend(ax, "lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, title=None)
    ax.set(xlabel="mean pairwise cosine of a slide's selection", ylabel="slides")
    return clean(ax)


def token_map(
    ax: Axes,
    place: Float[np.ndarray, "n 2"],
    kept: Int[np.ndarray, " k"],
    *,
    title: str,
    planted: Int[np.ndarray, " p"] = NONE,
) -> Axes:
    """Draw a two-dimensional embedding of one slide's tiles, kept ones in front, planted ones ringed."""
    rest = np.setdiff1d(np.arange(len(place)), kept)
    ax.scatter(*place[rest].T, s=10, color=PALE, linewidths=0, label="left out")
    ax.scatter(*place[kept].T, s=34, color=ORANGE, edgecolors="white", linewidths=0.6, label="kept")
    if len(planted):
        ax.scatter(*place[planted].T, s=72, facecolors="none", edgecolors=BLUE, linewidths=1.4, label="planted")
    ax.set(xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)", xticks=[], yticks=[])
    name, *numbers = title.splitlines()
    ax.set_title("\n".join([shortened(name), *numbers]), fontsize=10)
    ax.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def token_maps(maps: Sequence[TokenMap], titles: Mapping[str, str]) -> Figure:
    """Draw the maps of some slides side by side, each under its title."""
    drawn, axes = panels(len(maps), columns=3, width=4.0, height=3.8, sharex=False, sharey=False)
    for ax, one in zip(axes, maps, strict=True):
        token_map(ax, one.place, one.kept, title=titles[one.slide_id], planted=one.planted)
    return drawn


def norm_histogram(ax: Axes, norms: Float[np.ndarray, " n"]) -> Axes:
    """Draw how long features are."""
    ax.hist(norms, bins=60, color=BLUE)
    ax.set(xlabel="Euclidean norm of a tile's feature (no unit)", ylabel="tiles")
    return clean(ax)


def spectrum_curve(ax: Axes, shares: Float[np.ndarray, " d"]) -> Axes:
    """Draw the variance that the first principal axes hold."""
    ax.plot(np.arange(1, len(shares) + 1), 100 * np.cumsum(shares), color=BLUE)
    ax.set(xlabel="principal axes of the features", ylabel="variance held (%)", ylim=(0, 102))
    return clean(ax)


def feature_map(picture: Picture | None, places: pd.DataFrame, *, slide_id: str) -> Figure:
    """Draw a slide beside its tiles at their places, coloured by their first three principal axes as red, green, blue.

    Each axis is stretched from its 1st to its 99th percentile. Without a picture the tiles stand alone.
    """
    drawn, axes = panels(1 + (picture is not None), columns=2, width=5.2, height=4.0, sharex=False, sharey=False)
    own = places[["pc1", "pc2", "pc3"]].to_numpy()
    low, high = np.quantile(own, [0.01, 0.99], axis=0)
    colours = np.clip((own - low) / np.where(high > low, high - low, 1), 0, 1)
    side = picture.tile_px0 if picture is not None else _step(places)
    boxes = [Rectangle(xy, side, side) for xy in places[["x_px0", "y_px0"]].to_numpy()]
    axes[-1].add_collection(PatchCollection(boxes, facecolor=colours, edgecolor=colours, linewidth=0.3))
    right, bottom = places[["x_px0", "y_px0"]].max() + side
    axes[-1].set(xlim=(0, right), ylim=(bottom, 0), aspect="equal", title="features: three principal axes as colours")
    if picture is not None:
        height = picture.image.shape[0] * picture.width_px0 / picture.image.shape[1]
        for ax in axes:
            ax.set(xlim=(0, picture.width_px0), ylim=(height, 0))
        axes[0].imshow(picture.image, extent=(0, picture.width_px0, height, 0))
        axes[0].set_title(shortened(slide_id))
    for ax in axes:
        ax.set(xlabel="x (level-0 px)", ylabel="y (level-0 px)")
        ax.tick_params(labelsize=7)
    drawn.set_label(
        f"Slide {slide_id} beside its {len(places):,} tiles at their places, each in a colour made of the first three "
        "principal axes of its features: tiles of like features have like colours."
    )
    return drawn


def nearest_tiles(table: pd.DataFrame, tiles: Mapping[int, UInt8[np.ndarray, "t t 3"]], *, slide_id: str) -> Figure:
    """Draw a row a tile asked about, orange, and the tiles whose features are nearest to its, with their cosine."""
    n = int(table["rank"].max()) + 1
    drawn, axes = panels(n * table["query"].nunique(), columns=n, width=1.25, height=1.45, sharex=False, sharey=False)
    for ax, row in zip(axes, table.itertuples(), strict=False):
        if row.Index in tiles:
            ax.imshow(tiles[row.Index])
        words = f"tile {row.index}" if row.rank == 0 else f"{row.cosine:.2f}"
        ax.set_title(words if row.rank == 0 or row.slide_id == slide_id else f"{words}, other slide", fontsize=7)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color=ORANGE if row.rank == 0 else PALE, linewidth=2.5)
    drawn.set_label(
        f"{table['query'].nunique()} tiles of slide {slide_id}, framed in orange, each followed by the {n - 1} tiles "
        "whose features are nearest to its own."
    )
    return drawn


def _step(places: pd.DataFrame) -> float:
    apart = np.diff(np.unique(places["x_px0"]))
    return float(apart.min()) if len(apart) else 1.0
