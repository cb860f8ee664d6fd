"""Where the tiles of a slide lie: a grid at a requested mpp, the tissue on it, and the tile file.

    tile side  tile_px * scale       level-0 px, scale = mpp / slide_mpp
    grid       x_i = i * step, step = (tile_px - overlap_px) * scale, whole tiles only
    kept       share of tissue in the tile >= min_tissue

The tile file `<slide_id>.h5` holds `coords (n 2)` with TRIDENT's attributes, so its readers read ours.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from slidesieve.cohort.slide_files import written_hdf5
from slidesieve.provenance.hdf5 import TRIDENT_ATTRS, WHOLE, attributes, dataset, open_hdf5, read
from slidesieve.slides.pixels import Thumbnail, thumbnail
from slidesieve.slides.slide import Slide, SlideFault, View, view_at
from slidesieve.slides.tissue import DARK, find_tissue

PALE = 60  # of 255: what has more in every channel lets light through: glass and stained tissue do, nothing that glows
LEAST_LIT = 0.002  # share of a slide that is not black, if there is anything on it
MASK_PX_PER_TILE = 8
LOOK = "look at the slide: "  # what is said of a flagged one begins so


class SlideTooSmall(SlideFault):
    """The slide holds not one whole tile."""


class NoTissue(SlideFault):
    """No tile has enough tissue."""


class NotBrightfield(SlideFault):
    """Black, and what is not does not let light through: a fluorescence scan, or one that is not of 8 bits."""


@dataclass(frozen=True)
class TileSpec:
    """What tiles to cut. `mpp` is in micrometres per tile pixel, `min_tissue` a share from 0 (keep all) to 1."""

    tile_px: int
    mpp: float
    overlap_px: int
    min_tissue: float

    def __post_init__(self):
        faults = [
            *([f"tile_px {self.tile_px}: expected at least 1"] if self.tile_px < 1 else []),
            *([f"mpp {self.mpp}: expected more than 0 um a pixel"] if not self.mpp > 0 else []),
            *([f"overlap_px {self.overlap_px}: expected 0 to tile_px - 1"] * (not 0 <= self.overlap_px < self.tile_px)),
            *([f"min_tissue {self.min_tissue}: expected 0 to 1"] if not 0 <= self.min_tissue <= 1 else []),
        ]
        if faults:
            raise ValueError("TileSpec: " + "; ".join(faults))


class Tiling(NamedTuple):
    """The tiles of one slide in raster order; `n_dropped` more could not be seen and were left out."""

    coords: Int[np.ndarray, "n 2"]
    tissue: Float[np.ndarray, " n"]
    n_dropped: int
    view: View
    attrs: dict


def tile_slide(slide: Slide, spec: TileSpec) -> Tiling:
    """Place the tiles of an open slide. Raises a SlideFault that says why there are none."""
    view = view_at(slide, spec.mpp)
    small = thumbnail(slide, spec.tile_px * view.scale / MASK_PX_PER_TILE)
    _check_brightfield(slide, small)
    coords = grid(slide, spec, view)
    if not len(coords):
        raise SlideTooSmall(
            f"{slide.path.name}: {slide.size_px0[0]} x {slide.size_px0[1]} px, smaller than one tile of "
            f"{spec.tile_px * view.scale:.0f} px; lower tile_px or mpp, or leave this slide out"
        )
    side_px0 = spec.tile_px * view.scale
    found = find_tissue(small.rgb, small.known)
    tissue = coverage(found.mask, coords, side_px0, small.scale)
    seen = coverage(small.known, coords, side_px0, small.scale) > 0
    keep = (tissue >= spec.min_tissue) & seen
    if not keep.any():
        raise NoTissue(
            f"{slide.path.name}: of {len(coords)} tiles none has {spec.min_tissue:.0%} tissue (the best has "
            f"{tissue.max():.0%}); look at the slide, or lower min_tissue"
        )
    lost_share = float((coverage(small.lost, coords, side_px0, small.scale) == 1).mean())
    flags = found.flags if spec.min_tissue else ()  # a mask that is not asked is not to be looked at
    told = [*([slide.note] if slide.note else []), *([LOOK + ", ".join(flags)] if flags else [])]
    attrs = _attrs(slide, spec, view) | {"lost_share": lost_share, "note": "; ".join(told)}
    return Tiling(coords[keep], tissue[keep].astype(np.float32), int((~seen).sum()), view, attrs)


def grid(slide: Slide, spec: TileSpec, view: View) -> Int[np.ndarray, "n 2"]:
    """List the corners of all whole tiles of a slide, row by row."""
    down = slide.downsamples[view.level]
    side, step = spec.tile_px * view.factor, (spec.tile_px - spec.overlap_px) * view.factor
    x, y = (_starts(size, side, step) for size in slide.level_sizes[view.level])
    corner = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return np.rint(corner * down).astype(np.int64)


def coverage(
    mask: Bool[np.ndarray, "h w"], coords: Int[np.ndarray, "n 2"], side_px0: float, scale: float
) -> Float[np.ndarray, " n"]:
    """Return the share of each tile that `mask` covers, a mask pixel being `scale` level-0 pixels wide."""
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    low = np.minimum(np.floor(coords / scale).astype(int), [width - 1, height - 1])
    high = np.clip(np.ceil((coords + side_px0) / scale - 1e-6).astype(int), low + 1, [width, height])
    (x0, y0), (x1, y1) = low.T, high.T
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return inside / ((x1 - x0) * (y1 - y0))


def write_tiling(path: Path, tiling: Tiling, attrs: dict) -> None:
    """Write a tile file, whole or not at all; `attrs` (provenance) join the file's own."""
    with written_hdf5(path) as file:
        coords = file.create_dataset("coords", data=tiling.coords)
        coords.attrs.update({k: v for k, v in tiling.attrs.items() if k in TRIDENT_ATTRS})
        file.create_dataset("tissue_fraction", data=tiling.tissue)
        own = {k: v for k, v in tiling.attrs.items() if k not in TRIDENT_ATTRS}
        file.attrs.update(own | {f"view_{k}": v for k, v in tiling.view._asdict().items()} | attrs)
        file.attrs.update({"n_tiles": len(tiling.coords), "n_dropped": tiling.n_dropped})


