"""Figures of scores: methods beside their floors, kinds of question, recall of planted tiles, folds."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.answers.names import called, run_name
from slidesieve.answers.palette import DARK, GREY, ink_of
from slidesieve.figures import style
from slidesieve.figures.style import (
    BLUE,
    GREEN,
    PALE,
    RED,
    clean,
    floor_looks,
    interval,
    looks,
    shortened,
)

NEAR = 0.7  # per cent: lines of floors that are as near would hide each other
METRICS = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "kappa": "quadratic kappa"}


def all_scores(scores: pd.DataFrame, panels: Mapping[str, str], *, floors: Sequence[str], of: str) -> Figure:
    """Draw a panel of `method_scores` for each group; `panels` maps a panel's title to its group."""
    rows = scores[~scores["method"].isin(floors) & ~scores["method"].str.endswith("_wrong_slide")]
    height = max(3.2, 1.1 + 0.3 * _runs(rows))
    drawn, axes = style.panels(len(panels), height=height)
    for ax, (title, group) in zip(axes, panels.items(), strict=True):
        method_scores(ax, scores[scores["group"] == group], floors=floors, title=title, of=of)
        ax.tick_params(labelbottom=True)
    for ax in axes[: -style.COLUMNS]:  # one word for a column, below its last panel
        ax.set_xlabel("")
    style.legend_below(drawn)
    return drawn


