"""Figures of methods side by side: differences between matched runs, and accuracy against operations."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from slidesieve.answers.names import called, run_name
from slidesieve.figures.style import GREY, clean, interval, legend_below, method_looks, panels, told_apart


def pair_name(row) -> str:
    """Name a pairing in a figure: "TC-SSA (k = 8)\\n− LoC-Path-style (k = 16)"."""
    return f"{run_name(row.method, row.k)}\n− {run_name(row.other, row.other_k)}"


def differences(ax: Axes, table: pd.DataFrame, *, title: str) -> Axes:
    """Draw one group's matched differences with their 95 % intervals, right of zero where the first is better."""
    ax.set_title(title)
    if table.empty:
        ax.text(0.5, 0.5, "no two runs to compare", ha="center", va="center", transform=ax.transAxes, color=GREY)
        ax.set_axis_off()
        return ax
    ax.axvline(0, color=GREY, linewidth=1.0)
    for rows, how in told_apart(table["verdict"]):
        part, place = table[rows], np.flatnonzero(rows)
        low, value, high = (100 * part[column] for column in ("ci_low", "difference", "ci_high"))
        interval(ax, place, low, high, value=value, **how)
    names = [pair_name(row) for row in table.itertuples()]
    ax.set(xlabel="difference in accuracy (percentage points)", yticks=range(len(names)))
    ax.set_yticklabels(names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(labelbottom=True)  # the panel below may be empty
    return clean(ax, grid="x")


def both_ways(table: pd.DataFrame, groups: Sequence[str], titles: Mapping[str, str]) -> Figure:
    """Draw the differences of a table of pairings: a column a group, a row a way of matching that has any pair."""
    titles = {by: title for by, title in titles.items() if (table["matched_by"] == by).any()}
    rows = table.groupby(["matched_by", "group"]).size().max()
    shape = {"columns": len(groups), "width": 5.2, "height": 1.2 + 0.5 * rows}
    drawn, axes = panels(len(titles) * len(groups), **shape, sharey=False)
    for ax, (by, group) in zip(axes, product(titles, groups), strict=True):
        part = table[(table["matched_by"] == by) & (table["group"] == group)]
        differences(ax, part, title=f"{group}, {titles[by]}")
    legend_below(drawn)
    return drawn


def all_by_operations(scores: pd.DataFrame, costs: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw a panel of `accuracy_by_operations` for each group."""
    drawn, axes = panels(len(groups), columns=min(len(groups), 3), width=5.2, height=4)
    for ax, group in zip(axes, groups, strict=True):
        accuracy_by_operations(ax, scores[scores["group"] == group], costs, title=group)
    legend_below(drawn)
    return drawn


def accuracy_by_operations(ax: Axes, scores: pd.DataFrame, costs: pd.DataFrame, *, title: str) -> Axes:
    """Draw each run's accuracy, median over seeds (bar: their range), against its operations an answer; joined by k."""
    joined = scores.merge(costs[["method", "k", "seed", "tflops"]], on=["method", "k", "seed"])
    for method, look in method_looks(joined["method"]).items():
        runs = joined[joined["method"] == method]
        seeds = runs.groupby("k").agg(tflops=("tflops", "mean"), low=("accuracy", "min"), high=("accuracy", "max"))
        middle = runs.groupby("k")["accuracy"].median()
        how = {"marker": look.marker, "linewidth": 1.2, "label": called(method), **look.line}
        place, low, high = 1000 * seeds["tflops"], 100 * seeds["low"], 100 * seeds["high"]
        interval(ax, place, low, high, value=100 * middle, axis="y", fmt="", **how)
    ax.set(title=title, xlabel="operations an answer (GFLOP)", ylabel="accuracy (%)", xscale="log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    return clean(ax)
