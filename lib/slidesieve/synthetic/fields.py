"""Toroidal scalar fields on a SIZE x SIZE map: noise, fibres, point sets, Voronoi cells.

Every field wraps round, so that a texture may be rolled and flipped without a seam. Randomness comes only from
the generator given.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.fft import fft2, ifft2, irfft2, rfft2
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

SIZE = 512
_FREQ_Y, _FREQ_X = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE), indexing="ij")
_RADIUS = np.hypot(_FREQ_Y, _FREQ_X)
Map = Float[np.ndarray, "512 512"]


def smooth(rng: np.random.Generator, wavelength_px: float) -> Map:
    """Draw isotropic low-pass noise of zero mean and unit variance."""
    gain = np.exp(-0.5 * (_RADIUS[:, : SIZE // 2 + 1] * wavelength_px * 2) ** 2)
    gain[0, 0] = 0
    field = irfft2(rfft2(rng.standard_normal((SIZE, SIZE))) * gain)
    return (field / field.std()).astype(np.float32)


def warp(rng: np.random.Generator, field: Map, amplitude_px: float, wavelength_px: float = 60) -> Map:
    """Displace a field by two smooth fields."""
    if amplitude_px == 0:
        return field
    rows, cols = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    rows += amplitude_px * smooth(rng, wavelength_px)
    cols += amplitude_px * smooth(rng, wavelength_px)
    return map_coordinates(field, [rows, cols], order=1, mode="grid-wrap")


def fibres(
    rng: np.random.Generator,
    wavelength_px: float,
    *,
    spread: float,
    angle: float = 0.0,
    warp_px: float = 6.0,
    sharpness: float = 1.0,
) -> Map:
    """Draw ridged oriented noise in [0, 1]: strands along `angle` (radians), `spread` radians about it."""
    along = np.cos(angle + np.pi / 2) * _FREQ_X + np.sin(angle + np.pi / 2) * _FREQ_Y
    across = np.cos(angle) * _FREQ_X + np.sin(angle) * _FREQ_Y
    off_axis = np.arctan2(across, along)  # one half-plane only: the filtered noise is complex and has a phase
    gain = np.exp(-0.5 * (((_RADIUS - 1 / wavelength_px) * wavelength_px / 0.3) ** 2 + (off_axis / spread) ** 2))
    waves = ifft2(fft2(rng.standard_normal((SIZE, SIZE))) * gain)
    ridges = 1 - np.abs(np.cos(np.angle(waves))).astype(np.float32)
    ridges = np.clip(1.55 * warp(rng, ridges, warp_px), 0, 1)
    return ridges**sharpness


def points(rng: np.random.Generator, spacing_px: float, rounds: int = 14) -> Float[np.ndarray, "m 2"]:
    """Draw points (y, x) no closer than `spacing_px`, packed until hardly another one fits."""
    kept = np.empty((0, 2))
    for _ in range(rounds):
        fresh = rng.uniform(0, SIZE, (int(1.2 * (SIZE / spacing_px) ** 2), 2))
        if len(kept):
            gap, _ = cKDTree(kept, boxsize=SIZE).query(fresh)
            fresh = fresh[gap >= spacing_px]
        if len(fresh) == 0:
            continue
        pairs = cKDTree(fresh, boxsize=SIZE).query_pairs(spacing_px, output_type="ndarray")
        fresh = np.delete(fresh, np.unique(pairs.max(axis=1)) if len(pairs) else [], axis=0)
        kept = np.concatenate([kept, fresh])
    return kept


class Cells(NamedTuple):
    """Voronoi cells of a point set: distance to the border, to the point, and the point's index."""

    border_px: Map
    centre_px: Map
    index: Int[np.ndarray, "512 512"]


def voronoi(centres: Float[np.ndarray, "m 2"]) -> Cells:
    """Divide the torus among `centres`."""
    grid = np.stack(np.mgrid[0:SIZE, 0:SIZE], axis=-1).reshape(-1, 2)
    distance, index = cKDTree(centres, boxsize=SIZE).query(grid, k=2)
    distance = distance.reshape(SIZE, SIZE, 2).astype(np.float32)
    border = (distance[..., 1] - distance[..., 0]) / 2
    return Cells(border, distance[..., 0], index[:, 0].reshape(SIZE, SIZE))


def membranes(cells: Cells, width_px: float) -> Map:
    """Return walls between cells in [0, 1], `width_px` thick on each side."""
    return np.clip(1.5 - cells.border_px / width_px, 0, 1)
