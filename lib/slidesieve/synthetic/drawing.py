"""A plan -> the pixels of its slide: textures through a crooked grid, stain, glass, focus and camera."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32
from scipy.ndimage import zoom

from slidesieve.synthetic.atlas import LEVELS_PER_DENSITY
from slidesieve.synthetic.classes import CLASSES, PIGMENT_OD
from slidesieve.synthetic.fields import SIZE
from slidesieve.synthetic.plans import COLS, ROWS, TILE_PX0, Plan

HEIGHT, WIDTH = ROWS * TILE_PX0, COLS * TILE_PX0
BORDER_PX = 6.5  # how far (SD) a region's border strays from the tile grid
# stain vectors of Macenko et al. 2009 (haematoxylin, eosin) as optical density in R, G, B
STAIN_OD = np.array([(0.563, 0.720, 0.406), (0.216, 0.801, 0.558)], np.float32)


@lru_cache(maxsize=8)
def _spread(coarse: int, fine: int) -> Float[np.ndarray, "fine coarse"]:
    """Return the matrix that interpolates `coarse` knots to `fine` samples with cubic splines."""
    return np.stack([zoom(row, fine / coarse, order=3, mode="nearest") for row in np.eye(coarse)], 1).astype(np.float32)


def _slow_field(rng: np.random.Generator, rows: int, cols: int) -> Float[np.ndarray, "512 1024"]:
    """Draw smooth noise from rows x cols knots."""
    return _spread(rows, HEIGHT) @ rng.standard_normal((rows, cols)).astype(np.float32) @ _spread(cols, WIDTH).T


def crooked_labels(rng: np.random.Generator, plan: Plan) -> Int[np.ndarray, "512 1024"]:
    """Read the plan's tile labels through a displacement field, so that regions have scalloped borders."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None] + BORDER_PX * _slow_field(rng, 16, 32)
    cols = np.arange(WIDTH, dtype=np.float32)[None, :] + BORDER_PX * _slow_field(rng, 16, 32)
    at = np.clip(rows / TILE_PX0, 0, ROWS - 1e-3).astype(np.int32) * COLS
    at += np.clip(cols / TILE_PX0, 0, COLS - 1e-3).astype(np.int32)
    return plan.labels.astype(np.int32).ravel()[at]


def stain_densities(
    rng: np.random.Generator, labels: Int[np.ndarray, "512 1024"], atlas: UInt32[np.ndarray, "c 512 512"]
) -> UInt32[np.ndarray, "512 1024"]:
    """Look every pixel up in its class's texture, rolled and flipped afresh for each class."""
    n = len(atlas)
    shift, sign = rng.integers(0, SIZE, (2, n, 1)), rng.choice([-1, 1], (2, n, 1))
    row_of = ((sign[0] * np.arange(HEIGHT) + shift[0]) % SIZE + SIZE * np.arange(n)[:, None]) * SIZE
    col_of = (sign[1] * np.arange(WIDTH) + shift[1]) % SIZE
    at = row_of.astype(np.int32).ravel()[labels * HEIGHT + np.arange(HEIGHT, dtype=np.int32)[:, None]]
    at += col_of.astype(np.int32).ravel()[labels * WIDTH + np.arange(WIDTH, dtype=np.int32)[None, :]]
    return atlas.ravel()[at]


def _transmission(od: Float[np.ndarray, "3"], gain: float) -> Float[np.ndarray, "3 256"]:
    """Tabulate Beer-Lambert: the light left in R, G, B after each stored density."""
    return np.exp(-gain * od[:, None] * np.arange(256, dtype=np.float32) / LEVELS_PER_DENSITY).astype(np.float32)


def stained(
    rng: np.random.Generator, densities: UInt32[np.ndarray, "512 1024"], labels: Int[np.ndarray, "512 1024"]
) -> Float[np.ndarray, "3 512 1024"]:
    """Turn densities into transmitted light in [0, 1] with this slide's stain vectors and strengths."""
    vectors = STAIN_OD * (1 + 0.06 * rng.standard_normal((2, 3)))
    gain = np.exp(0.14 * rng.standard_normal(3))
    pigment = np.zeros((len(CLASSES), 3), np.float32)
    for name, od in PIGMENT_OD.items():
        pigment[CLASSES.index(name)] = od
    h, e, p = densities & 255, (densities >> 8) & 255, densities >> 16
    h_table, e_table = (_transmission(v, g) for v, g in zip(vectors, gain, strict=False))
    light = np.empty((3, HEIGHT, WIDTH), np.float32)
    spotted = np.flatnonzero(p)
    spot_at = labels.ravel()[spotted] * 256 + p.ravel()[spotted].astype(np.int32)
    p_tables = np.stack([_transmission(od, gain[2]) for od in pigment], axis=1).reshape(3, -1)
    for channel in range(3):
        np.take(h_table[channel], h, out=light[channel])
        light[channel] *= e_table[channel][e]
        light[channel].ravel()[spotted] *= p_tables[channel][spot_at]
    return light


def photographed(rng: np.random.Generator, light: Float[np.ndarray, "3 512 1024"]) -> UInt8[np.ndarray, "512 1024 3"]:
    """Apply lamp colour, uneven illumination, focus and sensor noise."""
    lamp = rng.uniform(232, 248) * (1 + 0.008 * rng.standard_normal((3, 1, 1)).astype(np.float32))
    light *= lamp.astype(np.float32) * (1 + 0.02 * _slow_field(rng, 3, 5))
    side = np.float32(rng.uniform(0, 0.2))
    for axis in (1, 2):
        light += side * (np.roll(light, 1, axis) + np.roll(light, -1, axis) - 2 * light)
    noise = rng.standard_normal((3, 128, 128), dtype=np.float32) * np.float32(rng.uniform(1.5, 3.5))
    light.reshape(3, HEIGHT // 128, 128, WIDTH // 128, 128)[:] += noise[:, None, :, None, :]
    return np.clip(light + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def draw_slide(seed: int, plan: Plan, atlas: UInt32[np.ndarray, "c 512 512"]) -> UInt8[np.ndarray, "512 1024 3"]:
    """Draw the level-0 pixels of a plan; the same seed and plan give the same pixels."""
    rng = np.random.default_rng([seed, 2, plan.number])
    labels = crooked_labels(rng, plan)
    densities = stain_densities(rng, labels, atlas)
    return photographed(rng, stained(rng, densities, labels))


def draw_classes(
    seed: int, atlas: UInt32[np.ndarray, "c 512 512"], side_px: int
) -> dict[str, UInt8[np.ndarray, "s s 3"]]:
    """Draw a square of each class, all with the stain and camera of slide 0."""
    plans = {name: Plan(0, np.full((ROWS, COLS), i)) for i, name in enumerate(CLASSES)}
    return {name: draw_slide(seed, plan, atlas)[:side_px, :side_px] for name, plan in plans.items()}
