"""What stage 10 will say of slides, told beforehand: from their headers, or as far as a thumbnail goes."""

import pandas as pd

from slidesieve.cohort.manifest import Manifest
from slidesieve.slides.overviews import spread
from slidesieve.slides.slide import open_slide, view_at
from slidesieve.slides.tiling import TileSpec, tile_slide


def verdicts(manifest: Manifest, spec: TileSpec, *, most: int) -> pd.DataFrame:
    """Open each slide of a manifest: slide_id, slide_path, sides in level-0 px, mpp, fault and note ("" if none).

    At most `most`, evenly spaced, are tiled on a thumbnail as stage 10 would; of the others the header is judged.
    """
    here = manifest.table[manifest.table["slide_path"] != ""]
    looked, rows = set(spread(here["slide_id"], most)) if most and len(here) else set(), []
    for slide_id, named, mpp in zip(here["slide_id"], here["slide_path"], here["mpp"], strict=True):
        try:
            with open_slide(manifest.root / named, mpp) as slide:
                view_at(slide, spec.mpp)
                note = tile_slide(slide, spec).attrs["note"] if slide_id in looked else slide.note
                rows.append((slide_id, named, *slide.size_px0, slide.mpp, "", note))
        except (OSError, ValueError) as fault:
            rows.append((slide_id, named, 0, 0, float("nan"), f"{type(fault).__name__}: {fault}", ""))
    return pd.DataFrame(rows, columns=["slide_id", "slide_path", "width_px0", "height_px0", "mpp", "fault", "note"])
