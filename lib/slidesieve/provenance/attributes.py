"""A file's attributes: where our HDF5 files say what they are and how they were made."""

from pathlib import Path

from slidesieve.provenance.hdf5 import attributes, open_hdf5

TRIDENT_ATTRS = (  # on `coords`; all others are the file's
    *("patch_size", "patch_size_level0", "overlap", "level0_magnification", "target_magnification"),
    *("level0_width", "level0_height", "name"),
)


def read_attrs(path: Path) -> dict:
    """Read the provenance of a feature or tile file without its arrays. Raises ValueError if it is damaged."""
    with open_hdf5(path) as file:
        return attributes(file)
