"""Pictures of docs/: what each method does to one made-up slide, all in one manner, and the league's scores."""

import io
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from docs.make.bag import COLUMNS, FINDING, ROWS, TISSUES
from docs.make.ideas import K
from flows.report.words import EVERYTHING, FLOOR, LEARNED, UNTRAINED, kind_of
from slidesieve.answers.names import called
from slidesieve.figures import style

matplotlib.use("agg")
TISSUE_COLOURS = (style.CYCLE[4], style.CYCLE[5], "#E8D8A0", style.RED, style.GREY)
TOKEN_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.RED, style.PURPLE, style.SKY, "#332288", "#999933")
KIND_LOOKS = {
    EVERYTHING: ("black", "s", "all tokens"),
    UNTRAINED: (style.ORANGE, "D", "nothing is learnt about what to keep"),
    LEARNED: (style.BLUE, "o", "what to keep, or how to compress, is learnt"),
    FLOOR: (style.GREY, "x", "floors"),
}
GROUPS = {"all": "all questions", "evidence": "evidence", "coverage": "coverage", "composition": "composition"}
DPI, TONES = 110, 96


def idea(bag: pd.DataFrame, shares: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Draw one method at work: where its features lie on the left, where its tiles lie on the right.

    Black rings are kept tiles; a cross is a token that mixes tiles, at their weighted mean, in its own colour, which
    its tiles have too, the paler the less of them is in it. Where tiles have no token they have their tissue's
    colour, and where a method scores them, the paler the lower the score.
    """
    drawn, (plane, places) = style.panels(2, columns=2, width=3.5, height=3.0, sharex=False, sharey=False)
    colours, alpha = _colours(bag, shares, scores)
    kept = sorted(set(shares.loc[~_mixes(shares), "tile"]))
    for tissue, part in bag.groupby("tissue"):
        rgba = [(*matplotlib.colors.to_rgb(colours[i]), alpha[i]) for i in part.index]
        mark = {"marker": "^" if tissue == FINDING else "o", "s": 26 if tissue == FINDING else 13}
        plane.scatter(part["u"], part["v"], c=rgba, linewidths=0, **mark)
        places.scatter(part["column"], part["row"], c=rgba, linewidths=0, **(mark | {"s": 44}))
    for x, y, ax, size in (("u", "v", plane, 62), ("column", "row", places, 92)):
        ax.scatter(bag.loc[kept, x], bag.loc[kept, y], s=size, facecolors="none", edgecolors="black", linewidths=1.5)
        for token, part in shares[_mixes(shares)].groupby("token"):
            weight = part["share"] / part["share"].sum()
            at = [(bag.loc[part["tile"], axis].to_numpy() * weight).sum() for axis in (x, y)]
            ax.scatter(*at, marker="X", s=75, color=TOKEN_COLOURS[token % K], edgecolors="black", linewidths=0.9)
    plane.set(title="features", xlabel="u", ylabel="v", xlim=(-3, 2.3), ylim=(-2.1, 2.5))
    places.set(title="the slide", xlabel="column", ylabel="row", xlim=(-1, COLUMNS), ylim=(ROWS, -1))
    for ax in (plane, places):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[["top", "right"]].set_visible(False)
    return drawn


def key() -> Figure:
    """Draw what all pictures of methods share: marks and colours."""
    drawn, ax = style.figure(width=7.0, height=0.55)
    ax.axis("off")
    marks = [("o", TISSUE_COLOURS[i], TISSUES[i]) for i in (0, 1, 2, 4)] + [("^", TISSUE_COLOURS[FINDING], "finding")]
    handles = [Line2D([], [], marker=m, color=c, linestyle="", label=label) for m, c, label in marks]
    ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 9}
    handles.append(Line2D([], [], marker="o", linestyle="", label="tile kept", **ring))
    cross = {"markerfacecolor": style.BLUE, "markeredgecolor": "black", "markersize": 9}
    handles.append(Line2D([], [], marker="X", linestyle="", label="token that mixes tiles", **cross))
    ax.legend(handles=handles, ncols=len(handles), loc="center", frameon=False, fontsize=8, columnspacing=1.1)
    return drawn


def _mixes(shares: pd.DataFrame) -> pd.Series:
    """Which rows are of a token of several tiles."""
    return shares.groupby("token")["tile"].transform("size") > 1


def _colours(bag: pd.DataFrame, shares: pd.DataFrame, scores: pd.DataFrame) -> tuple[list[str], list[float]]:
    """The colour of each tile, and how strong it is."""
    colours, alpha = [TISSUE_COLOURS[tissue] for tissue in bag["tissue"]], [0.55] * len(bag)
    if len(scores):
        rank = scores.set_index("tile")["score"].rank(pct=True)
        alpha = [0.12 + 0.88 * rank[i] ** 3 for i in bag.index]
    mixed = shares[_mixes(shares)]
    apart = mixed.pivot(index="token", columns="tile", values="share").fillna(0).drop_duplicates()
    if len(apart) > 1:
        strongest = mixed.loc[mixed.groupby("tile")["share"].idxmax()]
        top = mixed.groupby("token")["share"].max()
        for token, tile, share in strongest[["token", "tile", "share"]].itertuples(index=False):
            colours[tile] = TOKEN_COLOURS[token % K]
            alpha[tile] = 0.15 + 0.7 * share / top[token]
    return colours, alpha


def league(scores: pd.DataFrame, costs: pd.DataFrame) -> Figure:
    """Draw every method's accuracy with its interval, a panel a kind of questions, and the operations of an answer."""
    told = scores[~scores["method"].map(kind_of).eq("control")]
    order = told[told["group"] == "all"].sort_values("accuracy")["method"].tolist()
    drawn, axes = style.panels(5, columns=5, width=2.45, height=5.0, sharex=False)
    for ax, (group, title) in zip(axes, GROUPS.items(), strict=False):
        part = told[told["group"] == group].set_index("method").reindex(order)
        dots(ax, part["accuracy"], part["ci_low"], part["ci_high"])
        ax.set(title=title, xlabel="answered correctly (%)", xlim=(15, 97))
    own = costs.set_index("method")["tflops"].reindex(order)
    for place, (method, tflops) in enumerate(own.items()):
        colour, marker, _ = KIND_LOOKS[kind_of(method)]
        axes[-1].plot(1000 * tflops, place, marker, color=colour, markersize=5)
    axes[-1].set(title="cost", xlabel="operations an answer (GFLOP)", xscale="log")
    axes[-1].set_xticks([0.01, 0.02, 0.05, 0.1], ["0.01", "0.02", "0.05", "0.1"])
    axes[-1].minorticks_off()
    style.clean(axes[-1], grid="both")
    axes[0].set_yticks(range(len(order)), [called(method) for method in order])
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=label) for c, m, label in KIND_LOOKS.values()]
    drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return drawn


def dots(ax: Axes, value: pd.Series, low: pd.Series, high: pd.Series) -> None:
    """Draw shares in per cent with their intervals, a line a method, by kind."""
    for place, method in enumerate(value.index):
        colour, marker, _ = KIND_LOOKS[kind_of(method)]
        style.interval(
            ax, place, 100 * low[method], 100 * high[method], value=100 * value[method], fmt=marker, color=colour,
            markersize=5, linewidth=1.2,
        )  # fmt: skip
    style.clean(ax, grid="both")


def save(drawn: Figure, path: Path) -> None:
    """Write a PNG of few colours: these pictures stand in git."""
    raw = io.BytesIO()
    drawn.savefig(raw, dpi=DPI)
    matplotlib.pyplot.close(drawn)
    Image.open(raw).convert("RGB").quantize(TONES).save(path, optimize=True)
