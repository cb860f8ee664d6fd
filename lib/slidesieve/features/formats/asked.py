"""What a reader is asked for, and what it finds."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from slidesieve.provenance.hdf5 import attributes, dataset, names, read


class Asked(NamedTuple):
    """A slide's features in a file; `part` is an encoder's name where there are several; `mpp` is nan if not known."""

    slide_id: str
    path: Path
    part: str = ""
    mpp: float = float("nan")


class Found(NamedTuple):
    """Features (n, d), or as a file has them; places (n, 2) in level-0 px, None if unknown; attributes."""

    x: np.ndarray
    coords: np.ndarray | None
    attrs: dict


def check_no_part(asked: Asked) -> None:
    """Raise ValueError if one of several encoders' features are asked for where there is one kind."""
    if asked.part:
        raise ValueError(
            f"{asked.slide_id}: {asked.path} has features of one encoder, {asked.part!r} was asked for; take "
            f"#{asked.part} out of feature_path"
        )


def check_is_of_tiles(asked: Asked, shape: tuple[int, ...], attrs: dict) -> None:
    """Raise ValueError if a file holds one vector a slide: an embedding of the whole."""
    kind = attrs.get("feat_type", "tile")
    if (len(shape) == 1 and shape[0] > 0) or kind != "tile":
        what = f"a {kind}'s" if kind != "tile" else "a slide's"
        raise ValueError(
            f"{asked.slide_id}: {asked.path} holds {what} embedding, features of shape {shape}; expected a row for "
            "each tile (n, d); give the file of the tiles' features"
        )


def read_arrays(file: h5py.File, name: str, asked: Asked) -> Found:
    """Read a dataset of features and `coords`, if there are any, with the attributes of file and datasets."""
    x, attrs = dataset(file, name), attributes(file)
    attrs |= attributes(x)
    check_is_of_tiles(asked, x.shape, attrs)
    coords = None
    if "coords" in names(file):
        places = dataset(file, "coords")
        attrs |= attributes(places)
        coords = read(places)
        coords = coords[0] if coords.ndim == 3 and len(coords) == 1 else coords  # a batch axis
    return Found(read(x), coords, attrs)
