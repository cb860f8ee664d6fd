"""A slide's file on disk: kept if it bears the present stamp, and never left stale."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from slidesieve import __version__
from slidesieve.cohort.slide_loop import Counts
from slidesieve.provenance.attributes import read_attrs
from slidesieve.provenance.code_reach import by_meaning

HEAD_BYTES = 1 << 20


def head_hash(path: Path) -> str:
    """Hash the size and the first MiB of a slide file: which file this is, at no cost that grows with the slide."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such slide file; correct slide_path, or set DATA_ROOT")
    with path.open("rb") as file:
        return hashlib.sha256(b"%d " % path.stat().st_size + file.read(HEAD_BYTES)).hexdigest()


def slide_stamp(code: dict[str, str], modules: tuple[str, ...], **parts: object) -> str:
    """Hash the code that stands in `modules` and whatever else decides a slide's file."""
    own = {name: sha for name, sha in code.items() if f"{name}.".startswith(tuple(f"{m}." for m in modules))}
    if not own:
        raise ValueError(f"code: nothing of {', '.join(modules)}; expected what a stage's recipe holds")
    parts["code"] = by_meaning(own)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def kept(file: Path, stamp: str) -> Counts | None:
    """Return the counts of a file that was written under `stamp`, else None."""
    if not file.exists() or not h5py.is_hdf5(file):
        return None
    attrs = read_attrs(file)
    return Counts(attrs["n_tiles"], attrs["n_dropped"], kept=True) if attrs.get("recipe_hash") == stamp else None


def provenance(slide_id: str, stamp: str) -> dict[str, str]:
    """Return the attributes that every slide's file carries."""
    return {"slide_id": slide_id, "recipe_hash": stamp, "created_by": f"slidesieve {__version__}"}


@contextmanager
def no_stale(file: Path) -> Iterator[None]:
    """Remove `file` if the block raises: it bears another stamp then. A file that bears none is not ours and stays."""
    try:
        yield
    except Exception:
        if file.exists() and h5py.is_hdf5(file) and "recipe_hash" in read_attrs(file):
            file.unlink()
        raise
