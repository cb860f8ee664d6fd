"""Feature files, ours and other people's -> Bag.

Read here: our slide file and packed store; TRIDENT's (`features` + `coords`; CLAM's too); `feats` + `coords` in
level-0 px; `features` alone; SlideChat's `.csv`; a bare matrix in `.npy` or `.pt` (CLAM's), coords unknown. Nothing is
unpickled, no file is followed into another, and none may declare more than it holds. A file is always read whole:
picking rows of a chunked one is far slower.
"""

import math
from pathlib import Path

import h5py
import numpy as np
import torch

from slidesieve.features.bag import Bag
from slidesieve.features.feature_csv import read_feature_csv
from slidesieve.features.file_bags import bag_of_file
from slidesieve.features.store import SCHEMA, PackedStore, read_features
from slidesieve.provenance.hdf5 import Hdf5Fault, attributes, dataset, names, offers, open_hdf5, read

PACKED = {"features", "offsets", "slide_id"}


def read_bag(path: Path, slide_id: str) -> Bag:
    """Read a slide's bag, whatever wrote the file. Raises ValueError naming the file, and what was found in it."""
    check_exists(path, slide_id)
    if (suffix := Path(path).suffix.lower()) in OTHER_READERS:
        x, coords = OTHER_READERS[suffix](Path(path))
        return bag_of_file(path, slide_id, x, coords, {})
    if not h5py.is_hdf5(path):
        readable = ", ".join([".h5", *OTHER_READERS])
        raise ValueError(f"{slide_id}: {path} is not HDF5 (or was cut short); expected {readable}; write it again")
    with open_hdf5(path) as file:
        if names(file) >= PACKED:
            return PackedStore(path).read(slide_id)
        own = attributes(file)
        return _ours(path, slide_id) if own.get("schema") == SCHEMA else _foreign(file, slide_id, own)


def count_tiles(path: Path) -> int | None:
    """Return how many tiles a slide's file holds, from its header; None if only reading tells (`.csv`, a bad file)."""
    if path.suffix.lower() in OTHER_READERS or not h5py.is_hdf5(path):
        return None
    try:
        with open_hdf5(path) as file:
            name = _features_name(file)
            return math.prod(dataset(file, name).shape[:-1]) if name else None
    except Hdf5Fault:
        return None


def check_exists(path: Path, slide_id: str) -> None:
    """Raise FileNotFoundError if a feature file is not there, ValueError if it is no file."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{slide_id}: no feature file {path}; run 20_extract_features, or correct feature_path")
    if not Path(path).is_file():
        raise ValueError(f"{slide_id}: {path} is a folder or a device; expected a feature file; correct feature_path")


def is_packed(path: Path) -> bool:
    """Say whether a file is a packed store of many bags."""
    if path.suffix.lower() in OTHER_READERS or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return names(file) >= PACKED


def _ours(path: Path, slide_id: str) -> Bag:
    bag = read_features(path)
    if bag.slide_id != slide_id:
        raise ValueError(f"{path}: holds {bag.slide_id!r}, {slide_id!r} was asked for; correct feature_path")
    return bag


def _foreign(file: h5py.File, slide_id: str, own: dict) -> Bag:
    """Read a file of other makers; `own` are its attributes."""
    keys, path, coords = names(file), Path(file.filename), None
    name = _features_name(file)
    if name is None:
        raise ValueError(
            f"{slide_id}: {path} has {', '.join(sorted(keys)) or 'no keys'}; expected a dataset `features` or "
            "`feats` (n, d), with `coords` (n, 2) if known; export it so"
        )
    x, in_um = dataset(file, name), own.get("unit") == "um"
    own = own | attributes(x)
    if "coords" in keys:
        places = dataset(file, "coords")
        own = own | attributes(places)
        if in_um:
            raise ValueError(
                f"{slide_id}: {path} has coords in micrometres; expected level-0 pixels; "
                "divide them by the slide's mpp and round"
            )
        coords = read(places)
    return bag_of_file(path, slide_id, read(x), coords, own)


def _features_name(file: h5py.File) -> str | None:
    return next((name for name in ("features", "feats") if offers(file, name)), None)


def _read_npy(path: Path) -> tuple[np.ndarray, None]:
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: no more than the file holds
    except Exception as error:  # a damaged header raises anything
        remedy = "copy it again"
        if "pickle" in str(error) or "Python objects" in str(error):
            code = f'np.save("new.npy", np.load("{path.name}", allow_pickle=True).item()["feature"])'
            remedy = f"a pickled dict can run code when loaded; if you trust its source, convert it once: {code}"
        raise ValueError(f"{path}: not a plain array ({error}); {remedy}") from error
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        got = f"array of {x.dtype}" if isinstance(x, np.ndarray) else "an archive of arrays"
        raise ValueError(f"{path}: {got}; expected features (n, d) of floating point; write it again")
    return np.array(x), None


def _read_pt(path: Path) -> tuple[np.ndarray, None]:
    try:
        x = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a cut or foreign pickle raises anything
        raise ValueError(
            f"{path}: not a plain tensor ({type(error).__name__}); expected features (n, d); copy it again; or, if it "
            'holds more and you trust its source, load it once with weights_only=False and torch.save(x, "new.pt")'
        ) from error
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"
        got += f" of {', '.join(map(str, x))}" if isinstance(x, dict) else ""
        raise ValueError(f"{path}: holds {got}; expected one tensor of features (n, d); save it alone")
    size = path.stat().st_size
    if x.layout != torch.strided or x.is_meta or x.numel() * x.element_size() > size:
        raise ValueError(
            f"{path}: a tensor {tuple(x.shape)} of {x.dtype} in {size:,} bytes; expected every value of features "
            "(n, d) in the file; save it dense, on the CPU, as x.contiguous()"
        )
    return x.detach().float().numpy(), None


OTHER_READERS = {".csv": read_feature_csv, ".npy": _read_npy, ".pt": _read_pt}
