"""The three figures on soft and hard selection. Shares come in as 0 to 1 and are shown in per cent."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slidesieve.analyses.soft_hard import PATH_NAMES
from slidesieve.figures.style import BLUE, GREY, ORANGE, PALE, RED, clean, interval

SHORT = {"hard": "hard", "hard_denoised": "hard, denoised", "soft": "soft", "soft_bypassed": "soft, not denoised"}
SCORES = {"captions": "word probability (%)", "questions": "accuracy (%)"}
ZERO = 0.001  # where alpha 0 stands on a log axis


def training_figure(log: pd.DataFrame) -> Figure:
    """Draw both paths' scores, the mass on the kept tiles and the temperature (if recorded), a column a stage."""
    stages = list(log["stage"].unique())
    shown = {"hard": 3.0, "mass": 2.0, "tau": 1.4}
    shown = {column: height for column, height in shown.items() if log[column].notna().any()}
    size, rows = (4.6 * len(stages), sum(shown.values())), {"height_ratios": list(shown.values())}
    drawn, axes = plt.subplots(
        len(shown),
        len(stages),
        figsize=size,
        sharex="col",
        sharey="row",
        squeeze=False,
        layout="constrained",
        gridspec_kw=rows,
    )
    for column, stage in zip(axes.T, stages, strict=True):
        part = log[log["stage"] == stage]
        both_paths(column[0], part, stage)
        for ax, name in zip(column[1:], list(shown)[1:], strict=True):
            recorded(ax, part, name, most=log[name].max())
        column[-1].set_xlabel("optimiser step")
    return drawn


def both_paths(ax: Axes, part: pd.DataFrame, stage: str) -> Axes:
    """Draw the scores of the soft and the hard path of one stage against its steps."""
    if part["soft"].notna().any():
        ax.plot(part["step"], 100 * part["soft"], "D-", color=ORANGE, markersize=4, label="soft: all tiles, gated")
    else:
        ax.text(0.97, 0.3, "soft path not recorded", transform=ax.transAxes, ha="right", color=GREY)
    ax.plot(part["step"], 100 * part["hard"], "o-", color=BLUE, markersize=4, label="hard: k tiles, as used")
    ax.set_title(stage, pad=22)
    ax.set(ylabel=SCORES.get(stage, "validation score (%)"), ylim=(0, 102))
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def recorded(ax: Axes, part: pd.DataFrame, column: str, *, most: float) -> Axes:
    """Draw the mass on the kept tiles, or the temperature (at `most` so high), of one stage against its steps."""
    known = {"mass": (100, 102, "weight on the\ntiles kept (%)"), "tau": (1, 1.1 * most, "temperature τ\n(no unit)")}
    scale, top, label = known[column]
    ax.plot(part["step"], scale * part[column], "o-", color=GREY, markersize=4)
    ax.set(ylabel=label, ylim=(0, top))
    if part[column].isna().all():
        ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", va="center", color=GREY)
    return clean(ax)


def paths_figure(scores: pd.DataFrame, agreed: pd.DataFrame, mass: pd.DataFrame, *, tau: float) -> Figure:
    """Draw accuracies, paired differences, agreements, and mass against temperature with the model's own marked."""
    drawn, axes = plt.subplots(2, 2, figsize=(11, 6.4), layout="constrained", gridspec_kw={"height_ratios": (1, 1.15)})
    path_accuracies(axes[0, 0], scores[scores["minus"] == ""])
    path_differences(axes[0, 1], scores[scores["minus"] != ""])
    agreements(axes[1, 0], agreed)
    mass_curve(axes[1, 1], mass, tau=tau)
    return drawn


