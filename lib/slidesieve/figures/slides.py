"""Figures of slides, tiles and features, in the style of slidesieve.figures.style."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slidesieve.analyses.cases import Crop
from slidesieve.analyses.token_maps import Picture
from slidesieve.answers.palette import DARK
from slidesieve.figures.style import BLUE, GREEN, ORANGE, PALE, PURPLE, RED, SKY, clean, looks, panels
from slidesieve.slides.overviews import Overview


class CaseView(NamedTuple):
    """What is drawn of a case: the slide's picture if it is there, all tiles' corners, those planted, those kept."""

    picture: Picture | None
    coords: Int[np.ndarray, "n 2"]
    planted: Int[np.ndarray, " p"]
    crops: Sequence[Crop]
    owners: pd.DataFrame | None = None  # of a mosaic, a row a piece: start, stop, role, kind


OTHERS = (SKY, "#7FCDBB", "#C5B0E0", "#9EB9F3")  # of several kinds that are neither main nor asked about
ROLES = {"main": PALE, "other": SKY, "subtype": ORANGE, "rare": RED}  # of a mosaic's pieces


def tile_sheet(overviews: Sequence[Overview], *, columns: int = 3) -> Figure:
    """Draw each slide with the outlines of its tiles; the title says how many there are, and how large."""
    figure, axes = panels(len(overviews), columns=columns, width=4.6, height=4.2, sharex=False, sharey=False)
    for ax, (slide_id, rgb, width_px0, tiling) in zip(axes, overviews, strict=True):
        side_px0 = float(tiling.attrs["patch_size"]) * tiling.view.scale
        tile_overlay(ax, rgb, tiling.coords, tile_px0=side_px0, slide_width_px0=round(width_px0))
        side_um = tiling.attrs["tile_size_um"]
        ax.set_title(f"{slide_id}\n{side_um:.0f} µm tiles, n = {len(tiling.coords)}", fontsize=9)
        ax.tick_params(labelsize=7)
    return figure


def contact_sheet(overviews: Sequence[Overview], words: Mapping[str, str], *, columns: int = 8) -> Figure:
    """Draw slides small, what is not tiled faded, each with its words above it."""
    figure, axes = panels(len(overviews), columns=columns, width=1.7, height=1.9, sharex=False, sharey=False)
    for ax, (slide_id, rgb, width_px0, tiling) in zip(axes, overviews, strict=True):
        scale = width_px0 / rgb.shape[1]
        side = int(np.ceil(float(tiling.attrs["patch_size"]) * tiling.view.scale / scale)) + 1
        tiled = np.zeros(rgb.shape[:2], bool)
        for x, y in (tiling.coords / scale).round().astype(int):
            tiled[y : y + side, x : x + side] = True
        ax.imshow(np.where(tiled[..., None], rgb, 160 + rgb * 0.35).astype(np.uint8))
        ax.set_title(f"{slide_id[:22]}\n{words[slide_id]}", fontsize=6)
        ax.set_axis_off()
    return figure


def grid_sheet(grids: Mapping[str, Int[np.ndarray, "n 2"]], *, columns: int = 3) -> Figure:
    """Draw where the tiles of some slides lie, a dot a tile's top left corner, in level-0 px."""
    figure, axes = panels(len(grids), columns=columns, width=4.0, height=3.8, sharex=False, sharey=False)
    for ax, (slide_id, coords) in zip(axes, grids.items(), strict=True):
        ax.scatter(*coords.T, s=max(0.3, 60 / len(coords) ** 0.6), marker="s", color=BLUE, linewidths=0)
        ax.set(aspect="equal", xlabel="x (level-0 px)", ylabel="y (level-0 px)")
        ax.invert_yaxis()
        ax.set_title(f"{slide_id[:28]}\nn = {len(coords):,} tiles", fontsize=9)
        ax.tick_params(labelsize=7)
    return figure


