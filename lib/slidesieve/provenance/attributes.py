"""A file's attributes: where our HDF5 files say what they are and how they were made."""

from pathlib import Path

import h5py
import numpy as np

TRIDENT_ATTRS = (  # on `coords`; all others are the file's
    *("patch_size", "patch_size_level0", "overlap", "level0_magnification", "target_magnification"),
    *("level0_width", "level0_height", "name"),
)


def read_attrs(path: Path) -> dict:
    """Read the provenance of a feature or tile file without its arrays."""
    with h5py.File(path) as file:
        return plain_values(dict(file.attrs))


def plain_values(attrs: dict) -> dict:
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in attrs.items()}
