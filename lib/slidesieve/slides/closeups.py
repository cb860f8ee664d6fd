"""One slide as stage 10 sees it: the mask, the whole grid with each tile's share of tissue, and some of the tiles."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from slidesieve.cohort.manifest import Manifest, path_of, with_slide_file
from slidesieve.slides.overviews import spread
from slidesieve.slides.pixels import iter_tiles, thumbnail
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import MASK_PX_PER_TILE, TileSpec, Tiling, coverage, grid, read_tiling
from slidesieve.slides.tissue import find_tissue


class Closeup(NamedTuple):
    """A slide's picture and mask, and its grid: a row a tile with x_px0, y_px0, tissue, kept and, if shown, `rank`.

    `tiles` holds the pixels of those shown, by their row of the grid.
    """

    slide_id: str
    rgb: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    width_px0: float
    side_px0: float
    mpp: float
    grid: pd.DataFrame
    tiles: dict[int, UInt8[np.ndarray, "t t 3"]]


def look_closely(manifest: Manifest, tiles_dir: Path, slide_id: str, *, each: int) -> Closeup:
    """Look again at a slide that was tiled, and at up to `each` of the tiles kept and of those left out.

    These are evenly spaced along their share of tissue, least first: those kept begin, and those left out end, near
    the threshold.
    """
    tiling = read_tiling(tiles_dir / f"{slide_id}.h5")
    spec, view = spec_of(tiling), tiling.view
    with open_slide(path_of(manifest, slide_id, "slide_path"), tiling.attrs["mpp_level0"]) as slide:
        small = thumbnail(slide, spec.tile_px * view.scale / MASK_PX_PER_TILE)
        mask = find_tissue(small.rgb, small.known).mask
        coords, side_px0 = grid(slide, spec, view), spec.tile_px * view.scale
        kept = pd.MultiIndex.from_arrays(coords.T).isin(pd.MultiIndex.from_arrays(tiling.coords.T))
        share = coverage(mask, coords, side_px0, small.scale)
        table = pd.DataFrame({"x_px0": coords[:, 0], "y_px0": coords[:, 1], "tissue": share, "kept": kept})
        shown = examples(table, each)
        some = iter_tiles(slide, coords[shown], tile_px=spec.tile_px, view=view)
        tiles = {shown[i]: pixels for part in some for i, pixels in zip(part.index, part.pixels, strict=True)}
        mpp = slide.mpp
    table["rank"] = pd.Series(range(len(shown)), index=shown, dtype="Int64")
    return Closeup(slide_id, small.rgb, mask, small.rgb.shape[1] * small.scale, side_px0, mpp, table, tiles)


def examples(table: pd.DataFrame, each: int) -> list[int]:
    """Rows of up to `each` tiles kept, then of as many left out, least tissue first: shares evenly spaced, if they can.

    Where many tiles have one share, as all that are tissue throughout, others of it stand for shares that none has.
    """
    chosen = []
    for _, part in table.sort_values("tissue", kind="stable").groupby(~table["kept"]):
        share = part["tissue"].to_numpy()
        places = set(np.searchsorted(share, np.linspace(share[0], share[-1], each)).tolist())
        more = spread([place for place in range(len(part)) if place not in places], each - len(places))
        chosen += part.index[sorted(places | set(more))].tolist()
    return chosen


def spec_of(tiling: Tiling) -> TileSpec:
    """What a tile file's tiles were asked for as."""
    told = tiling.attrs
    return TileSpec(
        tile_px=int(told["patch_size"]), mpp=float(told["mpp_requested"]), overlap_px=int(told["overlap"]),
        min_tissue=float(told["min_tissue"]),
    )  # fmt: skip


def tile_pictures(manifest: Manifest, tiles_dir: Path, places: pd.DataFrame) -> dict[int, UInt8[np.ndarray, "t t 3"]]:
    """The pixels of tiles of tiled slides (rows slide_id, x_px0, y_px0) by row; what cannot be had is left out."""
    found = {}
    for slide_id in with_slide_file(manifest, places["slide_id"].unique()):
        rows, tiling = places[places["slide_id"] == slide_id], read_tiling(tiles_dir / f"{slide_id}.h5")
        side, coords = int(tiling.attrs["patch_size"]), rows[["x_px0", "y_px0"]].to_numpy()
        with open_slide(path_of(manifest, slide_id, "slide_path"), tiling.attrs["mpp_level0"]) as slide:
            for part in iter_tiles(slide, coords, tile_px=side, view=tiling.view):
                found |= {rows.index[i]: pixels for i, pixels in zip(part.index, part.pixels, strict=True)}
    return found
