"""All forty textures as one packed array: drawn once, handed to processes as a file."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt32
from scipy.ndimage import gaussian_filter

from slidesieve.synthetic import decoys, findings, grades, tissues
from slidesieve.synthetic.classes import CLASSES
from slidesieve.synthetic.fields import SIZE, smooth
from slidesieve.synthetic.tissues import Stains

LEVELS_PER_DENSITY = 64  # a density of 1.0 is stored as 64; the largest is 255 / 64
TEXTURES = tissues.TEXTURES | findings.TEXTURES | grades.TEXTURES | decoys.TEXTURES
if set(TEXTURES) != set(CLASSES):
    raise ValueError(f"textures: {sorted(set(TEXTURES) ^ set(CLASSES))} are not both a class and a texture")


def grained(rng: np.random.Generator, stains: Stains) -> np.ndarray:
    """Give densities the unevenness of real stain, blur them slightly, and store them as (3, SIZE, SIZE) uint8."""
    clouds = 1 + 0.05 * smooth(rng, 70)
    grain = (1 + 0.22 * smooth(rng, 3.5), 1 + 0.11 * smooth(rng, 3.0), 1 + 0.12 * smooth(rng, 3.0))
    maps = [np.clip(s, 0, None) * g * clouds for s, g in zip(stains, grain, strict=True)]
    blurred = np.stack([gaussian_filter(m, 0.75, mode="wrap") for m in maps])
    return np.clip(np.rint(blurred * LEVELS_PER_DENSITY), 0, 255).astype(np.uint8)


def texture(name: str, seed: int) -> UInt32[np.ndarray, "512 512"]:
    """Draw one class; haematoxylin, eosin and pigment in the lowest three bytes of each pixel."""
    rng = np.random.default_rng([seed, CLASSES.index(name)])
    h, e, p = grained(rng, TEXTURES[name](rng)).astype(np.uint32)
    return h | e << 8 | p << 16


@lru_cache(maxsize=2)
def draw_atlas(seed: int) -> UInt32[np.ndarray, "40 512 512"]:
    """Draw every class, in the order of CLASSES."""
    maps = np.stack([texture(name, seed) for name in CLASSES])
    assert maps.shape == (len(CLASSES), SIZE, SIZE)
    return maps


@lru_cache(maxsize=1)
def read_atlas(path: Path) -> UInt32[np.ndarray, "40 512 512"]:
    """Map an atlas saved with np.save; processes share its memory."""
    return np.load(path, mmap_mode="r")