def kinds(pooled: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw each run's accuracy in several kinds of question side by side, with its intervals: a row a run."""
    names = list(dict.fromkeys(map(run_name, pooled["method"], pooled["k"])))
    drawn, ax = style.figure(width=7.6, height=1.2 + 0.42 * len(names))
    shifts = np.linspace(-0.24, 0.24, len(groups)) if len(groups) > 1 else [0.0]
    neutral = looks(groups, (DARK, GREY))  # hues are the methods'
    for shift, (group, look), marker in zip(shifts, neutral.items(), cycle("osD^v"), strict=False):
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
    """Draw one group's accuracies, a mark and 95 % interval for each row of a run (`of` says what that is).

    Floors are vertical lines; where several would lie on each other, each has a stretch of its own. A method's
    wrong-slide control stands on its line as a hollow square of its colour.
    """
    is_floor, control = scores["method"].isin(floors), scores["method"].str.endswith("_wrong_slide")
    shown, controls = scores[~is_floor & ~control], scores[control]
    names = list(dict.fromkeys(map(run_name, shown["method"], shown["k"])))
    values = {name: scores.loc[scores["method"] == name, "accuracy"].median() for name in floors}
    values = {name: 100 * value for name, value in values.items() if not np.isnan(value)}
    for name, look in floor_looks(floors).items():
        if name in values:  # else this cohort has no such floor
            low, high = _stretch(name, values)
            label = f"floor: {called(name)}"
            ax.axvline(values[name], low, high, **look.line, linewidth=1.2, label=label)
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
    """Draw recall of planted tiles (bar: median over seeds; dots: seeds, with 95 % intervals), chance as a tick."""
    names = list(dict.fromkeys(map(run_name, selection["method"], selection["k"])))
    for place, part in _lines(selection, names):
        colour = ink_of(part["method"].iloc[0]).colour
        ax.barh(place, 100 * part["recall"].median(), height=0.6, color=colour, alpha=0.55)
        offset = place + np.linspace(-0.18, 0.18, len(part)) * (len(part) > 1)
        low, value, high = (100 * part[column] for column in ("ci_low", "recall", "ci_high"))
        interval(ax, offset, low, high, value=value, color=colour, markersize=4, linewidth=1)
        chance, label = 100 * part["chance"].median(), "as many tiles at random" if place == 0 else None
        ax.plot([chance] * 2, [place - 0.38, place + 0.38], color=RED, linewidth=2, label=label)
    ax.set(xlabel="recall of planted tiles (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=names)
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
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


def option_shares(ax: Axes, options: pd.DataFrame) -> Axes:
    """Draw the share of probability of each option of one question: the key green, another that was chosen red."""
    colour = np.where(options["is_key"], GREEN, np.where(options["is_chosen"], RED, PALE))
    place = np.arange(len(options))
    bars = ax.barh(place, 100 * options["share"], color=colour, height=0.7)
    ax.bar_label(bars, [f"{logp:.2f}" for logp in options["logp"]], padding=3, fontsize=7)
    marks = np.where(options["is_chosen"], "chosen: ", "")
    names = [
        f"{mark}{letter} {shortened(option)}"
        for mark, letter, option in zip(marks, options["letter"], options["option"], strict=True)
    ]
    ax.set(xlabel="share of probability (%)", xlim=(0, 118), xticks=range(0, 101, 25), yticks=place, yticklabels=names)
    ax.set_ylim(len(options) - 0.4, -0.6)
    ax.set_title("\n".join(wrap(options["question"].iloc[0], 52)[:2]), fontsize=8)
    ax.tick_params(labelsize=8)
    return clean(ax, grid="x")


def reliability(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw how often answers were right against how sure the model was, a dot with its interval a bin of confidence."""
    ax.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1.2, label="calibrated")
    low, high = 100 * table["ci_low"], 100 * table["ci_high"]
    own = {"value": 100 * table["accuracy"], "axis": "y", "color": BLUE, "markersize": 5}
    interval(ax, 100 * table["confidence"], low, high, **own, label="answers, 95 % interval")
    for row in table.itertuples():
        ax.annotate(f"{row.n}", (100 * row.confidence, 2), fontsize=7, color=GREY, ha="center")
    ax.set(xlabel="confidence: share of the chosen option (%)", ylabel="right (%)", xlim=(0, 104), ylim=(0, 104))
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return clean(ax)


def letters(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw how often each letter was chosen beside how often it was right."""
    place = np.arange(len(table))
    ax.bar(place - 0.2, 100 * table["chosen"], width=0.38, color=BLUE, label="chosen")
    ax.bar(place + 0.2, 100 * table["right"], width=0.38, color=GREEN, label="right")
    ax.set(xlabel="letter", ylabel="questions (%)", xticks=place, xticklabels=table["letter"])
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def _lines(table: pd.DataFrame, names: list[str]) -> list[tuple[int, pd.DataFrame]]:
    """Return (place, rows) of each named run that the table has, in the order of `names`."""
    name = pd.Series(list(map(run_name, table["method"], table["k"])), index=table.index, dtype=object)
    return [(place, table[name == wanted]) for place, wanted in enumerate(names) if (name == wanted).any()]


def _stretch(name: str, values: Mapping[str, float]) -> tuple[float, float]:
    """Return from where to where a floor's line goes, in shares of the panel's height."""
    near = [other for other, value in values.items() if abs(value - values[name]) < NEAR]
    return near.index(name) / len(near), (near.index(name) + 1) / len(near)


def _runs(table: pd.DataFrame) -> int:
    """How many methods and ks a table has."""
    return len(table[["method", "k"]].drop_duplicates())


def fold_scores(ax: Axes, folds: pd.DataFrame, scores: pd.DataFrame, *, metric: str) -> Axes:
    """Draw each model's score in every fold (and of every seed) as a dot, and their mean with its 95 % interval."""
    models = list(dict.fromkeys(scores["model"]))
    for place, model in enumerate(models):
        part = folds[folds["model"] == model]
        one = scores[(scores["model"] == model) & (scores["metric"] == metric)].iloc[0]
        jitter = place - 0.22 + np.linspace(-0.08, 0.08, len(part)) * (len(part) > 1)
        ax.plot(part[metric], jitter, "o", color=ink_of(model).colour, alpha=0.7, markersize=4)
        how = {"color": DARK, "markersize": 5, "capsize": 3, "label": None if place else "mean, 95 %"}
        interval(ax, place + 0.1, one["low"], one["high"], value=one["value"], fmt="s", **how)
    ax.plot([], [], "o", color=DARK, alpha=0.7, markersize=4, label="one training")
    if metric == "auroc" and folds[metric].min() < 0.6:
        ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="no information")
    ax.set(xlabel=f"{METRICS[metric]} on test slides", yticks=range(len(models)), yticklabels=models)
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return clean(ax, grid="x")
