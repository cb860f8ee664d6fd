"""Thumbnails of slides with the tiles that were placed on them: what the eye needs to check a tiling."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from slidesieve.cohort.manifest import Manifest, path_of
from slidesieve.slides.pixels import thumbnail
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import LOOK, Tiling, read_tiling

LONG_SIDE_PX = 800


class Overview(NamedTuple):
    """A slide at a glance."""

    slide_id: str
    rgb: UInt8[np.ndarray, "h w 3"]
    width_px0: float
    tiling: Tiling


def read_overviews(
    manifest: Manifest, tiles_dir: Path, slide_ids: Iterable[str], *, long_side_px: int = LONG_SIDE_PX
) -> list[Overview]:
    """Read the thumbnails (about `long_side_px`) and tilings of some slides."""
    overviews = []
    for slide_id in slide_ids:
        tiling = read_tiling(tiles_dir / f"{slide_id}.h5")
        with open_slide(path_of(manifest, slide_id, "slide_path"), tiling.attrs["mpp_level0"]) as slide:
            small = thumbnail(slide, max(slide.size_px0) / long_side_px)
        overviews.append(Overview(slide_id, small.rgb, small.rgb.shape[1] * small.scale, tiling))
    return overviews


def spread(slide_ids: Iterable[str], n: int) -> list[str]:
    """Pick at most n slides, evenly spaced along the list, first and last included."""
    ids = list(slide_ids)
    return [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(n, len(ids))).astype(int))]


def flagged(rows: pd.DataFrame) -> dict[str, str]:
    """Slides that the mask found odd, and what it found, of a ledger's rows."""
    odd = rows[rows["message"].str.contains(LOOK, regex=False)]
    return {i: message.partition(LOOK)[2] for i, message in zip(odd["slide_id"], odd["message"], strict=True)}