def path_accuracies(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw each path's accuracy with its 95 % interval; a bar spans the draws of noise."""
    place = np.arange(len(table))
    colours = [BLUE if path.startswith("hard") else ORANGE for path in table["path"]]
    spans = table["lowest"] < table["highest"]
    ax.hlines(
        place[spans] + 0.22, 100 * table["lowest"][spans], 100 * table["highest"][spans], color=GREY, linewidth=4,
        alpha=0.6, label="range over draws of noise",
    )  # fmt: skip
    for i, (row, colour) in enumerate(zip(table.itertuples(), colours, strict=True)):
        low, value, high = 100 * row.ci_low, 100 * row.value, 100 * row.ci_high
        interval(ax, i, low, high, value=value, color=colour, markersize=6)
        _written(ax, f"{value:.1f}", value, i)
    ax.set(xlabel="accuracy (%), 95 % interval over patients", yticks=place, yticklabels=table["path"].map(PATH_NAMES))
    ax.set_ylim(len(table) - 0.4, -0.6)
    if spans.any():
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    return clean(ax, grid="x")


def path_differences(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw the paired differences between paths with their 95 % intervals around zero."""
    place = np.arange(len(table))
    value = 100 * table["value"].to_numpy()
    ax.axvline(0, color=GREY, linewidth=1.2, linestyle="--")
    interval(ax, place, 100 * table["ci_low"], 100 * table["ci_high"], value=value, color=RED, markersize=6)
    for i, number in enumerate(value):
        _written(ax, f"{number:+.1f}", number, i)
    names = [f"{SHORT[a]}\nminus {SHORT[b]}" for a, b in zip(table["path"], table["minus"], strict=True)]
    ax.set(xlabel="difference in accuracy (points), paired", yticks=place, yticklabels=names)
    ax.set_ylim(len(table) - 0.4, -0.6)
    return clean(ax, grid="x")


def agreements(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw how often answers, and how far kept tiles, are the same, and chance where it is known."""
    place = np.arange(len(table))
    value = 100 * table["value"].to_numpy(float)
    low, high = (100 * table[end].astype(float).fillna(table["value"]) for end in ("ci_low", "ci_high"))
    interval(ax, place, low, high, value=value, fmt="s", color=BLUE, markersize=6)
    chance = table["chance"].notna().to_numpy()
    at = 100 * table["chance"][chance].to_numpy(float)
    ax.vlines(at, place[chance] - 0.25, place[chance] + 0.25, color=RED, linewidth=2.5, label="by chance")
    for i, number in enumerate(value):
        _written(ax, f"{number:.1f}", number, i)
    labels = [
        f"same {of}\n{compared}" + (" (Jaccard)" if of == "kept tiles" else "")
        for of, compared in zip(table["of"], table["compared"], strict=True)
    ]
    ax.set(xlabel="agreement (%)", xlim=(0, 104), yticks=place, yticklabels=labels)
    ax.set_ylim(len(table) - 0.4, -0.6)
    if chance.any():
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    return clean(ax, grid="x")


def _written(ax: Axes, text: str, x: float, y: float) -> None:
    """Write a value above its dot, clear of lines behind it."""
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.annotate(text, (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=8, bbox=clear)


def mass_curve(ax: Axes, table: pd.DataFrame, *, tau: float) -> Axes:
    """Draw the share of the gate's weight on the kept tiles against temperature, cooling to the right."""
    table = table.sort_values("tau")
    ax.fill_between(table["tau"], 100 * table["low"], 100 * table["high"], color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(table["tau"], 100 * table["mass"], "o-", color=BLUE, markersize=4, label="mean and 5 to 95 % of slides")
    ax.axhline(100 * table["chance"].iloc[0], color=GREY, linestyle="--", linewidth=1.2, label="spread evenly")
    ax.axvline(tau, color=RED, linewidth=1.2, label=f"this model, τ = {tau:g}")
    ax.set_xscale("log")
    ax.set_xticks(table["tau"], [f"{t:g}" for t in table["tau"]])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set(xlabel="temperature τ of the gate (no unit)", ylabel="weight on the tiles kept (%)", ylim=(0, 102))
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return clean(ax)


def leak_figure(leak: pd.DataFrame, *, left_out: float, titles: dict[str, str]) -> Figure:
    """Draw what is read of a gated tile against alpha: a probe of its class, if there is one, and its identity."""
    tasks = [task for task in titles if (leak["task"] == task).any()]
    drawn, axes = plt.subplots(1, len(tasks), figsize=(5.6 * len(tasks), 5.6), squeeze=False, layout="constrained")
    for ax, task in zip(axes.flat, tasks, strict=True):
        leak_curves(ax, leak[leak["task"] == task], left_out=left_out)
        ax.set_title(titles[task], fontsize=10)
    return drawn


def leak_curves(ax: Axes, table: pd.DataFrame, *, left_out: float) -> Axes:
    """Draw the measured share for each width, and what theory expects of the widest in grey."""
    widths = sorted(table["d"].unique())
    colours = plt.get_cmap("viridis_r")(np.linspace(0.15, 1, len(widths)))
    for width, colour in zip(widths, colours, strict=True):
        part = table[table["d"] == width].sort_values("alpha")
        at = part["alpha"].clip(lower=ZERO)
        ax.fill_between(at, 100 * part["low"], 100 * part["high"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(at, 100 * part["share"], "o-", color=colour, markersize=4, label=f"d = {width:.0f}")
    for column, style, label in _theories(part):
        ax.plot(at, 100 * part[column], color=GREY, linestyle=style, linewidth=1.6, label=label)
    ax.axhline(100 * part["chance"].iloc[0], color=PALE, linewidth=1.2, label="guessing")
    ax.axvline(max(left_out, ZERO), color=RED, linewidth=1.2, label="this model: a tile left out, mean")
    ax.set_xscale("log")
    ticks = part["alpha"].clip(lower=ZERO)
    ax.set_xticks(ticks, [f"{a:g}" for a in part["alpha"]])
    ax.minorticks_off()
    ax.set(xlabel="α: share of a token's variance let through (0 to 1)", ylabel="read correctly (%)", ylim=(0, 102))
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    return clean(ax)


def _theories(part: pd.DataFrame) -> list[tuple[str, object, str]]:
    """The columns of `leak` that hold an expectation, with a line style and a name."""
    d, rank = part["d"].iloc[0], part["participation_ratio"].iloc[0]
    if part["task"].iloc[0] == "probe":
        return [("expected", "--", f"Gaussian classes, d = {d:.0f}")]
    return [
        ("expected", "--", f"Gaussian, {d:.0f} independent dims"),
        ("expected_own", "-.", "Gaussian, correlated as these"),
        ("expected_rank", ":", f"Gaussian, {rank:.0f} dims (participation ratio)"),
    ]
