"""Figures, as functions of an `ax`: labelled axes with units, a palette that survives colour blindness.

Shares come in as 0 to 1 and are shown in per cent. Nothing here computes a result.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Okabe and Ito's colours: told apart under the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
GREY, PALE = "#6B6B6B", "#D9D9D9"
DPI = 130
LINE_STYLES = ("--", ":", "-.")


def panels(
    n: int, *, columns: int = 3, width: float = 4.2, height: float = 3.2, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels in rows of `columns`, each width x height inches, sharing their axes."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        sharex=sharex,
        sharey=sharey,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[n:]:
        ax.remove()
    for ax in axes.flat[max(n - columns, 0) : n]:  # the lowest panel of each column keeps its numbers
        ax.tick_params(labelbottom=True)
    return figure, list(axes.flat[:n])


def figure(*, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return a figure of one panel, in inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")


def legend_below(drawn: Figure, ax: Axes) -> None:
    """Give the whole figure one legend, that of `ax`, below its panels; the figure grows by the legend's rows."""
    handles, labels = ax.get_legend_handles_labels()
    columns = min(len(labels), max(1, int(drawn.get_figwidth() // 2.3)))  # an entry is up to 2.3 inches wide
    rows = -(-len(labels) // columns)
    drawn.set_figheight(drawn.get_figheight() + 0.22 * rows)
    drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def shortened(name: str, most: int = 26) -> str:
    """Cut a long slide id to fit over a panel."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def save(drawn: Figure, path: object) -> None:
    """Write a PNG and close the figure's state in pyplot; the figure object can still be displayed."""
    drawn.savefig(path, dpi=DPI)
    plt.close(drawn)


def clean(ax: Axes, *, grid: str = "y") -> Axes:
    """Remove the box, keep a faint grid behind the data along one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def run_name(method: str, k: int) -> str:
    """Name a run in a figure: its method, and its k where it has one."""
    return f"{method.replace('_', ' ')}, k = {k}" if k else method.replace("_", " ")


def method_scores(ax: Axes, scores: pd.DataFrame, *, floors: Sequence[str], title: str) -> Axes:
    """Draw one group's accuracies, a dot and 95 % interval for each seed, floors as vertical lines.

    A method's wrong-slide control stands on its line as a hollow square.
    """
    is_floor, control = scores["method"].isin(floors), scores["method"].str.endswith("_wrong_slide")
    shown, controls = scores[~is_floor & ~control], scores[control]
    names = list(dict.fromkeys(map(run_name, shown["method"], shown["k"])))
    for style, name in zip(LINE_STYLES, floors, strict=False):
        value = scores.loc[scores["method"] == name, "accuracy"].median()
        ax.axvline(100 * value, color=GREY, linestyle=style, linewidth=1.2, label=f"floor: {name.replace('_', ' ')}")
    for place, part in _lines(shown, names):
        offset = place + np.linspace(-0.12, 0.12, len(part)) * (len(part) > 1)
        spread = 100 * np.stack([part["accuracy"] - part["ci_low"], part["ci_high"] - part["accuracy"]])
        label = "one seed, 95 % interval" if place == 0 else None
        ax.errorbar(100 * part["accuracy"], offset, xerr=spread, fmt="o", color=BLUE, markersize=5, label=label)
    hollow = controls.assign(method=controls["method"].str.removesuffix("_wrong_slide"))
    for i, (place, part) in enumerate(_lines(hollow, names)):
        label = "same model, another slide" if i == 0 else None
        where = np.full(len(part), place + 0.28)
        ax.plot(100 * part["accuracy"], where, "s", color=RED, mfc="none", markersize=4, label=label)
    ax.set(title=title, xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return clean(ax, grid="x")


def selection_recall(ax: Axes, selection: pd.DataFrame) -> Axes:
    """Draw each run's recall of planted tiles as a bar (median over seeds, dots are seeds), and chance as a tick."""
    names = list(dict.fromkeys(map(run_name, selection["method"], selection["k"])))
    for place, part in _lines(selection, names):
        ax.barh(place, 100 * part["recall"].median(), height=0.6, color=SKY)
        ax.plot(100 * part["recall"], np.full(len(part), place), "o", color=BLUE, markersize=4)
        ax.plot(
            [100 * part["chance"].median()] * 2,
            [place - 0.38, place + 0.38],
            color=RED,
            linewidth=2,
            label="as many tiles at random" if place == 0 else None,
        )
    ax.set(xlabel="recall of planted tiles (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return clean(ax, grid="x")


def soft_and_hard(ax: Axes, pairs: pd.DataFrame) -> Axes:
    """Join soft (all tiles, gated) and hard (k tiles) accuracy of each group; columns group, seed, soft, hard."""
    names = list(dict.fromkeys(pairs["group"]))
    for place, name in enumerate(names):
        part = pairs[pairs["group"] == name]
        offset = place + np.linspace(-0.15, 0.15, len(part)) * (len(part) > 1)
        labels = ("soft: all tiles, gated", "hard: k tiles, as used") if place == 0 else (None, None)
        ax.hlines(offset, 100 * part["soft"], 100 * part["hard"], color=PALE, linewidth=3, zorder=1)
        ax.plot(100 * part["soft"], offset, "D", color=ORANGE, markersize=6, label=labels[0])
        ax.plot(100 * part["hard"], offset, "o", color=BLUE, markersize=6, label=labels[1])
    ax.set(xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return clean(ax, grid="x")


def fold_aucs(ax: Axes, aucs: pd.DataFrame) -> Axes:
    """Draw each run's AUROC in every fold as a dot, and its mean over folds and seeds as a bar."""
    names = list(dict.fromkeys(map(run_name, aucs["method"], aucs["k"])))
    for place, part in _lines(aucs, names):
        jitter = place + np.linspace(-0.2, 0.2, len(part)) * (len(part) > 1)
        ax.plot(part["auc"], jitter, "o", color=BLUE, alpha=0.7, markersize=4, label="one fold" if not place else None)
        ax.plot([part["auc"].mean()] * 2, [place - 0.35, place + 0.35], color=RED, label=None if place else "mean")
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="no information")
    ax.set(xlabel="AUROC", yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return clean(ax, grid="x")


def label_folds(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Draw slides in each fold (rows of `counts`) stacked by label (its columns)."""
    bottom = np.zeros(len(counts))
    for colour, label in zip((SKY, ORANGE, GREEN, PURPLE), counts.columns, strict=False):
        bars = ax.bar([str(fold) for fold in counts.index], counts[label], bottom=bottom, color=colour, label=label)
        ax.bar_label(bars, label_type="center", fontsize=8)
        bottom += counts[label].to_numpy()
    ax.set(xlabel="fold", ylabel="slides")
    ax.legend(frameon=False, ncols=len(counts.columns), loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def curves(ax: Axes, x: Sequence[float], lines: dict[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Axes:
    """Draw named lines over a common x; labels carry the units."""
    for colour, (label, y) in zip(CYCLE, lines.items(), strict=False):
        ax.plot(x, y, color=colour, linewidth=1.6, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        ax.legend(frameon=False)
    return clean(ax)


def training_curves(axes: Sequence[Axes], history: pd.DataFrame, *, score: str) -> None:
    """Draw the loss of each optimiser step, smoothed, and the validation score where it was taken."""
    step = history["step"] + 1
    axes[0].plot(step, history["loss"], color=PALE, linewidth=0.8, label="each step")
    axes[0].plot(step, history["loss"].rolling(20, min_periods=1).mean(), color=BLUE, label="mean of 20 steps")
    axes[0].set(xlabel="optimiser step", ylabel="loss (nats per answer token)")
    axes[0].legend(frameon=False)
    taken = history.dropna(subset="score")
    axes[1].plot(taken["step"] + 1, taken["score"], "o-", color=ORANGE)
    axes[1].set(xlabel="optimiser step", ylabel=score, ylim=(0, 1.02))
    for ax in axes:
        clean(ax)


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


def tile_overlay(
    ax: Axes,
    thumbnail: UInt8[np.ndarray, "h w 3"],
    coords: Int[np.ndarray, "n 2"],
    *,
    tile_px0: float,
    slide_width_px0: int,
    marked: Bool[np.ndarray, " n"] | None = None,
) -> Axes:
    """Draw tiles (top-left corners and side in level-0 px) over the slide's thumbnail, marked ones in orange.

    Axes are in level-0 px, so that a place read off the figure is a place in the slide.
    """
    height, width = thumbnail.shape[:2]
    scale = slide_width_px0 / width
    ax.imshow(thumbnail, extent=(0, slide_width_px0, height * scale, 0))
    marked = np.zeros(len(coords), dtype=bool) if marked is None else marked
    for chosen, colour, thickness in ((~marked, BLUE, 0.5), (marked, RED, 1.8)):
        boxes = [Rectangle((x, y), tile_px0, tile_px0) for x, y in coords[chosen].tolist()]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=thickness))
    ax.set(xlabel="x (level-0 px)", ylabel="y (level-0 px)")
    return ax


def _lines(table: pd.DataFrame, names: list[str]) -> list[tuple[int, pd.DataFrame]]:
    """Return (place, rows) of each named run that the table has, in the order of `names`."""
    name = pd.Series(list(map(run_name, table["method"], table["k"])), index=table.index, dtype=object)
    return [(place, table[name == wanted]) for place, wanted in enumerate(names) if (name == wanted).any()]
