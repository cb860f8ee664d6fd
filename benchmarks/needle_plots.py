"""Figures of the needle benchmark, from the rows of needle.csv."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidesieve.figures.style import BLUE, GREY, METHODS, RED, SKY, clean, figure, looks, save

ATTENDED = {"gated": "gated ABMIL,\nmost attended", "abmil": "ABMIL,\nmost attended"}
NAMES = {"gated": "gated ABMIL", "abmil": "ABMIL", "mean": "mean pooling", "needle_alone": "needle alone (ceiling)"}
STYLES = {"gated": "-", "abmil": "--", "mean": ":", "needle_alone": "-."}


def draw(table: pd.DataFrame, out: Path) -> None:
    """Write precision.png (for the first k asked for), and with several k sweep.png."""
    n, ks = table["n"].iloc[0], sorted(set(table["k"]) - {0})
    if "precision" in table and len(ks):
        drawn, ax = figure(height=3.6)
        first = table.loc[table["k"] > 0, "k"].iloc[0]  # the peers' most attended tokens are as many
        needle_precision(ax, table[table["k"].isin([0, first])].dropna(subset="precision"))
        ax.set_title(f"{n:,} tokens, {first} kept", fontsize=11)
        save(drawn, out / "precision.png")
    if len(ks) > 1:
        drawn, ax = figure()
        budget_sweep(ax, table)
        ax.set_title(f"{n:,} tokens a bag", fontsize=11)
        save(drawn, out / "sweep.png")


def needle_precision(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw which share of the kept tokens is the needle's: bars are medians over seeds, dots seeds, a line chance."""
    order = ("sparselearn", "gated", "abmil", "random")
    names = sorted(set(table["model"]), key=lambda name: order.index(name) if name in order else len(order))
    for place, name in enumerate(names):
        part = table[table["model"] == name]
        ax.barh(place, 100 * part["precision"].median(), height=0.6, color=SKY)
        label = "one seed" if place == 0 else None
        ax.plot(100 * part["precision"], np.full(len(part), place), "o", color=BLUE, markersize=5, label=label)
    chance = 100 * table["chance_precision"].median()
    ax.axvline(chance, color=RED, linewidth=1.5, label=f"chance ({chance:.1f} %)")
    labels = [ATTENDED.get(name, name) for name in names]
    ax.set(xlabel="kept tokens that are the needle's (%)", xlim=(0, 102), yticks=range(len(names)), yticklabels=labels)
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower right")
    return clean(ax, grid="x")


def budget_sweep(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw test AUC against tokens kept (log): lines are medians over seeds; models that read all as level lines."""
    with_k = table[table["k"] > 0]
    for name, look in looks(with_k["model"], METHODS).items():
        part = with_k[with_k["model"] == name]
        median = part.groupby("k")["test_auc"].median()
        ax.plot(median.index, median, label=f"{name}, k tokens", **look.line)
        ax.plot(part["k"], part["test_auc"], "o", color=look.colour, markersize=4)
    for name, style in STYLES.items():
        part = table.loc[table["model"] == name, "test_auc"]
        if len(part):
            ax.axhline(part.median(), color=GREY, linestyle=style, linewidth=1.2, label=NAMES[name])
    ks = sorted(set(table["k"]) - {0})
    ax.set_xscale("log", base=2)
    ax.set(xlabel="tokens kept", ylabel="test AUC", xticks=ks, xticklabels=ks)
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return clean(ax)
