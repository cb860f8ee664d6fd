"""Figures of a training: loss and score against steps."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from slidesieve.figures.style import BLUE, ORANGE, PALE, clean, looks


def curves(ax: Axes, x: Sequence[float], lines: dict[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Axes:
    """Draw named lines over a common x; labels carry the units."""
    for label, look in looks(lines).items():
        ax.plot(x, lines[label], linewidth=1.6, label=label, **look.line)
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
