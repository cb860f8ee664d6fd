"""Figures of scores: methods beside their floors, recall of planted tiles, soft and hard selection, folds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidesieve.answers.palette import DARK, GREY, ink_of
from slidesieve.figures.style import PALE, RED, clean, floor_looks, interval


def run_name(method: str, k: int) -> str:
    """Name a run in a figure: its method, and its k where it has one."""
    return f"{method.replace('_', ' ')}, k = {k}" if k else method.replace("_", " ")


def method_scores(ax: Axes, scores: pd.DataFrame, *, floors: Sequence[str], title: str, of: str = "one seed") -> Axes:
    """Draw one group's accuracies, a mark and 95 % interval for each row of a run (`of` says what that is).

    Floors are vertical lines. A method's wrong-slide control stands on its line as a hollow square of its colour.
    """
    is_floor, control = scores["method"].isin(floors), scores["method"].str.endswith("_wrong_slide")
    shown, controls = scores[~is_floor & ~control], scores[control]
    names = list(dict.fromkeys(map(run_name, shown["method"], shown["k"])))
    for name, look in floor_looks(floors).items():
        value = scores.loc[scores["method"] == name, "accuracy"].median()
        ax.axvline(100 * value, **look.line, linewidth=1.2, label=f"floor: {name.replace('_', ' ')}")
    for place, part in _lines(shown, names):
        offset = place + np.linspace(-0.12, 0.12, len(part)) * (len(part) > 1)
        low, value, high = (100 * part[column] for column in ("ci_low", "accuracy", "ci_high"))
        colour, mark, _ = ink_of(part["method"].iloc[0])
        interval(ax, offset, low, high, value=value, fmt="", linestyle="", color=colour, marker=mark, markersize=6)
    hollow = controls.assign(method=controls["method"].str.removesuffix("_wrong_slide"))
    for place, part in _lines(hollow, names):
        where, colour = np.full(len(part), place + 0.28), ink_of(part["method"].iloc[0]).colour
        ax.plot(100 * part["accuracy"], where, "s", color=colour, mfc="none", markersize=4)
    ax.plot([], [], "-o", color=DARK, markersize=5, label=f"{of}, 95 % interval")
    if len(list(_lines(hollow, names))):
        ax.plot([], [], "s", color=DARK, mfc="none", markersize=4, label="same model, another slide")
    ax.set(title=title, xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return clean(ax, grid="x")


def selection_recall(ax: Axes, selection: pd.DataFrame) -> Axes:
    """Draw each run's recall of planted tiles as a bar (median over seeds, dots are seeds), and chance as a tick."""
    names = list(dict.fromkeys(map(run_name, selection["method"], selection["k"])))
    for place, part in _lines(selection, names):
        colour = ink_of(part["method"].iloc[0]).colour
        ax.barh(place, 100 * part["recall"].median(), height=0.6, color=colour, alpha=0.55)
        ax.plot(100 * part["recall"], np.full(len(part), place), "o", color=colour, markersize=4)
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
        ax.plot(100 * part["soft"], offset, "D", color=DARK, mfc="white", markersize=6, label=labels[0])
        ax.plot(100 * part["hard"], offset, "o", color=DARK, markersize=6, label=labels[1])
    ax.set(xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return clean(ax, grid="x")


def fold_aucs(ax: Axes, aucs: pd.DataFrame) -> Axes:
    """Draw each run's AUROC of every fold and seed as a dot, their mean as a bar; the highest mean on top."""
    means = aucs.groupby(["method", "k"], sort=False)["auc"].mean().sort_values(ascending=False, kind="stable")
    names = [run_name(*run) for run in means.index]
    for place, part in _lines(aucs, names):
        jitter = place + np.linspace(-0.2, 0.2, len(part)) * (len(part) > 1)
        colour, mark, _ = ink_of(part["method"].iloc[0])
        ax.plot(part["auc"], jitter, linestyle="", color=colour, marker=mark, alpha=0.7, markersize=5)
        ax.plot([part["auc"].mean()] * 2, [place - 0.35, place + 0.35], color=RED, label=None if place else "mean")
    ax.plot([], [], "o", color=DARK, markersize=4, label="one run")
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="no information")
    ax.set(xlabel="AUROC", yticks=range(len(names)), yticklabels=names)
    ax.tick_params(labelbottom=True)  # the panel below may be empty
    ax.set_ylim(len(names) - 0.4, -0.6)
    return clean(ax, grid="x")


def _lines(table: pd.DataFrame, names: list[str]) -> list[tuple[int, pd.DataFrame]]:
    """Return (place, rows) of each named run that the table has, in the order of `names`."""
    name = pd.Series(list(map(run_name, table["method"], table["k"])), index=table.index, dtype=object)
    return [(place, table[name == wanted]) for place, wanted in enumerate(names) if (name == wanted).any()]
