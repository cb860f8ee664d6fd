"""Stage 10 on one slide, and what it shares with stage 20: a file is kept if its recipe is the present one.

A slide's recipe is a hash of what decides its file and nothing else (parameters, code, the slide's own bytes), so an
enlarged cohort or an interrupted run redoes only what it must. A slide that fails leaves no older file behind.
`code` maps definitions (`lib.module.name`) to their hashes, as a stage's recipe does.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from lib import __version__
from lib.code_reach import by_meaning
from lib.features import read_attrs
from lib.manifest import Manifest, path_of, read_manifest, row_of
from lib.slide_loop import Counts, SkipSlide
from lib.slides import open_slide
from lib.tiling import TileSpec, tile_slide, write_tiling

TILE_CODE = ("lib.slide_pixels", "lib.slides", "lib.tile_jobs", "lib.tiling")
HEAD_BYTES = 1 << 20


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
        recipe = slide_recipe(code, TILE_CODE, spec=asdict(spec), mpp=mpp, slide=head)
        if done := kept(file, recipe):
            return done
        with open_slide(path, mpp) as slide:
            tiling = tile_slide(slide, spec)
        write_tiling(file, tiling, provenance(slide_id, recipe) | {"slide_sha256_head": head})
    return Counts(len(tiling.coords), tiling.n_dropped)


def head_hash(path: Path) -> str:
    """Hash the size and the first MiB of a slide file: which file this is, at no cost that grows with the slide."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such slide file; correct slide_path, or set DATA_ROOT")
    with path.open("rb") as file:
        return hashlib.sha256(b"%d " % path.stat().st_size + file.read(HEAD_BYTES)).hexdigest()


def slide_recipe(code: dict[str, str], modules: tuple[str, ...], **parts: object) -> str:
    """Hash the code that stands in `modules` and whatever else decides a slide's file."""
    own = {name: sha for name, sha in code.items() if f"{name}.".startswith(tuple(f"{m}." for m in modules))}
    if not own:
        raise ValueError(f"code: nothing of {', '.join(modules)}; expected what a stage's recipe holds")
    parts["code"] = by_meaning(own)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def kept(file: Path, recipe: str) -> Counts | None:
    """Return the counts of a file that was written under `recipe`, else None."""
    if not file.exists() or not h5py.is_hdf5(file):
        return None
    attrs = read_attrs(file)
    return Counts(attrs["n_tiles"], attrs["n_dropped"], kept=True) if attrs.get("recipe_hash") == recipe else None


def provenance(slide_id: str, recipe: str) -> dict[str, str]:
    """Return the attributes that every slide's file carries."""
    return {"slide_id": slide_id, "recipe_hash": recipe, "created_by": f"slidesieve {__version__}"}


@contextmanager
def no_stale(file: Path) -> Iterator[None]:
    """Remove `file` if the block raises: what lies there then is of another recipe."""
    try:
        yield
    except Exception:
        file.unlink(missing_ok=True)
        raise


def cached_manifest(path: Path) -> Manifest:
    """Read a manifest once a process, and again if it changes."""
    return _manifest_of(path, path.stat().st_mtime_ns)


@cache
def _manifest_of(path: Path, mtime_ns: int) -> Manifest:
    return read_manifest(path)
