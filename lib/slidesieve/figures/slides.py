"""Figures of slides, tiles and features, in the style of slidesieve.figures.style."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slidesieve.figures.style import BLUE, GREEN, ORANGE, PALE, PURPLE, RED, SKY, clean, looks, panels
from slidesieve.slides.closeups import Closeup
from slidesieve.slides.overviews import Overview

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
    counts = ", ".join(f"{view.slide_id} with {len(view.tiling.coords):,}" for view in overviews)
    figure.set_label(f"Thumbnails of slides with the outlines of the tiles that were kept: {counts}.")
    return figure


def closeup_sheet(closeup: Closeup, *, most: int = 8) -> Figure:
    """Draw a slide, its mask and its grid; below, tiles kept and left out, least tissue first, with their share."""
    table, n, n_kept = closeup.grid, len(closeup.grid), int(closeup.grid["kept"].sum())
    shown = table.dropna(subset="rank").sort_values("rank")
    rows = [part.head(most) for kept in (True, False) if len(part := shown[shown["kept"] == kept])]
    figure = plt.figure(figsize=(11.5, 3.4 + 1.5 * len(rows)), layout="constrained")
    whole, strips = figure.subfigures(2, 1, height_ratios=(3.4, 1.5 * len(rows)))
    axes = whole.subplots(1, 3)
    height_px0 = closeup.rgb.shape[0] * closeup.width_px0 / closeup.rgb.shape[1]
    extent = (0, closeup.width_px0, height_px0, 0)
    axes[0].imshow(closeup.rgb, extent=extent)
    scale_bar(axes[0], closeup.width_px0, height_px0, closeup.mpp)
    axes[1].imshow(closeup.mask, extent=extent, cmap="gray", vmin=0, vmax=1)
    axes[2].imshow(closeup.rgb, extent=extent)
    for kept, colour in ((True, BLUE), (False, RED)):
        corners = table.loc[table["kept"] == kept, ["x_px0", "y_px0"]].to_numpy()
        boxes = [Rectangle(xy, closeup.side_px0, closeup.side_px0) for xy in corners]
        axes[2].add_collection(PatchCollection(boxes, facecolor=colour, edgecolor=colour, alpha=0.35, linewidth=0.4))
    titles = (closeup.slide_id, "tissue (white)", f"{n_kept:,} tiles kept (blue), {n - n_kept:,} left out (red)")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[])
    for places, row in zip(strips.subplots(len(rows), most, squeeze=False), rows, strict=True):
        for ax, tile in zip(places, row.itertuples(), strict=False):
            words = f"{tile.tissue:.0%} tissue, {'kept' if tile.kept else 'left out'}"
            framed(ax, closeup.tiles.get(tile.Index), words, BLUE if tile.kept else RED)
        for ax in places[len(row) :]:
            ax.set_axis_off()
    figure.set_label(
        f"Slide {closeup.slide_id}: its picture, its mask of tissue, and its grid of {n:,} tiles, of which {n_kept:,} "
        "are kept; below, some tiles kept and some left out, each with its share of tissue."
    )
    return figure


def framed(ax: Axes, pixels: UInt8[np.ndarray, "t t 3"] | None, title: str, colour: str) -> None:
    if pixels is not None:
        ax.imshow(pixels)
    ax.set_title(title, fontsize=7)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(color=colour, linewidth=2.5, visible=True)


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
    figure.set_label(f"{len(overviews)} flagged slides, small, what was not tiled faded, above each what was found.")
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
    """Draw a row a mosaic, its tokens as they were joined, coloured by the role of the piece that they are of."""
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


def scale_bar(ax: Axes, width_px0: float, height_px0: float, mpp: float) -> None:
    """Draw a round length below the picture's lower edge, at its left, so that it hides no tissue."""
    bar = scale_bar_um(width_px0 * mpp)
    ax.plot([0, bar / mpp], [1.03 * height_px0] * 2, "k-", lw=3, solid_capstyle="butt", clip_on=False)
    ax.text(1.3 * bar / mpp, 1.03 * height_px0, f"{bar:,.0f} µm", fontsize=8, va="center", clip_on=False)
    ax.set_ylim(height_px0, 0)


def scale_bar_um(width_um: float) -> float:
    """A round length, 1, 2 or 5 times a power of ten, of at most a fifth of a width."""
    power = 10.0 ** np.floor(np.log10(width_um / 5))
    return max(step * power for step in (1, 2, 5) if step * power <= width_um / 5)
