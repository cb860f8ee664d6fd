"""Figures of cases: a slide or its tokens, what was planted or owned, and what was kept, by rank."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from slidesieve.analyses.cases import CaseView
from slidesieve.answers.palette import DARK
from slidesieve.figures.slides import ROLES, framed, scale_bar
from slidesieve.figures.style import BLUE, ORANGE, PALE, SKY

OTHERS = (SKY, "#7FCDBB", "#C5B0E0", "#9EB9F3")  # of several kinds that are neither main nor asked about


def case_sheet(
    case: CaseView,
    *,
    columns: int = 4,
) -> Figure:
    """Draw a case: the slide with planted tiles in blue, kept ones in orange, a scale bar; beside it what was kept.

    Tiles planted for another question than the case's have a pale blue frame, thinner.

    Where there is no slide its tokens are drawn at their places, or in rows where they have none, coloured by their
    owners where these are known; a kept one is ringed and says its rank, a planted one has a blue frame.
    """
    figure = plt.figure(figsize=(11.5, 3.9), layout="constrained")
    _case_on(figure, case, columns)
    return figure


def case_sheets(cases: Mapping[str, CaseView], *, columns: int = 4) -> Figure:
    """Draw several cases, one below the other, each under its title."""
    figure = plt.figure(figsize=(11.5, 4.1 * len(cases)), layout="constrained")
    for part, (title, case) in zip(figure.subfigures(len(cases), 1, squeeze=False).flat, cases.items(), strict=True):
        part.suptitle(title, fontsize=10)
        _case_on(part, case, columns)
    return figure


def _case_on(figure: Figure | SubFigure, case: CaseView, columns: int) -> None:
    rows = max(1, -(-len(case.crops) // columns))
    grid = figure.add_gridspec(rows, columns + 5)
    ax = figure.add_subplot(grid[:, :5])
    if case.picture is not None:
        _on_slide(ax, case)
    else:
        _as_tokens(ax, case)
    for place, crop in enumerate(case.crops):
        small = figure.add_subplot(grid[place // columns, 5 + place % columns])
        score = "" if np.isnan(crop.score) else f": {crop.score:.2f}"
        framed(small, crop.pixels, f"{crop.rank + 1}{score}", ORANGE)
        if crop.index in case.planted:
            small.set_title(f"{crop.rank + 1}{score}, planted", fontsize=7, color=BLUE, weight="bold")
        elif crop.index in case.aside:
            small.set_title(f"{crop.rank + 1}{score}, another's", fontsize=7)
        if crop.pixels is None:
            owner, colour = next((o, hue) for o, (hue, own) in _owned(case).items() if crop.index in own)
            words = f"{owner}\n{crop.index}".replace(": ", "\n")
            small.set_facecolor(colour)
            small.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=small.transAxes)


def _on_slide(ax: Axes, case: CaseView) -> None:
    picture, side = case.picture, case.picture.tile_px0
    height = picture.image.shape[0] * picture.width_px0 / picture.image.shape[1]
    ax.imshow(picture.image, extent=(0, picture.width_px0, height, 0))
    kept = [crop.index for crop in case.crops]
    frames = ((case.aside, SKY, 0.0, 1), (case.planted, BLUE, 0.0, 2.5), (kept, ORANGE, 0.12 * side, 2))
    for index, colour, inset, thick in frames:  # one within the other
        boxes = [Rectangle(tuple(case.coords[i] + inset), side - 2 * inset, side - 2 * inset) for i in index]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=thick, clip_on=False))
    for crop in case.crops:
        x, y = case.coords[crop.index] + side / 2
        rank = {"ha": "center", "va": "center", "fontsize": 6, "weight": "bold"}
        ax.text(x, y, str(crop.rank + 1), **rank, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    scale_bar(ax, picture.width_px0, height, picture.mpp)
    named = (("planted", BLUE, len(case.planted)), ("for another question", SKY, len(case.aside)))
    named += (("kept, with its rank", ORANGE, len(case.crops)),)
    patches = [Patch(facecolor="none", edgecolor=colour, linewidth=2, label=name) for name, colour, n in named if n]
    ax.legend(handles=patches, frameon=False, fontsize=8, ncols=3, loc="upper right", bbox_to_anchor=(1, 0))
    ax.set_axis_off()


def _as_tokens(ax: Axes, case: CaseView) -> None:
    n, kept = len(case.coords), [crop.index for crop in case.crops]
    placed = len(np.unique(case.coords, axis=0)) == n and len(np.unique(case.coords[:, 1])) > 1
    wide = max(10, int(np.ceil(np.sqrt(2 * n))))
    places = case.coords if placed else np.stack([np.arange(n) % wide, np.arange(n) // wide], 1)
    size = float(np.clip(30000 / max(n, 1), 9, 180))
    for owner, (colour, index) in _owned(case).items():
        ax.scatter(*places[index].T, s=size, color=colour, marker="s", linewidths=0, label=owner)
    style = {"facecolors": "none", "linewidths": 1.6}
    for index, colour, name in ((case.aside, SKY, "for another question"), (case.planted, BLUE, "planted")):
        if len(index):
            ax.scatter(*places[index].T, s=1.6 * max(size, 90), marker="s", edgecolors=colour, label=name, **style)
    if kept:
        ax.scatter(*places[kept].T, s=max(size, 90), edgecolors=DARK, label="kept, with its rank", **style)
    for crop in case.crops:
        ax.annotate(str(crop.rank + 1), places[crop.index], ha="center", va="center", fontsize=7, weight="bold")
    ax.set(xlabel="x (level-0 px)" if placed else f"tokens in their order, {wide} in a row")
    if not placed:
        ax.set(xticks=[], yticks=[], xlim=(-0.8, min(n, wide) - 0.2), ylim=(-0.8, (n - 1) // wide + 0.8))
        ax.spines[:].set_visible(False)
    ax.invert_yaxis()
    for handle in ax.legend(
        frameon=False, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1)
    ).legend_handles:
        handle.set_sizes([45])


def _owned(case: CaseView) -> dict[str, tuple[str, Int[np.ndarray, " m"]]]:
    """Colour and tokens of each kind of owner, by its role and kind; of all tokens where no owner is known."""
    if case.owners is None:
        return {"token": (PALE, np.arange(len(case.coords)))}
    others, found = iter(OTHERS), {}
    for (role, kind), part in case.owners.groupby(["role", "kind"], sort=False):
        colour = next(others, SKY) if role == "other" else ROLES[role]
        found[f"{role}: {kind}"] = colour, part["index"].to_numpy()
    return found
