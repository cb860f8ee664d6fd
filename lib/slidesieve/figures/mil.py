"""Figures of bag classification."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidesieve.answers.palette import DARK, GREY, ink_of
from slidesieve.figures.style import clean, interval

NAMES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "kappa": "quadratic kappa"}


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
    ax.set(xlabel=f"{NAMES[metric]} on test slides", yticks=range(len(models)), yticklabels=models)
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return clean(ax, grid="x")
