"""What encoders take and give: tiles as uint8 RGB, a feature each."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

Tiles = UInt8[np.ndarray, "n h w 3"]
Features = Float[np.ndarray, "n d"]


def batches_of(tiles: Tiles, size: int) -> Iterator[Tiles]:
    """Cut tiles into batches; anything but uint8 RGB is refused."""
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[-1] != 3:
        raise ValueError(f"tiles: got {tiles.dtype} {tiles.shape}, expected uint8 (n, h, w, 3); convert to RGB first")
    for start in range(0, len(tiles), size):
        yield tiles[start : start + size]