def site_bars(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Draw slides by site, stacked by split."""
    left = np.zeros(len(counts))
    for split, look in looks(counts.columns).items():
        ax.barh(counts.index, counts[split], left=left, label=split, **look.bar)
        left += counts[split].to_numpy()
    ax.set(xlabel="slides", ylabel="site")
    ax.invert_yaxis()
    ax.legend(title="split", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return clean(ax, grid="x")


def norm_histogram(ax: Axes, norms: Float[np.ndarray, " n"]) -> Axes:
    """Draw how long features are."""
    ax.hist(norms, bins=60, color=BLUE)
    ax.set(xlabel="Euclidean norm of a tile's feature (no unit)", ylabel="tiles")
    return clean(ax)


def spectrum_curve(ax: Axes, shares: Float[np.ndarray, " d"]) -> Axes:
    """Draw the variance that the first principal axes hold."""
    ax.plot(np.arange(1, len(shares) + 1), 100 * np.cumsum(shares), color=BLUE)
    ax.set(xlabel="principal axes of the features", ylabel="variance held (%)", ylim=(0, 102))
    return clean(ax)


def label_folds(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Draw slides in each fold (rows of `counts`) stacked by label (its columns)."""
    bottom = np.zeros(len(counts))
    for label, look in looks(counts.columns, (SKY, ORANGE, GREEN, PURPLE)).items():
        bars = ax.bar([str(fold) for fold in counts.index], counts[label], bottom=bottom, label=label, **look.bar)
        ax.bar_label(bars, label_type="center", fontsize=8)
        bottom += counts[label].to_numpy()
    ax.set(xlabel="fold", ylabel="slides")
    ax.legend(frameon=False, ncols=min(len(counts.columns), 4), loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def owner_strips(ax: Axes, owned: pd.DataFrame) -> Axes:
    """Draw a row a mosaic, its tokens from first to last, coloured by the role of the piece that they are of."""
    names = list(owned["slide_id"].unique())
    for role, colour in ROLES.items():
        part = owned[owned["role"] == role]
        place = part["slide_id"].map(names.index)
        ax.barh(
            place, part["stop"] - part["start"], left=part["start"], height=0.8, color=colour, linewidth=0, label=role
        )
    ax.set(xlabel="token", ylabel="mosaic", yticks=range(len(names)), yticklabels=range(1, len(names) + 1))
    ax.set_xlim(0, owned["stop"].max())
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.legend(frameon=False, ncols=len(ROLES), loc="lower center", bbox_to_anchor=(0.5, 1))
    return clean(ax)


def tile_overlay(
    ax: Axes,
    thumbnail: UInt8[np.ndarray, "h w 3"],
    coords: Int[np.ndarray, "n 2"],
    *,
    tile_px0: float,
    slide_width_px0: int,
    marked: Bool[np.ndarray, " n"] | None = None,
) -> Axes:
    """Draw tiles (top-left corners and side in level-0 px) over the slide's thumbnail, marked ones in orange.

    Axes are in level-0 px, so that a place read off the figure is a place in the slide.
    """
    height, width = thumbnail.shape[:2]
    scale = slide_width_px0 / width
    ax.imshow(thumbnail, extent=(0, slide_width_px0, height * scale, 0))
    marked = np.zeros(len(coords), dtype=bool) if marked is None else marked
    for chosen, colour, thickness in ((~marked, BLUE, 0.5), (marked, ORANGE, 1.8)):
        boxes = [Rectangle((x, y), tile_px0, tile_px0) for x, y in coords[chosen].tolist()]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=thickness))
    ax.set(xlabel="x (level-0 px)", ylabel="y (level-0 px)")
    return ax


def case_sheet(
    case: CaseView,
    *,
    columns: int = 4,
) -> Figure:
    """Draw a case: the slide with planted tiles in blue, kept ones in orange, a scale bar; beside it what was kept.

    Where there is no slide its tokens are drawn at their places, or in rows where they have none, coloured by their
    owners where these are known; a kept one is ringed and says its rank, a planted one has a blue frame.
    """
    rows = max(1, -(-len(case.crops) // columns))
    figure = plt.figure(figsize=(11.5, 3.9), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 5)
    ax = figure.add_subplot(grid[:, :5])
    if case.picture is not None:
        _on_slide(ax, case)
    else:
        _as_tokens(ax, case)
    for place, crop in enumerate(case.crops):
        small = figure.add_subplot(grid[place // columns, 5 + place % columns])
        if crop.pixels is not None:
            small.imshow(crop.pixels)
        score = "" if np.isnan(crop.score) else f": {crop.score:.2f}"
        small.set_title(f"{crop.rank + 1}{score}", fontsize=8)
        small.set(xticks=[], yticks=[])
        if crop.pixels is None:
            owner, colour = next((o, hue) for o, (hue, own) in _owned(case).items() if crop.index in own)
            words = f"{owner}\n{crop.index}".replace(": ", "\n")
            small.set_facecolor(colour)
            small.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=small.transAxes)
        small.spines[:].set(color=BLUE if crop.index in case.planted else ORANGE, linewidth=2.5, visible=True)
    return figure


def _on_slide(ax: Axes, case: CaseView) -> None:
    picture, side = case.picture, case.picture.tile_px0
    height = picture.image.shape[0] * picture.width_px0 / picture.image.shape[1]
    ax.imshow(picture.image, extent=(0, picture.width_px0, height, 0))
    for index, colour, thick in ((case.planted, BLUE, 2.6), ([c.index for c in case.crops], ORANGE, 1.4)):
        boxes = [Rectangle(tuple(case.coords[i]), side, side) for i in index]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=thick))
    bar = scale_bar_um(picture.width_px0 * picture.mpp)
    ax.plot([0.03 * picture.width_px0, 0.03 * picture.width_px0 + bar / picture.mpp], [0.97 * height] * 2, "k-", lw=3)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    ax.text(0.03 * picture.width_px0, 0.94 * height, f"{bar:,.0f} µm", fontsize=8, va="bottom", bbox=ground)
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
    if len(case.planted):
        ax.scatter(
            *places[case.planted].T, s=1.6 * max(size, 90), marker="s", edgecolors=BLUE, label="planted", **style
        )
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
        found[f"{role}: {kind}"] = colour, np.concatenate([np.arange(*run) for run in part[["start", "stop"]].values])
    return found


def scale_bar_um(width_um: float) -> float:
    """A round length, 1, 2 or 5 times a power of ten, of at most a fifth of a width."""
    power = 10.0 ** np.floor(np.log10(width_um / 5))
    return max(step * power for step in (1, 2, 5) if step * power <= width_um / 5)
