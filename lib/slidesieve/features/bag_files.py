"""Mappings of slides to bags that hold no cohort in memory: bags are read when they are asked for."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.features.bag import Bag, linspace_cap, take
from slidesieve.features.places.packed_folder import is_packed_folder, open_store
from slidesieve.features.places.placed_files import PlacedFiles, places_of
from slidesieve.features.readers import check_exists, count_tiles, read_bag

MEMORY_BYTES = 4 << 30  # in each process


class BagFiles(Mapping[str, Bag]):
    """Bags by `read(slide)`; the latest used are kept, `memory_bytes` of arrays at most (a larger bag is not kept).

    `count(slide)` says how many tiles a slide has, or None where only reading tells. A fork takes the kept bags along
    and then goes its own way. Raises ValueError at the first bag whose features are wider or narrower than others'.
    """

    def __init__(
        self,
        slide_ids: Iterable[str],
        read: Callable[[str], Bag],
        *,
        count: Callable[[str], int | None],
        memory_bytes: int = MEMORY_BYTES,
    ):
        self._slide_ids, self._read, self._count = dict.fromkeys(slide_ids), read, count
        self.memory_bytes, self.held_bytes = memory_bytes, 0
        self._kept: OrderedDict[str, Bag] = OrderedDict()
        self._n_tiles: dict[str, int] = {}
        self._width: tuple[str, int] | None = None

    def __getitem__(self, slide_id: str) -> Bag:
        if slide_id not in self._slide_ids:
            raise KeyError(slide_id)
        if slide_id in self._kept:
            self._kept.move_to_end(slide_id)
            return self._kept[slide_id]
        bag = self._read(slide_id)
        self._check_width(slide_id, bag.x.shape[1])
        self._n_tiles[slide_id] = len(bag.x)
        self._keep(slide_id, bag)
        return bag

    def __contains__(self, slide_id: object) -> bool:
        return slide_id in self._slide_ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._slide_ids)

    def __len__(self) -> int:
        return len(self._slide_ids)

    def count(self, slide_id: str) -> int | None:
        """How many tiles a slide has, if its file's header tells."""
        return self._count(slide_id)

    def n_tiles(self, slide_id: str) -> int:
        """Return how many tiles a slide has, without reading its features where the file's header says it."""
        if slide_id not in self._n_tiles:
            n = self._count(slide_id) if slide_id in self else None
            self._n_tiles[slide_id] = len(self[slide_id].x) if n is None else n
        return self._n_tiles[slide_id]

    def n_tiles_at_once(self, slide_id: str) -> int | None:
        """Return how many tiles a slide has where the file's header says it, else None."""
        return self._n_tiles.get(slide_id) or self._count(slide_id)

    def _check_width(self, slide_id: str, d: int) -> None:
        self._width = self._width or (slide_id, d)
        first, expected = self._width
        if d != expected:
            raise ValueError(
                f"{slide_id}: features of width {d}, those of {first} are of {expected}; use one encoder for all slides"
            )

    def _keep(self, slide_id: str, bag: Bag) -> None:
        size = _bytes(bag)
        if size > self.memory_bytes:
            return
        while self.held_bytes + size > self.memory_bytes:
            self.held_bytes -= _bytes(self._kept.popitem(last=False)[1])
        self._kept[slide_id] = bag
        self.held_bytes += size


class BagView(Mapping[str, Bag]):
    """Some of other bags, under the names given: view[name] is bags[names[name]], or the `tiles[name]` of it alone.

    With `most_tiles`, evenly spaced tiles of longer ones.
    """

    def __init__(
        self,
        bags: Mapping[str, Bag],
        names: Mapping[str, str] | Iterable[str],
        *,
        tiles: Mapping[str, Int[np.ndarray, " m"]] | None = None,
        most_tiles: int = 0,
    ):
        self._bags, self._tiles, self._most = bags, tiles, most_tiles
        self._names = dict(names) if isinstance(names, Mapping) else {name: name for name in names}

    def __getitem__(self, name: str) -> Bag:
        bag = self._bags[self._names[name]]
        bag = bag if self._tiles is None else take(bag, self._tiles[name])
        return linspace_cap(bag, self._most) if self._most else bag

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def n_tiles(self, name: str) -> int:
        """Return how many tiles a bag of the view has."""
        n = n_tiles(self._bags, self._names[name]) if self._tiles is None else len(self._tiles[name])
        return min(n, self._most) if self._most else n


def n_tiles(bags: Mapping[str, Bag], slide_id: str) -> int:
    """Return how many tiles a slide has; bags that lie in files are not read for it where their header says it."""
    return bags.n_tiles(slide_id) if isinstance(bags, BagFiles | BagView) else len(bags[slide_id].x)


def load_bags(
    manifest: Manifest,
    features_dir: Path | None,
    slide_ids: Iterable[str],
    *,
    most_tiles: int = 0,
    memory_bytes: int = MEMORY_BYTES,
) -> BagFiles:
    """Bags of some slides, read when asked for: from their row's feature_path, else from features_dir/<slide_id>.h5, or
    from features_dir where it is a packed folder.

    With `most_tiles` > 0 longer bags are thinned to as many (`linspace_cap`). Files must exist; what they hold is
    checked when they are read.
    """
    places = places_of(manifest, features_dir, slide_ids)
    for path, slide_id in {place.path: slide_id for slide_id, place in places.items()}.items():
        check_exists(path, slide_id)
    files = PlacedFiles(places, most_tiles)
    return BagFiles(places, files.read, count=files.count, memory_bytes=memory_bytes)


def load_available_bags(
    manifest: Manifest, features_dir: Path | None, slide_ids: Iterable[str], *, most_tiles: int = 0
) -> BagFiles:
    """Bags of those slides that have features; what is left out is the caller's to count and to say."""
    files = PlacedFiles(places_of(manifest, features_dir, slide_ids), most_tiles)
    present = [slide_id for slide_id in files.places if files.has(slide_id)]
    return BagFiles(present, files.read, count=files.count)


def open_features(path: Path) -> BagFiles:
    """Bags of a packed store (.h5 or folder), a folder's <slide_id>.h5, or a manifest's (.csv) slides with features."""
    if path.is_dir() and not is_packed_folder(path):
        files = {file.stem: file for file in sorted(path.glob("*.h5"))}
        if not files:
            raise ValueError(f"{path}: no feature file in this folder; expected <slide_id>.h5; run 20_extract_features")
        return BagFiles(
            files, lambda slide: read_bag(files[slide], slide), count=lambda slide: count_tiles(files[slide])
        )
    if path.suffix == ".csv":
        manifest = read_manifest(path)
        return load_available_bags(manifest, None, manifest.table["slide_id"])
    store = open_store(path)
    return BagFiles(store.slide_ids, store.read, count=store.n_tiles)


def read_seconds(bags: BagFiles, slide_ids: Iterable[str]) -> float:
    """CPU seconds that it takes to read some bags out of their files, none of them kept: the best of three rounds."""
    ids, best = list(slide_ids), float("inf")
    for _ in range(3):
        start = time.process_time()
        for slide_id in ids:
            bags._read(slide_id)
        best = min(best, time.process_time() - start)
    return best


def _bytes(bag: Bag) -> int:
    return bag.x.nbytes + bag.coords.nbytes + (0 if bag.index is None else bag.index.nbytes)
