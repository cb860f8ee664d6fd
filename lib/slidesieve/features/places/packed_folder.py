"""A packed folder: packed stores side by side, its parts, read as one. The last part that has a slide counts.

A part is `part_<run>_<token>.h5`; it is written whole, under a name that no other ever has, and never changed. A slide
that has no tiles in it is withdrawn. `index.h5` says what the parts hold: it saves opening them and is nothing else.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Int

from slidesieve.cohort.slide_files import spare_foreign, written_hdf5
from slidesieve.features.bag import Bag
from slidesieve.features.file_bags import Thin
from slidesieve.features.store import PackedStore
from slidesieve.provenance.hdf5 import WHOLE, WORDS, Hdf5Fault, attributes, dataset, open_hdf5, read

PART = re.compile(r"part_(\d{6,})_[0-9a-f]{8}\.h5")
PART_SCHEMA, INDEX_SCHEMA, INDEX = "slidesieve.part", "slidesieve.part_index", "index.h5"
MOST_OPEN = 256  # parts in a process; a system allows 1,024 files


class Part(NamedTuple):
    """What a part holds: its bytes, the recipe it was packed by, the features' width; a source and a length a slide."""

    size: int
    recipe: str
    width: int
    slide_ids: list[str]
    sources: list[str]
    n: Int[np.ndarray, " s"]


class Row(NamedTuple):
    """Where a slide's tiles are, how many (0: withdrawn), and what they were made of."""

    part: str
    n: int
    source: str
    recipe: str


def is_packed_folder(path: Path) -> bool:
    """Say whether a folder holds parts, by their names."""
    return path.is_dir() and any(PART.fullmatch(file.name) for file in path.iterdir())


def run_of(part: str) -> int:
    """The number in a part's name: of two that have a slide the one of the later run counts."""
    return int(PART.fullmatch(part)[1])


def look_through(folder: Path) -> tuple[dict[str, Part], dict[str, str]]:
    """What a folder's parts hold, in the order in which they count; and the faults of those that cannot be read.

    A file with a part's name that another program wrote is none, and is left out.
    """
    names = sorted((file.name for file in folder.iterdir() if PART.fullmatch(file.name)), key=lambda n: (run_of(n), n))
    known, parts, faults = _indexed(folder / INDEX), {}, {}
    for name in names:
        path = folder / name
        part = known.get(name)
        try:
            part = part if part and part.size == path.stat().st_size else _read_part(path)
        except (OSError, ValueError) as fault:
            faults[name] = str(fault)
            continue
        if part:
            parts[name] = part
    return parts, faults


def rows_of(parts: Mapping[str, Part]) -> dict[str, Row]:
    """The row of each slide that counts, those withdrawn included."""
    rows = {}
    for name, part in parts.items():
        for slide_id, n, source in zip(part.slide_ids, part.n.tolist(), part.sources, strict=True):
            rows[slide_id] = Row(name, n, source, part.recipe)
    return rows


def superseded(parts: Mapping[str, Part]) -> list[str]:
    """The parts that hold tiles of which none counts; nobody would miss them."""
    used = {row.part for row in rows_of(parts).values()}
    return [name for name, part in parts.items() if part.n.any() and name not in used]


def write_index(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write what the parts hold where readers look first, whole or not at all."""
    spare_foreign(folder / INDEX)
    heads = list(parts.values())
    lengths = [np.zeros(0, np.int64), *(part.n for part in heads)]
    with written_hdf5(folder / INDEX) as file:
        file.attrs.update({"schema": INDEX_SCHEMA, "recipe_hash": INDEX_SCHEMA})
        file["part"], file["recipe"] = _words(parts), _words(part.recipe for part in heads)
        file["head"] = np.array([(part.size, part.width, len(part.n)) for part in heads], np.int64).reshape(-1, 3)
        file["slide_id"] = _words(slide_id for part in heads for slide_id in part.slide_ids)
        file["source"] = _words(source for part in heads for source in part.sources)
        file["n"] = np.concatenate(lengths)


class PackedFolder:
    """A packed folder read as one store, slides by their ids; a part is opened at a process's first bag of it.

    Raises ValueError naming a part that cannot be read.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        parts, faults = look_through(self.path)
        for name, fault in faults.items():
            raise ValueError(
                f"{self.path}: {len(faults)} of {len(parts) + len(faults)} parts cannot be read, the first is {name} "
                f"({fault}); run 21_pack_features again: it sets them aside and packs their slides anew"
            )
        self.rows = {slide_id: row for slide_id, row in sorted(rows_of(parts).items()) if row.n}
        self.slide_ids = list(self.rows)
        self.width = next((parts[row.part].width for row in self.rows.values()), None)

    def read(self, slide_id: str, thin: Thin | None = None) -> Bag:
        """Read one bag; `thin` leaves tiles out. Raises ValueError if the folder has no such slide."""
        return _opened(self.path / self.row(slide_id).part).read(slide_id, thin)

    def n_tiles(self, slide_id: str) -> int:
        """Return how many tiles a slide has, from the index."""
        return self.row(slide_id).n

    def row(self, slide_id: str) -> Row:
        """Return where a slide's tiles are."""
        if slide_id not in self.rows:
            raise ValueError(f"{slide_id}: not among the {len(self.rows)} slides of {self.path}; correct feature_path")
        return self.rows[slide_id]


Store = PackedStore | PackedFolder


def open_store(path: Path) -> Store:
    """Open a packed store: one file, or a packed folder."""
    return packed_folder(path) if is_packed_folder(path) else PackedStore(path)


def packed_folder(path: Path) -> PackedFolder:
    """Open a packed folder, or give the one that this process has opened if no file of it came or went since."""
    return _folder(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _folder(path: Path, _mtime_ns: int) -> PackedFolder:
    return PackedFolder(path)


@lru_cache(maxsize=MOST_OPEN)
def _opened(part: Path) -> PackedStore:
    return PackedStore(part)


def _read_part(path: Path) -> Part | None:
    with open_hdf5(path) as file:
        attrs = attributes(file)
        if attrs.get("schema") != PART_SCHEMA:
            return None
        sources = _texts(file, "source")
        width = dataset(file, "features").shape[1]
    store = PackedStore(path)
    n = np.array([store.n_tiles(slide_id) for slide_id in store.slide_ids], np.int64)
    return Part(path.stat().st_size, str(attrs["recipe_hash"]), width, store.slide_ids, sources, n)


def _indexed(path: Path) -> dict[str, Part]:
    """The parts that the index knows; none if it is not there, damaged or not ours."""
    if not path.is_file():
        return {}
    try:
        with open_hdf5(path) as file:
            if attributes(file).get("schema") != INDEX_SCHEMA:
                return {}
            names, recipes, slides, sources = (_texts(file, n) for n in ("part", "recipe", "slide_id", "source"))
            heads, n = (read(dataset(file, name, kinds=WHOLE)) for name in ("head", "n"))
    except Hdf5Fault:
        return {}
    ends = np.cumsum(heads[:, 2]).tolist()
    parts = zip(names, recipes, heads.tolist(), ends, strict=True)
    return {
        name: Part(size, recipe, width, slides[end - m : end], sources[end - m : end], n[end - m : end])
        for name, recipe, (size, width, m), end in parts
    }


def _texts(file: h5py.File, name: str) -> list[str]:
    return [text.decode() for text in read(dataset(file, name, kinds=WORDS)).tolist()]


def _words(texts) -> np.ndarray:
    """As bytes of one length, which are read a hundred times as fast as texts of any."""
    return np.array([text.encode() for text in texts], "S") if (texts := list(texts)) else np.zeros(0, "S1")
