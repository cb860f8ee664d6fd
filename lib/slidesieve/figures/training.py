"""Figures of a training: loss and score against steps."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from slidesieve.figures.style import BLUE, GREEN, GREY, ORANGE, PALE, SKY, clean, looks

STRIP_INCHES = 0.7  # that a figure grows by for a strip under its panels


def curves(ax: Axes, x: Sequence[float], lines: dict[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Axes:
    """Draw named lines over a common x; labels carry the units."""
    for label, look in looks(lines).items():
        ax.plot(x, lines[label], linewidth=1.6, label=label, **look.line)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        ax.legend(frameon=False)
    return clean(ax)


def training_curves(axes: Sequence[Axes], history: pd.DataFrame, *, score: str) -> None:
    """Draw the loss of each step, smoothed, over the learning rate, and the validation score where it was taken.

    The step whose weights are kept, the first of the best score, is marked in both. Where a score of the soft path was
    taken too, as of a selector's, it is drawn beside.
    """
    step = history["step"] + 1
    axes[0].plot(step, history["loss"], color=PALE, linewidth=0.8, label="each step")
    axes[0].plot(step, history["loss"].rolling(20, min_periods=1).mean(), color=BLUE, label="mean of 20 steps")
    axes[0].set(xlabel="optimiser step", ylabel="loss (nats per answer token)")
    taken = history.dropna(subset="score")
    if "soft_score" in history and history["soft_score"].notna().any():
        axes[1].plot(taken["step"] + 1, taken["soft_score"], "D--", color=GREY, markersize=4, label="soft path")
    axes[1].plot(taken["step"] + 1, taken["score"], "o-", color=ORANGE, label="as used")
    axes[1].set(xlabel="optimiser step", ylabel=score, ylim=(0, 1.02))
    said = (
        f"Left, the loss at {len(history):,} optimiser steps, each and smoothed; right, {score} at {len(taken)} of them"
    )
    if len(taken):
        best = int(taken.loc[taken["score"].idxmax(), "step"]) + 1
        for ax in axes[:2]:
            ax.axvline(best, color=GREEN, linestyle=":", linewidth=1.6, label=f"kept: step {best:,}")
        axes[1].legend(frameon=False, loc="lower right")
        said += f"; marked is step {best:,}, whose weights are kept"
    axes[0].legend(frameon=False, fontsize=8, ncols=3, columnspacing=1, loc="lower center", bbox_to_anchor=(0.5, 1))
    for ax in axes[:2]:
        clean(ax)
    axes[0].figure.set_label(f"{said}.")
    if "lr" in history:
        _below(axes[0], step, history["lr"], ylabel="learning\nrate")


def _below(ax: Axes, x: pd.Series, y: pd.Series, *, ylabel: str) -> None:
    """Draw a line in a strip under a panel, over the same x."""
    strip = ax.inset_axes((0, -0.42, 1, 0.24), sharex=ax)
    strip.plot(x, y, color=SKY)
    strip.set(xlabel=ax.get_xlabel(), ylabel=ylabel, ylim=(0, None))
    strip.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.set_xlabel("")
    ax.tick_params(labelbottom=False)
    clean(strip)
    ax.figure.set_figheight(ax.figure.get_figheight() + STRIP_INCHES)
    ax.figure.draw_without_rendering()  # the layout has room for a strip from its second drawing on
