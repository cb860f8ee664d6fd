"""Thumbnails of drawn sections whose outline is known: on clean, tinted and filled glass, faint, under ink.

What the toy cohort is not for: its slides ask which tile says what, these ask where tissue ends.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

HEIGHT, WIDTH = 601, 903
GLASS = {
    "clean": (243, 242, 243), "yellow": (236, 230, 208), "green": (222, 232, 220), "blue": (222, 228, 238),
    "purple": (228, 222, 232),
}  # fmt: skip
INK = {
    "blue pen": (40, 60, 180), "green pen": (60, 165, 140), "black pen": (40, 40, 45), "red pen": (214, 45, 65),
    "navy pen": (45, 45, 150), "pale pen": (110, 130, 205),
}  # fmt: skip
FAINT = {"faint": 0.12}  # of the usual density of stain, and half of that at the rim
FILLER = {"black filler": 0, "white filler": 255}  # where nothing was scanned
KINDS = (*GLASS, *FAINT, *FILLER, "transparent", *INK)
STROKES = (((40, 60), (200, 40), (560, 60), (860, 120), (850, 420), (700, 560), (420, 570)), ((300, 300), (480, 520)))
STROKE_PX = 11
EOSIN, HAEMATOXYLIN = np.array([0.08, 0.45, 0.25]), np.array([0.45, 0.55, 0.25])


class Section(NamedTuple):
    """RGB, what of it was scanned, where tissue is (under ink too), and where ink is."""

    rgb: UInt8[np.ndarray, "h w 3"]
    known: Bool[np.ndarray, "h w"]
    tissue: Bool[np.ndarray, "h w"]
    ink: Bool[np.ndarray, "h w"]


def draw_section(kind: str, seed: int) -> Section:
    """Draw two pieces of tissue of one of KINDS, with the texture, noise and uneven light of a scan."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    tissue = _blob(rng, x - 300, y - 300, 170) | _blob(rng, x - 680, y - 280, 110)
    fine, coarse = (_field(rng, width) for width in (2, 6))
    eosin, haematoxylin = np.clip(0.5 + 0.12 * fine, 0.15, None), np.clip(0.35 + 0.2 * coarse + 0.1 * fine, 0, None)
    density = FAINT.get(kind, 1.0) * np.ones_like(fine)
    if kind in FAINT:
        density *= np.clip(ndimage.distance_transform_edt(tissue) / 40 + 0.5, 0, 1.6)
    absorbed = (density * tissue)[..., None] * (eosin[..., None] * EOSIN + haematoxylin[..., None] * HAEMATOXYLIN)
    rgb = np.array(GLASS.get(kind, GLASS["clean"])) * (1 - 0.02 * x / WIDTH)[..., None] * np.exp(-absorbed)
    ink = np.zeros_like(tissue)
    if kind in INK:
        share = ndimage.gaussian_filter(_strokes(x, y).astype(float), 2)
        ink = share > 0.5
        rgb = rgb * (1 - share[..., None] * (1 - np.array(INK[kind]) / 243))
    rgb = np.clip(rgb + rng.normal(size=rgb.shape) * 1.2, 0, 255).astype(np.uint8)
    scanned = (x >= 250) & (y < 500)
    known = scanned if kind == "transparent" else np.ones_like(tissue)
    if kind in FILLER or kind == "transparent":
        rgb[~scanned], tissue = FILLER.get(kind, 0), tissue & scanned
    return Section(rgb, known, tissue, ink)


def _blob(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: float) -> Bool[np.ndarray, "h w"]:
    angle = np.arctan2(y, x)
    waves = sum(0.18 / n * np.sin(n * angle + rng.uniform(0, 6)) for n in (2, 3, 5, 8))
    return np.hypot(x, y) < radius * (1 + waves)


def _field(rng: np.random.Generator, width_px: float) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), width_px)
    return field / field.std()


def _strokes(x: np.ndarray, y: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Everything within STROKE_PX of a line of STROKES."""
    ink = np.zeros(x.shape, bool)
    for line in STROKES:
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
            ink |= np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)) <= STROKE_PX
    return ink
