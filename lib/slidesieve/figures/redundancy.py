"""Figures of redundancy: medians over slides with the middle half of them. Shares come in as 0 to 1, shown in %."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.figures.style import BLUE, GREEN, GREY, ORANGE, PALE, RED, clean, panels, shortened

CENTROIDS = {"k_means": BLUE, "random_tiles": GREEN, "k_means_permuted": GREY}
WINDOWS = {"k_means": BLUE, "window_mean": ORANGE, "random_groups": GREY}
NAMES = {
    "k_means": "k-means",
    "random_tiles": "nearest of M random tiles",
    "k_means_permuted": "k-means, columns permuted",
    "window_mean": "mean of the window",
    "random_groups": "as many random groups",
}
LOWEST = -25  # %: the nearest of a few random tiles goes far below what is of interest


def spectrum(ax: Axes, curves: pd.DataFrame) -> Axes:
    """Draw the variance that the first axes hold, and the same with permuted columns."""
    for column, name, colour in (
        ("explained", "features", BLUE),
        ("explained_permuted", "columns permuted", GREY),
    ):
        _band(ax, curves, x="rank", y=column, label=name, colour=colour, scale=100)
    ax.set(xscale="log", xlabel="principal axes of the slide", ylabel="variance held (%)", ylim=(0, 102))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def axes_in_use(ax: Axes, table: pd.DataFrame, index: str) -> Axes:
    """Draw every slide's entropy rank or participation ratio over the rank that its number of tiles allows."""
    for column, name, colour in (
        (f"{index}_permuted", "columns permuted", GREY),
        (index, "features", BLUE),
    ):
        ax.scatter(table["bound"], table[column], s=16, color=colour, alpha=0.6, linewidths=0, label=name)
    most = table["bound"].max() * 1.05
    ax.plot([0, most], [0, most], "--", color=RED, linewidth=1.2, label="all axes alike")
    ax.set(xlabel="most the slide allows: min(tiles - 1, width)", ylabel=f"{index.replace('_', ' ')} (axes)")
    ax.set(xlim=(0, most), ylim=(0, most))
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def whole_slides(summary: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw how many axes a slide needs: its spectrum, and both indices of it, beside permuted columns."""
    drawn, axes = panels(3, columns=3, width=4.3, height=3.8, sharex=False, sharey=False)
    spectrum(axes[0], curves)
    for ax, index in zip(axes[1:], ("entropy_rank", "participation_ratio"), strict=True):
        axes_in_use(ax, summary, index)
    return drawn


def beside_neighbours(table: pd.DataFrame) -> Figure:
    """Draw cosines over distance, of features as they are and centred."""
    drawn, axes = panels(2, columns=2, width=4.8, height=3.8, sharey=False)
    for ax, centred in zip(axes, (False, True), strict=True):
        cosines(ax, table, centred=centred)
    return drawn


def few_vectors(table: pd.DataFrame) -> Figure:
    """Draw what few vectors keep of a slide: over their number, and of windows."""
    drawn, axes = panels(2, columns=2, width=4.8, height=4.2, sharex=False, sharey=False)
    centroid_curves(axes[0], table)
    window_bars(axes[1], table)
    return drawn


def cosines(ax: Axes, table: pd.DataFrame, *, centred: bool) -> Axes:
    """Draw cosine over distance on the grid beside that of random pairs; says so where no slide has coordinates."""
    ax.set_title("centred on the cohort's mean" if centred else "features as they are", fontsize=10, pad=22)
    if table.empty:
        return unavailable(ax, "no coordinates in these features")
    near, chance = ("centred", "random_centred") if centred else ("cosine", "random")
    _band(ax, table, x="distance", y=near, label="tiles in a row or column", colour=BLUE)
    _band(ax, table, x="distance", y=chance, label="random pairs of the slide", colour=GREY)
    distances = sorted(table["distance"].unique())
    ax.set_xscale("log", base=2)
    ax.set(
        xlabel="distance (grid steps)",
        ylabel="mean cosine (no unit)",
        xticks=distances,
        xticklabels=map(str, distances),
    )
    ax.set_ylim(min(0, ax.get_ylim()[0]), 1.02)
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def centroid_curves(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw R^2 over the number of centroids M, and below each M how many slides have more tiles than that."""
    part = table[table["side"] == 0]
    for method, colour in CENTROIDS.items():
        own = part[part["method"] == method]
        _band(ax, own, x="m", y="r2", label=NAMES[method], colour=colour, scale=100)
    slides = part.groupby("m")["slide_id"].nunique()
    labels = [f"{m}\n({count})" for m, count in slides.items()]
    ax.set_xscale("log", base=2)
    ax.set(xticks=slides.index, xticklabels=labels, ylim=(LOWEST, 102))
    ax.set(xlabel="vectors M (slides with more tiles than that)", ylabel="variance of the slide explained (%)")
    ax.axhline(0, color=PALE, linewidth=1, zorder=0)
    _legend_above(ax)
    return clean(ax)


def window_bars(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw R^2 of window means beside k-means with as many centroids, a group a window; says so without coordinates."""
    part = table[table["side"] > 0]
    if part.empty:
        return unavailable(ax, "no coordinates in these features")
    sides = sorted(part["side"].unique())
    for shift, (method, colour) in zip((-0.25, 0, 0.25), WINDOWS.items(), strict=True):
        low, middle, high = 100 * _quartiles(part[part["method"] == method], "side", "r2").loc[sides].to_numpy().T
        place = np.arange(len(sides)) + shift
        ax.bar(place, middle, width=0.22, color=colour, alpha=0.7, label=NAMES[method])
        ax.vlines(place, low, high, color="black", linewidth=1)
    tokens = part[part["method"] == "window_mean"].eval("m / n_tiles").groupby(part["side"]).median()
    ax.set(xticks=range(len(sides)), xlabel="window of tiles", ylabel="variance of the slide explained (%)")
    ax.set(xticklabels=[f"{s} x {s}\n({100 * tokens[s]:.0f} % of tiles)" for s in sides], ylim=(0, 102))
    _legend_above(ax)
    return clean(ax)


def relevance_shares(ax: Axes, table: pd.DataFrame, *, sources: Sequence[str]) -> Axes:
    """Draw the shares of tiles that hold 50 and 80 % of the relevance, a row a source; dashed if all were equal."""
    if table.empty:
        return unavailable(ax, "neither labels nor a text encoder were given")
    place = np.arange(len(sources))
    how = {"orientation": "horizontal", "widths": 0.3, "manage_ticks": False, "patch_artist": True}
    how |= {"medianprops": {"color": "black", "linewidth": 1.5}, "flierprops": {"markersize": 2}}
    for shift, held, colour in ((-0.15, 50, BLUE), (0.15, 80, ORANGE)):
        shares = [100 * table.loc[table["source"] == source, f"share_{held}"].dropna() for source in sources]
        label, face = f"{held} % of the relevance", {"facecolor": colour}
        ax.boxplot(shares, positions=place + shift, boxprops=face, label=label, **how)
        ax.axvline(held, color=colour, linestyle="--", linewidth=1.2)
    ax.set(xlabel="tiles that hold it (% of the slide; dashed: all tiles alike)", ylabel="", xlim=(0, 100))
    ax.set_yticks(place, [shortened(source, 34) for source in sources])
    ax.set_ylim(len(sources) - 0.5, -0.5)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return clean(ax, grid="x")


def unavailable(ax: Axes, text: str) -> Axes:
    """Say in a panel why it is empty."""
    ax.text(0.5, 0.5, f"not shown:\n{text}", ha="center", va="center", transform=ax.transAxes, color=GREY)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _legend_above(ax: Axes) -> None:
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))


def _band(ax: Axes, table: pd.DataFrame, *, x: str, y: str, label: str, colour: str, scale: float = 1) -> None:
    """Draw the median over slides for each x, and the middle half of them."""
    quartiles = scale * _quartiles(table, x, y)
    ax.fill_between(quartiles.index, quartiles[0.25], quartiles[0.75], color=colour, alpha=0.2, linewidth=0)
    ax.plot(quartiles.index, quartiles[0.5], "o-", color=colour, markersize=3, label=label)


def _quartiles(table: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    return table.groupby(by)[column].quantile([0.25, 0.5, 0.75]).unstack()
