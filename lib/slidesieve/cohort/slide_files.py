"""A slide's file on disk: kept if it bears the present stamp, set aside if it is stale, never deleted.

A file that a failure leaves stale becomes `<name>.stale`, which nobody reads, or `<name>.replaced` if another slide has
been seen since; once its stamp is the present one again it is taken back. `slide_identity`, among its attributes, says
which slide it was made of.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import h5py

from slidesieve import __version__
from slidesieve.cohort.slide_loop import UNCHECKED, Counts
from slidesieve.provenance.code_reach import by_meaning
from slidesieve.provenance.files import written_whole
from slidesieve.provenance.hdf5 import read_attrs

STALE, REPLACED = ".stale", ".replaced"
MOST_STALE = 5  # of one slide and kind that are looked at; there are more only if as many reruns have failed
SUM = "sha256:"  # how the identity of a slide begins whose sum was checked


def slide_stamp(code: dict[str, str], modules: tuple[str, ...], **parts: object) -> str:
    """Hash the code that stands in `modules` and whatever else decides a slide's file."""
    own = {name: sha for name, sha in code.items() if f"{name}.".startswith(tuple(f"{m}." for m in modules))}
    if not own:
        raise ValueError(f"code: nothing of {', '.join(modules)}; expected what a stage's recipe holds")
    parts["code"] = by_meaning(own)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def kept(file: Path, stamp: str, others: Sequence[Path] = ()) -> Counts | None:
    """Return the counts of a file that was written under `stamp`, else None.

    One set aside is taken back, and one of that name in `others`, folders of the same stage, is taken too; it stays
    there, of one body with ours where the file system can do that.
    """
    for found in (file, *_aside(file, STALE), *_aside(file, REPLACED)):
        attrs = _own_attrs(found)
        if attrs.get("recipe_hash") == stamp:
            if found != file:
                set_aside(file)
                found.rename(file)
            return _counts(attrs)
    for found in (folder / file.name for folder in others):
        attrs = _own_attrs(found)
        if attrs.get("recipe_hash") == stamp:
            set_aside(file)
            share_file(found, file)
            return _counts(attrs)
    return None


def share_file(found: Path, file: Path) -> None:
    """Give `found` a second name, `file`, or copy it there: no file of ours is ever written in place."""
    try:
        os.link(found, file)
    except OSError:  # another file system, or one without links
        with written_whole(file) as aside:
            shutil.copyfile(found, aside)


def kept_unchecked(
    file: Path, stamp_of: Callable[[str], str], *, stated_sha256: str, others: Sequence[Path] = ()
) -> Counts | None:
    """Return the counts of a file that is up to date if its slide is still the one that the file says; else None.

    `stamp_of` gives the present stamp for an identity of the slide. One with another sum than the stated is not meant.
    Of `others` as in `kept`.
    """
    for found in (file, *_aside(file, STALE), *(folder / file.name for folder in others)):
        slide = _own_attrs(found).get("slide_identity", "")
        other = stated_sha256 and slide.startswith(SUM) and not slide.startswith(SUM + stated_sha256)
        if slide and not other and (done := kept(file, stamp_of(slide), others)):
            return done._replace(note=UNCHECKED)
    return None


def provenance(slide_id: str, stamp: str) -> dict[str, str]:
    """Return the attributes that every slide's file carries."""
    return {"slide_id": slide_id, "recipe_hash": stamp, "created_by": f"slidesieve {__version__}"}


@contextmanager
def no_stale(file: Path) -> Iterator[list[str]]:
    """Set `file` aside if the block raises: it bears another stamp then. One that bears none is not ours and stays.

    The block may add to the list given which slide it has seen, so that the files of another are not taken back unseen.
    """
    seen: list[str] = []
    try:
        yield seen
    except Exception:
        if _own_attrs(file):
            set_aside(file)
        raise
    finally:
        for stale in _aside(file, STALE) if seen else []:
            if _own_attrs(stale).get("slide_identity", seen[0]) not in seen:
                stale.rename(_free(file, REPLACED))


def spare_foreign(file: Path) -> None:
    """Set aside what stands in the place of a file to be written and is not ours."""
    if not _own_attrs(file):
        set_aside(file)


@contextmanager
def written_hdf5(file: Path) -> Iterator[h5py.File]:
    """Give an HDF5 file in memory; at the end its bytes are written, whole or not at all.

    HDF5 itself crashes where a disk is full.
    """
    with h5py.File.in_memory() as h5:
        yield h5
        h5.flush()
        image = h5.id.get_file_image()
    with written_whole(file) as aside:
        aside.write_bytes(image)


def _counts(attrs: dict) -> Counts:
    return Counts(attrs["n_tiles"], attrs["n_dropped"], kept=True, note=attrs.get("note", ""))


def set_aside(file: Path) -> None:
    """Take a file out of its place, under a name that nobody reads."""
    if file.exists():
        file.rename(_free(file, STALE))


def _aside(file: Path, ending: str) -> list[Path]:
    return [name for n in range(MOST_STALE) if (name := _name(file, ending, n)).exists()]


def _free(file: Path, ending: str) -> Path:
    return next(name for n in count() if not (name := _name(file, ending, n)).exists())


def _name(file: Path, ending: str, n: int) -> Path:
    return file.with_name(f"{file.name}{ending}{n or ''}")


def _own_attrs(file: Path) -> dict:
    """Read the attributes of a file that we wrote; of any other, or none, there are none."""
    try:
        attrs = read_attrs(file) if file.is_file() and h5py.is_hdf5(file) else {}
    except (OSError, ValueError):
        return {}
    return attrs if "recipe_hash" in attrs else {}
