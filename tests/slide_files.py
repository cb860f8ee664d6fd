"""Slide files for the tests: tiled TIFFs of known pixels that the real OpenSlide opens, and ways to damage them."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from slidesieve.cohort.manifest import COLUMNS

GLASS, STAIN = (243, 243, 243), (190, 90, 160)


def write_slide(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float | tuple[float, float] | None = 1.0,
    levels: int = 1,
    compression: str | None = None,
) -> Path:
    """Write a pyramid by 2 x 2 means (odd last rows and columns are cut); uncompressed unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x_mpp, y_mpp = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            scale = {"resolution": (1e4 / x_mpp / 2**level, 1e4 / y_mpp / 2**level), "resolutionunit": 3} if mpp else {}
            kind = {"compression": compression, "photometric": "rgb", "subfiletype": int(level > 0)}
            tiff.write(pixels, tile=(256, 256), metadata=None, software=False, **kind, **scale)
            h, w = (side // 2 * 2 for side in pixels.shape[:2])
            pixels = pixels[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
    return path


def damage_tile(path: Path, number: int, level: int = 0) -> None:
    """Overwrite one stored JPEG tile with bytes that are no JPEG."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        start, length = page.dataoffsets[number], page.databytecounts[number]
    with path.open("rb+") as file:
        file.seek(start)
        file.write(b"\xff" * length)


def smooth_noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw a stained-looking field that JPEG keeps closely and that differs everywhere."""
    y, x = np.mgrid[:height, :width]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = np.stack([np.sin(x / 19 + p) + np.cos(y / 23 - p) for p in phase], -1)
    return (np.array(STAIN) + 22 * waves).astype(np.uint8)


def glass(height: int, width: int) -> np.ndarray:
    """Return empty glass."""
    return np.full((height, width, 3), GLASS, np.uint8)


def write_manifest(path: Path, rows: list[dict]) -> Path:
    """Write a manifest; a row needs its slide_id only."""
    full = [dict.fromkeys(COLUMNS, "") | {"case_id": row["slide_id"], "slide_path": "none.tif"} | row for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(full).to_csv(path, index=False)
    return path
