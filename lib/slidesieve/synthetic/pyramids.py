"""Pixels -> a pyramidal tiled TIFF that OpenSlide opens.

JPEG changes features (a descriptor sees quality 80 and no compression as different slides), so its settings are fixed
here and belong to the recipe of a drawn slide.
"""

from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt8

from slidesieve.provenance.files import written_whole

JPEG_QUALITY, STORAGE_TILE_PX, LEVELS = 80, 256, 3


def halved(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Average 2 x 2 pixels."""
    total = pixels[0::2, 0::2].astype(np.uint16) + pixels[1::2, 0::2] + pixels[0::2, 1::2] + pixels[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def write_pyramid(path: Path, pixels: UInt8[np.ndarray, "h w 3"], *, mpp: float, description: str) -> None:
    """Write three JPEG levels; a file that exists is complete."""
    levels = [pixels]
    while len(levels) < LEVELS:
        levels.append(halved(levels[-1]))
    with written_whole(path) as aside, tifffile.TiffWriter(aside) as tiff:
        for i, level in enumerate(levels):
            tiff.write(
                level,
                tile=(STORAGE_TILE_PX, STORAGE_TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                resolution=(1e4 / mpp / 2**i, 1e4 / mpp / 2**i),
                resolutionunit="CENTIMETER",
                subfiletype=int(i > 0),
                description=description if i == 0 else None,
                software=False,
                metadata=None,
            )
