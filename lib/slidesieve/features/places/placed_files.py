"""Where each slide's bag lies, by the manifest or in a folder of stage 20's or 21's."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from slidesieve.cohort.ids import common
from slidesieve.cohort.manifest import Manifest, row_of
from slidesieve.features.bag import Bag, linspace_cap
from slidesieve.features.places.packed_folder import Store, is_packed_folder, open_store
from slidesieve.features.readers import count_tiles, is_packed, read_bag
from slidesieve.provenance.table_files import split_part


class Place(NamedTuple):
    """A slide's feature file, which encoder's of several, and the slide's mpp."""

    path: Path
    part: str
    mpp: float


def places_of(manifest: Manifest, features_dir: Path | None, slide_ids: Iterable[str]) -> dict[str, Place]:
    """Where each slide's bag lies, there or not; the table is gone through once."""
    table = manifest.table
    rows = zip(table["slide_id"], table["feature_path"], table["mpp"], strict=True)
    given = {slide_id: (named, float(mpp)) for slide_id, named, mpp in rows}
    files = {named: split_part(named) for named, _ in given.values()}
    roots = {file: manifest.root / file for file, _ in files.values()}  # one for all slides of a packed store
    folder = Path(features_dir) if features_dir is not None else None
    packed = folder is not None and is_packed_folder(folder)
    places = {}
    for slide_id in slide_ids:
        named, mpp = given[slide_id] if slide_id in given else (row_of(manifest, slide_id)["feature_path"], 0.0)
        if not named and folder is None:
            raise ValueError(f"{slide_id}: no feature_path and no features folder; run 20_extract_features")
        file, part = files[named] if named else ("", "")
        own = folder if packed or named else folder / f"{slide_id}.h5"
        places[slide_id] = Place(roots[file] if named else own, part, mpp)
    return places


class PlacedFiles:
    """Where each slide's bag lies; a packed store's index is read once, and ids meet there as everywhere."""

    def __init__(self, places: dict[str, Place], most_tiles: int):
        self.places, self.most_tiles = places, most_tiles
        self._stores: dict[Path, Store | None] = {}
        self._names: dict[Path, dict[str, str]] = {}  # of a store's slides, by the manifest's

    def read(self, slide_id: str) -> Bag:
        path, part, mpp = self.places[slide_id]
        thin = partial(linspace_cap, most=self.most_tiles) if self.most_tiles else None
        store = self._store(path)
        if store:
            return store.read(self._names[path].get(slide_id, slide_id), thin)._replace(slide_id=slide_id)
        return read_bag(path, slide_id, part=part, mpp=mpp, thin=thin)

    def count(self, slide_id: str) -> int | None:
        path, part, _ = self.places[slide_id]
        store = self._store(path)
        n = store.n_tiles(self._names[path].get(slide_id, slide_id)) if store else count_tiles(path, part)
        return min(n, self.most_tiles) if n and self.most_tiles else n

    def has(self, slide_id: str) -> bool:
        """Whether the slide's file is there and, if it is a packed store, has the slide."""
        path = self.places[slide_id].path
        if not path.exists():
            return False
        return not (path.is_file() or is_packed_folder(path)) or not self._store(path) or slide_id in self._names[path]

    def _store(self, path: Path) -> Store | None:
        if path not in self._stores:
            store = self._stores[path] = open_store(path) if is_packed(path) else None
            if store:
                here = [slide for slide, place in self.places.items() if place.path == path]
                self._names[path] = common(here, store.slide_ids)
        return self._stores[path]
