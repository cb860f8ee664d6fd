"""Kept tiles as QuPath reads them: GeoJSON, one file a slide, a detection a tile with its score and rank.

In QuPath: drag the file onto the slide, or File > Import objects. Polygons are in level-0 pixels of the whole file; of
a slide with bounds (MRXS) QuPath shows the scanned part alone unless its cropping is turned off.
"""

import json
import uuid
from pathlib import Path

import numpy as np

from slidesieve.exports.kept import Kept, kept_tiles
from slidesieve.exports.runs import Run
from slidesieve.exports.whole_folder import whole_folder

KIND = "qupath"
COLOUR = [123, 63, 160]  # purple, as methods are in the report


def publish(run: Run, out: Path, *, command: str, include_lm: bool = False) -> list[str]:
    """Write OUT/<slide_id>.geojson for every slide; say what was written."""
    n_slides = n_tiles = 0
    with whole_folder(out, KIND) as aside:
        for kept in kept_tiles(run):
            text = json.dumps(collection(kept, run), indent=1, allow_nan=False)
            (aside / f"{kept.slide_id}.geojson").write_text(text, encoding="utf-8")
            n_slides, n_tiles = n_slides + 1, n_tiles + len(kept.coords)
    return [f"{n_tiles:,} tiles of {n_slides:,} slides"]


def collection(kept: Kept, run: Run) -> dict:
    """A slide's FeatureCollection."""
    tiles = zip(kept.ranks.tolist(), kept.coords.tolist(), kept.scores.tolist(), strict=True)
    return {"type": "FeatureCollection", "features": [_feature(kept, run, *tile) for tile in tiles]}


def _feature(kept: Kept, run: Run, rank: int, corner: list[int], score: float) -> dict:
    named = f"{run.method} k{run.k} seed {run.seed}"
    measured = {"rank": rank} | ({"score": score} if np.isfinite(score) else {})
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run.digest}/{kept.slide_id}/{rank}")),
        "geometry": {"type": "Polygon", "coordinates": [square(*corner, kept.side_px0)]},
        "properties": {
            "objectType": "detection",
            "name": f"{named}, rank {rank}",
            "classification": {"name": named, "color": COLOUR},
            "measurements": measured,
        },
    }


def square(x: int, y: int, side: int) -> list[list[int]]:
    """A tile's closed ring in px0, counter-clockwise with y up, as GeoJSON has it: the pixels x to x + side."""
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
