"""Feature files, ours and other people's -> Bag. A row a format: how it is told, and what reads it.

Ours: a slide file, a packed store or folder. Others' lie in `formats`. Nothing is unpickled, no file is followed into
another (but slide2vec's, which come in threes), and none may declare more than it holds. A file is always read whole:
picking rows of a chunked one is far slower.
"""

import math
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import h5py

from slidesieve.features.bag import Bag
from slidesieve.features.file_bags import Thin, bag_of_file, check_not_doubled, thinned
from slidesieve.features.formats import atlaspatch, matrices, slide2vec, stamp, trident
from slidesieve.features.formats.asked import Asked, Found, check_is_of_tiles, check_no_part
from slidesieve.features.formats.slidechat_csv import read_feature_csv
from slidesieve.features.places.packed_folder import is_packed_folder, packed_folder
from slidesieve.features.store import SCHEMA, PackedStore, features_in
from slidesieve.provenance.hdf5 import Hdf5Fault, attributes, dataset, names, open_hdf5

PACKED = {"features", "offsets", "slide_id"}
OURS, PACKED_STORE = "slidesieve", "packed store"
LAYOUTS: dict[str, ModuleType] = {  # of HDF5; the first that fits
    "AtlasPatch": atlaspatch,
    "TRIDENT, CLAM, UNI2-h": trident,
    "STAMP": stamp,
}
OTHERS = (".csv", ".npy", ".pt")
SUFFIXES = (".h5", ".hdf5", *OTHERS)


def read_bag(path: Path, slide_id: str, *, part: str = "", mpp: float = float("nan"), thin: Thin | None = None) -> Bag:
    """Read a slide's bag, whatever wrote the file. Raises ValueError naming the file, and what was found in it.

    `part` names an encoder where a file has several; `mpp`, micrometres a level-0 px, is for places in micrometres.
    `thin` leaves tiles out (`linspace_cap`, `take`): the file is read and checked whole, but what is left is widened.
    """
    path = Path(path)
    check_exists(path, slide_id)
    if path.is_dir():
        return packed_folder(path).read(slide_id, thin)
    asked = Asked(slide_id, path, part, mpp)
    if path.suffix.lower() in OTHERS:
        return _bag(asked, _read_other(asked), thin)
    if not h5py.is_hdf5(path):
        raise ValueError(
            f"{slide_id}: {path} is not HDF5 (or was cut short); expected {', '.join(SUFFIXES)}; write it again"
        )
    with open_hdf5(path) as file:
        if names(file) >= PACKED:
            return PackedStore(path).read(slide_id, thin)
        if attributes(file).get("schema") == SCHEMA:
            check_no_part(asked)
            return _ours(file, asked, thin)
        layout = _layout(file)
        if layout is None:
            raise ValueError(
                f"{slide_id}: {path} has {', '.join(sorted(names(file))) or 'no keys'}; expected a dataset `features` "
                "or `feats` (n, d), with `coords` (n, 2) if known; export it so"
            )
        return _bag(asked, LAYOUTS[layout].read_file(file, asked), thin)


class Described(NamedTuple):
    """What a header says: format, whose slide ("": the file's name says), encoder, tiles and width (None: not told).

    `part` is the encoder's name in a file of several.
    """

    format: str
    slide_id: str
    part: str
    encoder: str
    n: int | None
    width: int | None


def describe(path: Path) -> list[Described]:
    """Say what a file holds, from its header: one a slide, or one an encoder. Raises ValueError if it is no bag."""
    path = Path(path)
    if is_packed_folder(path):
        folder = packed_folder(path)
        return [Described(PACKED_STORE, s, "", "", folder.n_tiles(s), folder.width) for s in folder.slide_ids]
    if (suffix := path.suffix.lower()) in OTHERS:
        name = "slide2vec" if suffix == ".pt" and slide2vec.fits(path) else suffix
        return [Described(name, "", "", "", None, None)]
    with open_hdf5(path) as file:
        if names(file) >= PACKED:
            store, width = PackedStore(path), dataset(file, "features").shape[1]
            return [Described(PACKED_STORE, s, "", "", store.n_tiles(s), width) for s in store.slide_ids]
        own = attributes(file)
        if own.get("schema") == SCHEMA:
            n, width = dataset(file, "features").shape
            return [Described(OURS, str(own["slide_id"]), "", str(own.get("encoder", "")), n, width)]
        layout = _layout(file)
        if layout is None:
            raise ValueError(f"{path}: has {', '.join(sorted(names(file))) or 'no keys'}; no features")
        found = []
        for part in LAYOUTS[layout].parts(file):
            data = dataset(file, LAYOUTS[layout].features_name(file, part))
            check_is_of_tiles(Asked("", path), data.shape, own)
            encoder = part or attributes(data).get("encoder") or own.get("extractor") or own.get("encoder") or ""
            shape = data.shape
            found.append(Described(layout, "", part, str(encoder), math.prod(shape[:-1]), shape[-1]))
        return found


def format_of(path: Path) -> str:
    """What wrote a file, by its header; "" if nothing is known of it."""
    try:
        return describe(path)[0].format
    except (OSError, ValueError, IndexError):
        return ""


def count_tiles(path: Path, part: str = "") -> int | None:
    """Return how many tiles a slide's file holds, from its header; None if only reading tells (`.csv`, a bad file)."""
    path = Path(path)
    if path.suffix.lower() in OTHERS or not h5py.is_hdf5(path):
        return None
    try:
        with open_hdf5(path) as file:
            layout = _layout(file)
            if layout is None:
                return None
            return math.prod(dataset(file, LAYOUTS[layout].features_name(file, part)).shape[:-1])
    except (Hdf5Fault, ValueError):
        return None


def check_exists(path: Path, slide_id: str) -> None:
    """Raise FileNotFoundError if a feature file is not there, ValueError if it is no file and no packed folder."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{slide_id}: no feature file {path}; run 20_extract_features, or correct feature_path")
    if not Path(path).is_file() and not is_packed_folder(Path(path)):
        raise ValueError(
            f"{slide_id}: {path} is a folder or a device; expected a feature file, or a folder of 21_pack_features; "
            "correct feature_path"
        )


def is_packed(path: Path) -> bool:
    """Say whether a file or folder is a packed store of many bags."""
    if is_packed_folder(path):
        return True
    if path.suffix.lower() in OTHERS or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return names(file) >= PACKED


def _layout(file: h5py.File) -> str | None:
    return next((name for name, layout in LAYOUTS.items() if layout.fits(file)), None)


def _read_other(asked: Asked) -> Found:
    suffix = asked.path.suffix.lower()
    if suffix == ".csv":
        check_no_part(asked)
        return Found(*read_feature_csv(asked.path), {})
    if suffix == ".npy":
        return matrices.read_npy(asked)
    return slide2vec.read_pair(asked) if slide2vec.fits(asked.path) else matrices.read_pt(asked)


def _bag(asked: Asked, found: Found, thin: Thin | None) -> Bag:
    bag = bag_of_file(asked.path, asked.slide_id, *found)
    check_not_doubled(asked.path, bag)
    return thinned(bag, thin)


def _ours(file: h5py.File, asked: Asked, thin: Thin | None) -> Bag:
    bag = features_in(file, asked.path, thin)
    if bag.slide_id != asked.slide_id:
        raise ValueError(
            f"{asked.path}: holds {bag.slide_id!r}, {asked.slide_id!r} was asked for; correct feature_path"
        )
    return bag
