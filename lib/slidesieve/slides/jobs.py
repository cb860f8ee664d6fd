"""Stage 10 on one slide: its tiles are placed, unless a file with the present stamp is there.

A slide's stamp is a hash of what decides its file and nothing else (parameters, code, the slide's own bytes), so an
enlarged cohort or an interrupted run redoes only what it must. A slide that fails leaves no older file behind.
`code` maps definitions (`slidesieve.room.module.name`) to their hashes, as a stage's recipe does.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from slidesieve.cohort.manifest import cached_manifest, path_of, row_of
from slidesieve.cohort.slide_files import head_hash, kept, no_stale, provenance, slide_stamp
from slidesieve.cohort.slide_loop import Counts, SkipSlide
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, tile_slide, write_tiling

TILE_CODE = (
    "slidesieve.slides.pixels",
    "slidesieve.slides.slide",
    "slidesieve.slides.jobs",
    "slidesieve.slides.tiling",
)


def tile_one(slide_id: str, *, manifest_path: Path, spec: TileSpec, out_dir: Path, code: dict[str, str]) -> Counts:
    """Place the tiles of a slide: write out_dir/<slide_id>.h5."""
    manifest, file = cached_manifest(manifest_path), out_dir / f"{slide_id}.h5"
    row = row_of(manifest, slide_id)
    with no_stale(file):
        if not row["slide_path"]:
            raise SkipSlide("has no slide_path; its features are given")
        path = path_of(manifest, slide_id, "slide_path")
        head = head_hash(path)
        mpp = None if np.isnan(row["mpp"]) else float(row["mpp"])
        stamp = slide_stamp(code, TILE_CODE, spec=asdict(spec), mpp=mpp, slide=head)
        if done := kept(file, stamp):
            return done
        with open_slide(path, mpp) as slide:
            tiling = tile_slide(slide, spec)
        write_tiling(file, tiling, provenance(slide_id, stamp) | {"slide_sha256_head": head})
    return Counts(len(tiling.coords), tiling.n_dropped)
