"""TRIDENT's slide file, and what else has a dataset `features`: (n, d), or with a batch axis (1, n, d) as UNI2-h's.

`coords` (n, 2) are level-0 px, top left; CLAM's are of the same form. A slide's or patient's embedding (d,) is refused.
"""

import h5py

from slidesieve.features.formats.asked import Asked, Found, check_no_part, read_arrays
from slidesieve.provenance.hdf5 import offers

NAME = "features"


def fits(file: h5py.File) -> bool:
    return offers(file, NAME)


def features_name(file: h5py.File, part: str) -> str:
    return NAME


def parts(file: h5py.File) -> list[str]:
    return [""]


def read_file(file: h5py.File, asked: Asked) -> Found:
    check_no_part(asked)
    return read_arrays(file, NAME, asked)
