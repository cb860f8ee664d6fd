"""slide2vec's pair: `tile_embeddings/<id>.pt` (n, d) beside `<id>.meta.json`, places in `tiles/<id>.coordinates.npz`.

The places are level-0 px in arrays x and y. What the three files say of the number of tiles must agree.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

from slidesieve.features.formats.asked import Asked, Found
from slidesieve.features.formats.matrices import read_pt

META, PLACES = ".meta.json", ".coordinates.npz"
MOST_BYTES = 1 << 30  # of the places, unpacked


def fits(path: Path) -> bool:
    return _meta(path).exists()


def read_pair(asked: Asked) -> Found:
    found, meta = read_pt(asked), _meta(asked.path)
    try:
        told = json.loads(meta.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{meta}: not JSON ({error}); expected slide2vec's; copy it again") from error
    if not isinstance(told, dict):
        raise ValueError(f"{meta}: holds a {type(told).__name__}; expected slide2vec's fields; copy it again")
    file = asked.path.parent.parent / "tiles" / f"{asked.path.stem}{PLACES}"
    coords = _places(file)
    if len(coords) != len(found.x):
        raise ValueError(
            f"{asked.path}: features {found.x.shape} for the {len(coords)} tiles of {file}; expected as many; extract "
            "them again"
        )
    attrs = {"encoder": told.get("encoder_name", ""), "patch_size_level0": told.get("tile_size_lv0", "")}
    return Found(found.x, coords, {name: value for name, value in attrs.items() if value != ""})


def _meta(path: Path) -> Path:
    return path.with_name(f"{path.stem}{META}")


def _places(file: Path) -> np.ndarray:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"unpacks to {size:,} bytes")
        with np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
        if x.ndim != 1 or x.shape != y.shape or x.dtype.kind not in "iuf":
            raise ValueError(f"x {x.shape} and y {y.shape} of {x.dtype}")
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(
            f"{file}: no places ({type(error).__name__}: {error}); expected slide2vec's arrays x and y, one a tile; "
            "copy the folder tiles beside tile_embeddings"
        ) from error
    return np.stack([x, y], 1)
