"""STAMP's slide file: `feats` (n, d), `coords` (n, 2).

Newer ones say unit="um": places are micrometres, and become level-0 px by the slide's mpp, which the manifest gives.
Old ones say nothing, at a stride of 224, which is 256 micrometres: refused, for a level-0 px could be meant as well.
Files of other makers have `feats` with whole level-0 px.
"""

import h5py
import numpy as np

from slidesieve.features.formats.asked import Asked, Found, check_no_part, read_arrays
from slidesieve.provenance.hdf5 import offers

NAME = "feats"
OLD_STRIDE = 224


def fits(file: h5py.File) -> bool:
    return offers(file, NAME)


def features_name(file: h5py.File, part: str) -> str:
    return NAME


def parts(file: h5py.File) -> list[str]:
    return [""]


def read_file(file: h5py.File, asked: Asked) -> Found:
    check_no_part(asked)
    found = read_arrays(file, NAME, asked)
    if found.coords is None:
        return found
    unit = found.attrs.get("unit")
    if unit == "um":
        return found._replace(coords=_in_px(found.coords, asked))
    if unit is None and _strides(found.coords) == {OLD_STRIDE}:
        raise ValueError(
            f"{asked.slide_id}: {asked.path} has coords at strides of {OLD_STRIDE} and no unit, as STAMP wrote before "
            "version 2: not level-0 px; expected a unit; extract them again, or multiply coords by 256 / 224 and write "
            'the attribute unit = "um"'
        )
    if unit not in (None, "px", "pixel", "pixels"):
        raise ValueError(
            f"{asked.slide_id}: {asked.path} has coords in {unit!r}; expected um or px; extract them again"
        )
    return found


def _in_px(coords: np.ndarray, asked: Asked) -> np.ndarray:
    if not asked.mpp > 0:
        raise ValueError(
            f"{asked.slide_id}: {asked.path} has coords in micrometres, and the slide's mpp is not known; expected it "
            "in the manifest's column mpp (micrometres a level-0 px); fill it in"
        )
    return np.rint(coords / asked.mpp).astype(np.int64)


def _strides(coords: np.ndarray) -> set[float]:
    """The least steps between places in x and in y, the first 0 apart."""
    steps = [np.diff(np.unique(axis)) for axis in coords.T] if coords.ndim == 2 else []
    return {float(step.min()) for step in steps if len(step)}
