"""Figures of slides, tiles and features, in the style of lib.plots."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.overviews import Overview
from lib.plots import BLUE, CYCLE, clean, tile_overlay


def tile_sheet(overviews: Sequence[Overview], *, columns: int = 3) -> Figure:
    """Draw each slide with the outlines of its tiles; the title says how many there are, and how large."""
    columns = min(columns, len(overviews))
    rows = -(-len(overviews) // columns)
    size = (4.6 * columns, 4.2 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax, (slide_id, rgb, width_px0, tiling) in zip(axes.flat, overviews, strict=False):
        side_px0 = float(tiling.attrs["patch_size"]) * tiling.view.scale
        tile_overlay(ax, rgb, tiling.coords, tile_px0=side_px0, slide_width_px0=round(width_px0))
        side_um = tiling.attrs["tile_size_um"]
        ax.set_title(f"{slide_id}\n{side_um:.0f} µm tiles, n = {len(tiling.coords)}", fontsize=9)
        ax.tick_params(labelsize=7)
    for ax in axes.flat[len(overviews) :]:
        ax.remove()
    return figure


def site_bars(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Draw slides by site, stacked by split."""
    left = np.zeros(len(counts))
    for colour, split in zip(CYCLE * 2, counts.columns, strict=False):
        ax.barh(counts.index, counts[split], left=left, color=colour, label=split)
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
