"""Feature files, ours and other people's -> Bag.

Read here: our slide file and packed store; TRIDENT's (`features` + `coords`; CLAM's too); `feats` + `coords` in
level-0 px; `features` alone; SlideChat's `.csv`; a bare matrix in `.npy` or `.pt` (CLAM's), coords unknown. Nothing is
unpickled. A file is always read whole: picking rows of a chunked one is far slower.
"""

import math
from pathlib import Path

import h5py
import numpy as np
import torch

from slidesieve.features.bag import Bag, make_bag
from slidesieve.features.feature_csv import read_feature_csv
from slidesieve.features.store import SCHEMA, PackedStore, read_features

PACKED = {"features", "offsets", "slide_id"}


def read_bag(path: Path, slide_id: str) -> Bag:
    """Read a slide's bag, whatever wrote the file. Raises ValueError with the keys found if it is none we know."""
    check_exists(path, slide_id)
    if (suffix := Path(path).suffix.lower()) in OTHER_READERS:
        x, coords = OTHER_READERS[suffix](Path(path))
        return make_bag(slide_id, _without_batch_axis(x), coords, {})
    if not h5py.is_hdf5(path):
        readable = ", ".join([".h5", *OTHER_READERS])
        raise ValueError(f"{slide_id}: {path} is not HDF5 (or was cut short); expected {readable}; write it again")
    with h5py.File(path) as file:
        keys = set(file)
        if keys >= PACKED:
            return PackedStore(path).read(slide_id)
        if file.attrs.get("schema") == SCHEMA:
            return _ours(path, slide_id)
        return _foreign(file, keys, slide_id)


def count_tiles(path: Path) -> int | None:
    """Return how many tiles a slide's file holds, from its header; None if only reading tells (`.csv`, a bad file)."""
    if path.suffix.lower() in OTHER_READERS or not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        name = _features_name(file)
        return math.prod(file[name].shape[:-1]) if name else None


def check_exists(path: Path, slide_id: str) -> None:
    if not Path(path).exists():
        raise FileNotFoundError(f"{slide_id}: no feature file {path}; run 20_extract_features, or correct feature_path")


def is_packed(path: Path) -> bool:
    """Say whether a file is a packed store of many bags."""
    if path.suffix.lower() in OTHER_READERS or not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return set(file) >= PACKED


def _ours(path: Path, slide_id: str) -> Bag:
    bag = read_features(path)
    if bag.slide_id != slide_id:
        raise ValueError(f"{path}: holds {bag.slide_id!r}, {slide_id!r} was asked for; correct feature_path")
    return bag


def _foreign(file: h5py.File, keys: set[str], slide_id: str) -> Bag:
    name = _features_name(file)
    if name is None:
        raise ValueError(
            f"{slide_id}: {file.filename} has {', '.join(sorted(keys)) or 'no keys'}; expected a dataset `features` or "
            "`feats` (n, d), with `coords` (n, 2) if known; export it so"
        )
    x = _without_batch_axis(file[name][:])
    coords = file["coords"][:] if "coords" in keys else None
    if coords is not None and (file.attrs.get("unit") == "um" or not np.array_equal(coords, np.rint(coords))):
        raise ValueError(
            f"{slide_id}: {file.filename} has coords in micrometres or fractions; expected level-0 pixels; "
            "divide them by the slide's mpp and round"
        )
    own = dict(file.attrs) | dict(file[name].attrs) | (dict(file["coords"].attrs) if coords is not None else {})
    return make_bag(slide_id, x, coords, {k: v.item() if isinstance(v, np.generic) else v for k, v in own.items()})


def _features_name(file: h5py.File) -> str | None:
    return next((k for k in ("features", "feats") if isinstance(file.get(k), h5py.Dataset)), None)


def _read_npy(path: Path) -> tuple[np.ndarray, None]:
    try:
        x = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        remedy = "copy it again"
        if "pickle" in str(error):
            code = f'np.save("new.npy", np.load("{path.name}", allow_pickle=True).item()["feature"])'
            remedy = f"a pickled dict can run code when loaded; if you trust its source, convert it once: {code}"
        raise ValueError(f"{path}: not a plain array ({error}); {remedy}") from error
    if x.dtype.kind != "f":
        raise ValueError(f"{path}: array of {x.dtype}; expected features (n, d) of floating point; write it again")
    return x, None


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
    return x.float().numpy(), None


def _without_batch_axis(x: np.ndarray) -> np.ndarray:
    """Some exports carry an empty batch axis."""
    return x.reshape(-1, x.shape[-1]) if x.ndim == 3 and 1 in x.shape[:2] else x


OTHER_READERS = {".csv": read_feature_csv, ".npy": _read_npy, ".pt": _read_pt}
