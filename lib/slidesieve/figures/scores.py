"""Figures of scores: methods beside their floors, recall of planted tiles, soft and hard selection, folds."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.figures import style
from slidesieve.figures.style import BLUE, GREY, ORANGE, PALE, RED, SKY, clean, floor_looks, interval, looks


def run_name(method: str, k: int) -> str:
    """Name a run in a figure: its method, and its k where it has one."""
    return f"{method.replace('_', ' ')}, k = {k}" if k else method.replace("_", " ")


def all_scores(scores: pd.DataFrame, panels: Mapping[str, str], *, floors: Sequence[str], of: str) -> Figure:
    """Draw a panel of `method_scores` for each group; `panels` maps a panel's title to its group."""
    rows = scores[~scores["method"].isin(floors) & ~scores["method"].str.endswith("_wrong_slide")]
    height = max(3.2, 1.1 + 0.3 * _runs(rows))
    drawn, axes = style.panels(len(panels), height=height)
    for ax, (title, group) in zip(axes, panels.items(), strict=True):
        method_scores(ax, scores[scores["group"] == group], floors=floors, title=title, of=of)
    style.legend_below(drawn)
    return drawn


def kinds(pooled: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw each run's accuracy in several kinds of question side by side, with its intervals: a row a run."""
    names = list(dict.fromkeys(map(run_name, pooled["method"], pooled["k"])))
    drawn, ax = style.figure(width=7.6, height=1.2 + 0.42 * len(names))
    shifts = np.linspace(-0.24, 0.24, len(groups)) if len(groups) > 1 else [0.0]
    for shift, (group, look), marker in zip(shifts, looks(groups).items(), cycle("osD^v"), strict=False):
        part = pooled[pooled["group"] == group]
        place = np.array([names.index(run_name(*run)) for run in zip(part["method"], part["k"], strict=True)]) + shift
        low, value, high = (100 * part[column] for column in ("ci_low", "accuracy", "ci_high"))
        how = {"color": look.colour, "markersize": 5, "label": f"{group}, 95 % interval"}
        interval(ax, place, low, high, value=value, fmt=marker, **how)
    ax.set(xlabel="accuracy (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    clean(ax, grid="x")
    return drawn


def all_soft_and_hard(pairs: pd.DataFrame) -> Figure:
    """Draw a panel of `soft_and_hard` for each method and k."""
    runs = pairs.groupby(["method", "k"], sort=False)
    drawn, axes = style.panels(len(runs), width=6)
    for ax, (run, part) in zip(axes, runs, strict=True):
        soft_and_hard(ax, part).set_title(run_name(*run), pad=24)
    return drawn


def recalls(selection: pd.DataFrame) -> Figure:
    """Draw `selection_recall` as a figure of its own, as high as it has runs."""
    drawn, ax = style.figure(height=0.9 + 0.4 * _runs(selection))
    selection_recall(ax, selection)
    return drawn


def all_aucs(aucs: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw a panel of `fold_aucs` for each question that is asked alike of many slides."""
    height = 0.9 + 0.4 * _runs(aucs)
    drawn, axes = style.panels(len(groups), columns=2, width=6.4, height=height, sharey=False)
    for ax, group in zip(axes, groups, strict=True):
        fold_aucs(ax, aucs[aucs["group"] == group]).set_title(group)
    style.legend_below(drawn)
    return drawn


def method_scores(ax: Axes, scores: pd.DataFrame, *, floors: Sequence[str], title: str, of: str = "one seed") -> Axes:
    """Draw one group's accuracies, a dot and 95 % interval for each row of a run (`of` says what that is).

    Floors are vertical lines. A method's wrong-slide control stands on its line as a hollow square.
    """
    is_floor, control = scores["method"].isin(floors), scores["method"].str.endswith("_wrong_slide")
    shown, controls = scores[~is_floor & ~control], scores[control]
    names = list(dict.fromkeys(map(run_name, shown["method"], shown["k"])))
    for name, look in floor_looks(floors).items():
        value = scores.loc[scores["method"] == name, "accuracy"].median()
        if np.isnan(value):  # a floor that this cohort has not
            continue
        ax.axvline(100 * value, **look.line, linewidth=1.2, label=f"floor: {name.replace('_', ' ')}")
    for place, part in _lines(shown, names):
        offset = place + np.linspace(-0.12, 0.12, len(part)) * (len(part) > 1)
        low, value, high = (100 * part[column] for column in ("ci_low", "accuracy", "ci_high"))
        label = f"{of}, 95 % interval" if place == 0 else None
        interval(ax, offset, low, high, value=value, color=BLUE, markersize=5, label=label)
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
    """Draw each run's AUROC of every fold and seed as a dot, their mean as a bar; the highest mean on top."""
    means = aucs.groupby(["method", "k"], sort=False)["auc"].mean().sort_values(ascending=False, kind="stable")
    names = [run_name(*run) for run in means.index]
    for place, part in _lines(aucs, names):
        jitter = place + np.linspace(-0.2, 0.2, len(part)) * (len(part) > 1)
        ax.plot(part["auc"], jitter, "o", color=BLUE, alpha=0.7, markersize=4, label=None if place else "one run")
        ax.plot([part["auc"].mean()] * 2, [place - 0.35, place + 0.35], color=RED, label=None if place else "mean")
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="no information")
    ax.set(xlabel="AUROC", yticks=range(len(names)), yticklabels=names)
    ax.tick_params(labelbottom=True)  # the panel below may be empty
    ax.set_ylim(len(names) - 0.4, -0.6)
    return clean(ax, grid="x")


def _lines(table: pd.DataFrame, names: list[str]) -> list[tuple[int, pd.DataFrame]]:
    """Return (place, rows) of each named run that the table has, in the order of `names`."""
    name = pd.Series(list(map(run_name, table["method"], table["k"])), index=table.index, dtype=object)
    return [(place, table[name == wanted]) for place, wanted in enumerate(names) if (name == wanted).any()]


def _runs(table: pd.DataFrame) -> int:
    """How many methods and ks a table has."""
    return len(table[["method", "k"]].drop_duplicates())
