"""Stage 10 on one slide: its tiles are placed, unless a file with the present stamp is there.

A slide's stamp is a hash of what decides its file and nothing else (parameters, code, which slide it is), so an
enlarged cohort or an interrupted run redoes only what it must. A slide that fails has its older file set aside; one
that is not there any more keeps a file that is up to date but for that. `code` maps definitions
(`slidesieve.room.module.name`) to their hashes, as a stage's recipe does.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from slidesieve.cohort.manifest import cached_manifest, path_of, row_of
from slidesieve.cohort.slide_files import (
    SUM,
    kept,
    kept_unchecked,
    no_stale,
    provenance,
    slide_stamp,
    spare_foreign,
)
from slidesieve.cohort.slide_loop import Counts, SkipSlide
from slidesieve.provenance.files import hash_file
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.provenance.slide_identity import companions, slide_identity
from slidesieve.slides.slide import SlideFault, open_slide
from slidesieve.slides.tiling import TileSpec, tile_slide, write_tiling

TILE_CODE = (
    "slidesieve.slides.pixels",
    "slidesieve.slides.slide",
    "slidesieve.slides.stored_tiles",
    "slidesieve.slides.jobs",
    "slidesieve.slides.tiling",
    "slidesieve.slides.tissue",
)


class WrongSlide(SlideFault):
    """The file is not the one whose sum the manifest states."""


class TilesLost(SlideFault):
    """More of the slide cannot be read than is tolerated."""


def tile_one(
    slide_id: str,
    *,
    manifest_path: Path,
    spec: TileSpec,
    max_lost_share: float,
    out_dir: Path,
    code: dict[str, str],
    others: Sequence[Path] = (),
) -> Counts:
    """Place the tiles of a slide: write out_dir/<slide_id>.h5, or take it from `others`, folders of the same stage.

    Raises TilesLost if more than `max_lost_share` of the grid's tiles cannot be read, WrongSlide for another slide than
    the manifest's sum says, other SlideFaults, and OSError for a slide that cannot be had.
    """
    manifest, file = cached_manifest(manifest_path), out_dir / f"{slide_id}.h5"
    row = row_of(manifest, slide_id)
    mpp = None if np.isnan(row["mpp"]) else float(row["mpp"])

    def stamp_of(identity: str) -> str:
        return slide_stamp(code, TILE_CODE, spec=asdict(spec), mpp=mpp, slide=identity)

    with no_stale(file) as seen:
        if not row["slide_path"]:
            raise SkipSlide("has no slide_path; its features are given")
        path = path_of(manifest, slide_id, "slide_path")
        try:
            identities = identify(path, row["sha256"])
            seen.extend(identities)
            done = next(filter(None, (kept(file, stamp_of(identity), others) for identity in identities)), None)
        except OSError:
            if not (done := kept_unchecked(file, stamp_of, stated_sha256=row["sha256"], others=others)):
                raise
        if done:
            check_lost(path.name, read_attrs(file)["lost_share"], max_lost_share)
            return done
        with open_slide(path, mpp) as slide:
            tiling = tile_slide(slide, spec)
        check_lost(path.name, tiling.attrs["lost_share"], max_lost_share)
        spare_foreign(file)
        write_tiling(file, tiling, provenance(slide_id, stamp_of(identities[0])) | {"slide_identity": identities[0]})
    return Counts(len(tiling.coords), tiling.n_dropped, note=tiling.attrs["note"])


def identify(path: Path, sha256: str) -> tuple[str, ...]:
    """Say which slide a file is, as its own file records it; where a sum is stated, by it and by the sample alike.

    Raises FileNotFoundError, WrongSlide.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such slide file; correct slide_path, or set DATA_ROOT")
    sampled = slide_identity(path)
    if not sha256:
        return (sampled,)
    found = hash_file(path)
    if found != sha256:
        raise WrongSlide(
            f"{path.name}: the manifest says sha256 {sha256[:12]}..., the file's is {found[:12]}...; "
            "fetch the slide again, or correct its sum in the manifest"
        )
    beside = companions(path)
    summed = SUM + sha256 + (f"+{hashlib.sha256(json.dumps(beside).encode()).hexdigest()[:16]}" if beside else "")
    return (summed, sampled)


def check_lost(name: str, share: float, max_lost_share: float) -> None:
    """Raise TilesLost if the share of a slide's tiles that cannot be read is too large."""
    if share > max_lost_share:
        raise TilesLost(
            f"{name}: {share:.0%} of its tiles cannot be read, at most {max_lost_share:.0%} may be (max_lost_share); "
            "fetch the slide again, or raise max_lost_share"
        )
