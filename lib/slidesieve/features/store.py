"""Our feature files: one file a slide, or one packed store for many short bags."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from slidesieve.cohort.slide_files import written_hdf5
from slidesieve.features.bag import Bag
from slidesieve.features.file_bags import Thin, bag_of_file, thinned
from slidesieve.provenance.hdf5 import TRIDENT_ATTRS, WHOLE, WORDS, attributes, dataset, names, open_hdf5, read

SCHEMA, SCHEMA_VERSION = "slidesieve.bag", 1


def write_features(path: Path, bag: Bag, attrs: dict) -> None:
    """Write a slide's feature file, whole or not at all; `attrs` (provenance) join the bag's own."""
    x, everything = _half(bag), bag.attrs | attrs
    with written_hdf5(path) as file:
        file.create_dataset("features", data=x)
        coords = file.create_dataset("coords", data=bag.coords)
        coords.attrs.update({k: v for k, v in everything.items() if k in TRIDENT_ATTRS})
        file.attrs.update({k: v for k, v in everything.items() if k not in TRIDENT_ATTRS})
        file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "slide_id": bag.slide_id})


def read_features(path: Path) -> Bag:
    """Read a feature file written by `write_features`; other people's are read by `readers.read_bag`."""
    with open_hdf5(path) as file:
        return features_in(file, path)


def features_in(file: h5py.File, path: Path, thin: Thin | None = None) -> Bag:
    """Read what `write_features` wrote out of its file, as `read_features` does; `thin` leaves tiles out."""
    attrs = attributes(file)
    if attrs.get("schema") != SCHEMA or not isinstance(attrs.get("slide_id"), str):
        raise ValueError(
            f"{path}: schema {attrs.get('schema')!r}, slide_id {attrs.get('slide_id')!r}; expected {SCHEMA!r} and "
            "a slide's id; use read_bag"
        )
    x, coords = dataset(file, "features"), dataset(file, "coords")
    return thinned(bag_of_file(path, attrs["slide_id"], read(x), read(coords), attributes(coords) | attrs), thin)


def write_packed(
    path: Path, bags: Iterable[Bag], *, attrs: dict | None = None, sources: Sequence[str] | None = None
) -> None:
    """Write bags of one width into a packed store, whole or not at all; the order is kept.

    `attrs` join each bag's when it is read; `sources` say what each bag was made of.
    """
    bags = list(bags)
    widths, ids = {bag.x.shape[1] for bag in bags}, [bag.slide_id for bag in bags]
    if len(widths) != 1 or len(set(ids)) != len(ids):
        raise ValueError(f"{path}: {len(bags)} bags of widths {sorted(widths)}; expected one width and distinct slides")
    with written_hdf5(path) as file:
        file.create_dataset("features", data=np.concatenate([_half(bag) for bag in bags]))
        file.create_dataset("offsets", data=np.cumsum([0, *(len(bag.x) for bag in bags)], dtype=np.int64))
        file.create_dataset("slide_id", data=ids, dtype=h5py.string_dtype())
        if all(bag.attrs.get("has_coords", True) for bag in bags):
            file.create_dataset("coords", data=np.concatenate([bag.coords for bag in bags]))
        if sources is not None:
            file.create_dataset("source", data=sources, dtype=h5py.string_dtype())
        file.attrs.update(attrs or {})


def halved(bag: Bag) -> Bag:
    """Store a bag's features as float16 already. Raises ValueError if they do not fit it."""
    return bag._replace(x=_half(bag))


class PackedStore:
    """A packed store; its index is read at once, the file is opened at a process's first bag (so it may cross them)."""

    def __init__(self, path: Path):
        self.path, self._file, self._process = Path(path), None, 0
        try:
            with open_hdf5(path) as file:
                n, self._attrs = dataset(file, "features").shape[0], attributes(file)
                self._coords = dataset(file, "coords").name if "coords" in names(file) else None
                self.slide_ids = [s.decode() for s in np.atleast_1d(read(dataset(file, "slide_id", kinds=WORDS)))]
                self._offsets = np.atleast_1d(read(dataset(file, "offsets", kinds=WHOLE))).astype(np.int64)
        except (OSError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(
                f"{path}: not a packed store ({error}); expected HDF5 with features, offsets, slide_id; write it again"
            ) from error
        steps, want = np.diff(self._offsets), len(self.slide_ids) + 1
        if self._offsets.shape != (want,) or self._offsets[0] != 0 or self._offsets[-1] != n or (steps < 0).any():
            raise ValueError(f"{path}: offsets do not cut {n} rows into {want - 1} bags; write the store again")
        self._row = {slide_id: i for i, slide_id in enumerate(self.slide_ids)}
        if len(self._row) != len(self.slide_ids):
            raise ValueError(f"{path}: {len(self.slide_ids) - len(self._row)} slide_id repeated; write the store again")

    def read(self, slide_id: str, thin: Thin | None = None) -> Bag:
        """Read one bag; `thin` leaves tiles out. Raises ValueError if the store has no such slide."""
        start, end = self._rows(slide_id)
        self._open()
        coords = read(self._file[self._coords], start, end) if self._coords else None
        x = read(self._file["features"], start, end)
        return thinned(bag_of_file(self.path, slide_id, x, coords, self._attrs), thin)

    def n_tiles(self, slide_id: str) -> int:
        """Return how many tiles a slide has, from the index."""
        start, end = self._rows(slide_id)
        return int(end - start)

    def _rows(self, slide_id: str) -> Int[np.ndarray, " 2"]:
        if slide_id not in self._row:
            raise ValueError(f"{slide_id}: not among the {len(self._row)} slides of {self.path}; correct feature_path")
        return self._offsets[self._row[slide_id] :][:2]

    def _open(self) -> None:
        if self._file and self._process != os.getpid():
            self._file.close()  # a fork shares its parent's place in the file; opening once more alone would keep that
            self._file = None
        if not self._file:
            self._file, self._process = open_hdf5(self.path), os.getpid()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None}


def _half(bag: Bag) -> Float[np.ndarray, "n d"]:
    with np.errstate(over="ignore"):
        x = bag.x.astype(np.float16)
    if not np.isfinite(x).all():
        largest = np.abs(bag.x).max()
        raise ValueError(f"{bag.slide_id}: features up to {largest:g} do not fit float16 (65504); rescale them")
    return x