def read_tiling(path: Path) -> Tiling:
    """Read a tile file written by `write_tiling`. Raises ValueError naming the file if it is anything else."""
    with open_hdf5(path) as file:
        coords, tissue = dataset(file, "coords", kinds=WHOLE), dataset(file, "tissue_fraction")
        attrs = attributes(coords) | attributes(file)
        known = [f"view_{field}" for field in View._fields] + ["n_dropped"]
        if absent := [name for name in known if not isinstance(attrs.get(name), int | float)]:
            raise ValueError(
                f"{path}: no number in {', '.join(absent)}; expected a tile file; run 10_tile_slides again"
            )
        if tissue.ndim != 1 or coords.shape != (len(tissue), 2):
            raise ValueError(
                f"{path}: coords {coords.shape}, tissue_fraction {tissue.shape}; expected (n, 2) and (n,); "
                "run 10_tile_slides again"
            )
        view = View(*(attrs.pop(name) for name in known[:-1]))
        tiling = Tiling(read(coords), read(tissue), int(attrs["n_dropped"]), view, attrs)
    if (tiling.coords < 0).any() or not np.isfinite(tiling.tissue).all():
        raise ValueError(f"{path}: negative coords, or tissue that is no number; run 10_tile_slides again")
    return tiling


def _attrs(slide: Slide, spec: TileSpec, view: View) -> dict:
    mpp = slide.mpp * view.scale
    return {
        "patch_size": spec.tile_px,
        "patch_size_level0": round(spec.tile_px * view.scale),
        "overlap": spec.overlap_px,
        "level0_magnification": round(10 / slide.mpp, 2),
        "target_magnification": round(10 / mpp, 2),
        "level0_width": slide.size_px0[0],
        "level0_height": slide.size_px0[1],
        "name": slide.path.stem,
        "mpp_requested": spec.mpp,
        "mpp": mpp,
        "mpp_level0": slide.mpp,
        "mpp_source": slide.mpp_source,
        "min_tissue": spec.min_tissue,
        "tile_size_um": spec.tile_px * mpp,
    }


def _starts(size: int, side: float, step: float) -> Float[np.ndarray, " n"]:
    return np.arange(max(0, int((size - side) / step + 1e-9) + 1) if size >= side else 0) * step


def _check_brightfield(slide: Slide, small: Thumbnail) -> None:
    """Judge what is not black: filler is, and so is what lies about fluorescence."""
    rgb = small.rgb[small.known]
    lit = rgb[rgb.max(-1) > DARK]
    dark = 1 - len(lit) / len(rgb)
    if len(lit) < LEAST_LIT * len(rgb):
        raise NotBrightfield(
            f"{slide.path.name}: {dark:.0%} of it is black, its brightest pixel has {rgb.max()} of 255: more than 8 "
            "bits a channel, stretched by nobody, or an empty scan; convert it to 8 bits, or take its row out"
        )
    pale = float((lit.min(-1) > PALE).mean())
    if dark > 0.5 and pale < 0.1:
        raise NotBrightfield(
            f"{slide.path.name}: {dark:.0%} of it is black, and of the rest {pale:.0%} is light in all three channels: "
            "fluorescence, not H&E; take its row out of this manifest"
        )
