"""AtlasPatch's slide file: a group `features` with a dataset (n, d) an encoder, `coords` (n, 5).

Places are x, y, read width, read height, level; x and y are level-0 px. Of several encoders one must be named:
feature_path = `patches/S1.h5#uni_v2`.
"""

import h5py

from slidesieve.features.formats.asked import Asked, Found, read_arrays
from slidesieve.provenance.hdf5 import is_group

GROUP = "features"
PLACES = 5


def fits(file: h5py.File) -> bool:
    return is_group(file, GROUP)


def parts(file: h5py.File) -> list[str]:
    """The encoders whose features a file holds, or one without a name."""
    return sorted(file[GROUP]) if len(file[GROUP]) > 1 else [""]


def features_name(file: h5py.File, part: str) -> str:
    """The dataset of the encoder named, or of the only one. Raises ValueError if it must be named, or is not there."""
    encoders = sorted(file[GROUP])
    if part in encoders or (not part and len(encoders) == 1):
        return f"{GROUP}/{part or encoders[0]}"
    got = f"{part!r} was asked for" if part else "none is named"
    example = f"{file.filename.rpartition('/')[2]}#{encoders[0]}" if encoders else "slide.h5#encoder"
    raise ValueError(
        f"{file.filename}: features of {', '.join(encoders) or 'no encoder'}, {got}; expected one of them; write "
        f"feature_path as {example}"
    )


def read_file(file: h5py.File, asked: Asked) -> Found:
    name = features_name(file, asked.part)
    found = read_arrays(file, name, asked)
    coords = found.coords
    if coords is not None and coords.ndim == 2 and coords.shape[1] == PLACES:
        coords = coords[:, :2]
    return found._replace(coords=coords, attrs=found.attrs | {"encoder": name.partition("/")[2]})
