"""Figures of cost: operations, seconds and memory against tiles and visual tokens, and parameters."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from slidesieve.answers.palette import ink_of
from slidesieve.figures.style import BLUE, GREEN, ORANGE, RED, SKY, clean, looks

TEXTS = {
    "slidechat": "LongNet + all tiles (SlideChat)",
    "all": "all tiles",
    "sparselearn_longnet": "LongNet + SparseLearn",
    "sparselearn": "SparseLearn",
    "tcssa": "TC-SSA",
    "locpath": "LoC-Path-style, adapters",
    "locpath_prefix": "LoC-Path-style, latents as prefix",
    "linspace": "k tiles, evenly spaced",
    "random": "k random tiles",
    "mean": "mean of tiles",
}
MARKS = {"slidechat": "s", "sparselearn_longnet": "d", "locpath_prefix": "x"}  # of what differs in its way alone
STYLES = {name: (text, ink_of(name).colour, MARKS.get(name, ink_of(name).mark)) for name, text in TEXTS.items()}
LINE = {"linewidth": 1.4, "markersize": 5, "mfc": "none"}


def operations(ax: Axes, table: pd.DataFrame, *, title: str) -> Axes:
    """Draw operations against tiles, both axes logarithmic: solid with attention, dashed its linear part alone."""
    summed = table.groupby(["method", "tiles"], sort=False)[["linear", "attention"]].sum().reset_index()
    for method, part in summed.groupby("method", sort=False):
        label, colour, marker = STYLES[method]
        both = (part["linear"] + part["attention"]) / 1e12
        ax.plot(part["tiles"], both, marker=marker, color=colour, label=label, **LINE)
        ax.plot(part["tiles"], part["linear"] / 1e12, "--", color=colour, linewidth=1.0)
    ax.set(title=title, xlabel="tiles on the slide", ylabel="operations (10¹² FLOPs)", xscale="log", yscale="log")
    _numbers(ax, summed["tiles"])
    return clean(ax)


def solid_and_dashed(ax: Axes) -> None:
    """Add to the legend of `operations` what its two kinds of lines are."""
    for style, label in (("-", "with attention"), ("--", "without attention")):
        ax.add_line(Line2D([], [], color="black", linestyle=style, linewidth=1.2, label=label))


def times(ax: Axes, table: pd.DataFrame, *, column: str, ylabel: str) -> Axes:
    """Draw measured milliseconds of each method against tiles, both axes logarithmic."""
    _lines(ax, table, column=column, scale=1)
    ax.set(ylabel=ylabel, yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return clean(ax)


def memory(ax: Axes, table: pd.DataFrame, *, column: str, ylabel: str) -> Axes:
    """Draw measured MiB of each method, as GiB from zero, against tiles on a logarithmic axis."""
    _lines(ax, table, column=column, scale=1 / 1024)
    ax.set(ylabel=ylabel, ylim=(0, None))
    return clean(ax)


def _lines(ax: Axes, table: pd.DataFrame, *, column: str, scale: float) -> None:
    """One line a method; what was not measured is left out."""
    found = table[table["status"] == "ok"]
    for method, part in found.groupby("method", sort=False):
        label, colour, marker = STYLES[method]
        ax.plot(part["n"], scale * part[column], marker=marker, color=colour, label=label, **LINE)
    ax.set(xlabel="tiles on the slide", xscale="log")
    _numbers(ax, found["n"])


def against_tokens(ax: Axes, table: pd.DataFrame, *, column: str, ylabel: str) -> Axes:
    """Draw one measured column against visual tokens: in front of the language model, or read by adapters."""
    found = table[table["status"] == "ok"]
    texts = {"linspace": "tiles as prefix", "locpath_prefix": "latents as prefix", "locpath": "latents by adapters"}
    for method, part in found.groupby("method", sort=False):
        _, colour, marker = STYLES[method]
        ax.plot(part["tokens"], part[column], marker=marker, color=colour, label=texts[method], **LINE)
    ax.set(xlabel="visual tokens", ylabel=ylabel, xscale="log", ylim=(0, None))
    _numbers(ax, found["tokens"])
    return clean(ax)


def parameters(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw each method's own parameters, stacked by part; columns are parts, the index methods."""
    left = pd.Series(0.0, index=table.index)
    names = [STYLES[method][0] for method in table.index]
    for part, look in looks(table.columns).items():
        ax.barh(names, table[part] / 1e6, left=left / 1e6, label=part, height=0.65, **look.bar)
        left += table[part].fillna(0)
    for name, value in zip(names, left, strict=True):
        ax.text(value / 1e6, name, f" {value / 1e6:.1f}", va="center", fontsize=8)
    ax.set(xlabel="parameters (millions)", xlim=(0, 1.12 * left.max() / 1e6))
    ax.invert_yaxis()
    return clean(ax, grid="x")


def savings(ax: Axes, table: pd.DataFrame, columns: Sequence[str], *, claim: float, title: str) -> Axes:
    """Draw what is saved against tiles in per cent, one line a column, and the claimed share."""
    for name, look in looks(columns, (BLUE, SKY, ORANGE, GREEN)).items():
        label = name.replace("_", " ")
        ax.plot(table["tiles"], 100 * table[name], marker=look.marker, label=label, **look.line, **LINE)
    ax.axhline(100 * claim, color=RED, linestyle="--", linewidth=1.2, label=f"claimed: {claim:.0%}")
    ax.set(title=title, xlabel="tiles on the slide", ylabel="saved (%)", xscale="log", ylim=(0, 102))
    _numbers(ax, table["tiles"])
    ax.legend(frameon=False, loc="best")
    return clean(ax)


def _numbers(ax: Axes, values: pd.Series) -> None:
    """Name the values that are there, as many as fit side by side, instead of powers of ten."""
    shown: list[float] = []
    for value in sorted(set(values)):
        if not shown or value >= 1.6 * shown[-1]:
            shown.append(value)
    ax.set_xticks(shown, [f"{value:,}" for value in shown])
    ax.xaxis.set_minor_locator(NullLocator())
