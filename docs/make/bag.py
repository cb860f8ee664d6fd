"""A slide made up so that it can be drawn: 300 tiles whose features lie on a plane.

A tile's features are 16 numbers, x = B (u, v, 2) with orthonormal columns in B, none of which has a mean. So distances
are those of the drawing, angles those of the drawing seen from a height of 2, and a layer norm takes nothing away but
the length. Three tissues lie in areas of their own; nine tiles in one spot are a finding of one of two kinds, which is
what the question asks; four are artefacts, far from all else. Nothing here was measured on a slide.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.features.bag import Bag, Batch, collate

COLUMNS, ROWS, SIDE_PX0, WIDTH, HEIGHT = 20, 15, 256, 16, 2.0
TISSUES = ("stroma", "tumour", "fat", "finding", "artefact")
STROMA, TUMOUR, FAT, FINDING, ARTEFACT = range(5)
CENTRES = np.array([[-1.2, -0.5], [0.9, 0.8], [0.8, -1.3]])
SPREADS = np.array([[0.42, 0.3], [0.33, 0.42], [0.25, 0.2]])
FINDINGS = np.array([[-0.45, 0.75], [-0.15, -0.75]])  # the two kinds, between the tissues
SEEDS = np.array([[3, 6], [13, 4], [16, 13]])  # columns and rows around which the tissues lie
PLANE = np.linalg.qr(np.column_stack([np.ones(WIDTH), np.random.default_rng(5).normal(size=(WIDTH, 3))]))[0][:, 1:]


def slide(seed: int, kind: int) -> tuple[Bag, Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Draw a slide whose finding is of `kind`: its bag, the places of its tiles on the plane, and their tissues."""
    rng = np.random.default_rng([seed, kind])
    place = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), -1).reshape(-1, 2)
    seeds = SEEDS + rng.normal(0, 0.3, SEEDS.shape)
    tissue = np.linalg.norm(place[:, None] - seeds, axis=-1).argmin(1)
    uv = CENTRES[tissue] + rng.normal(size=(len(place), 2)) * SPREADS[tissue]
    corner = rng.integers([10, 1], [14, 5])
    spot = ((place >= corner) & (place < corner + 3)).all(1)
    tissue[spot], uv[spot] = FINDING, FINDINGS[kind] + rng.normal(0, 0.1, (spot.sum(), 2))
    odd = rng.choice(np.flatnonzero(~spot), 4, replace=False)
    tissue[odd], uv[odd] = ARTEFACT, np.array([-2.1, 1.7]) + rng.normal(0, 0.25, (4, 2))
    x = np.column_stack([uv, np.full(len(uv), HEIGHT)]) @ PLANE.T
    return Bag(f"made_up_{seed}", x.astype(np.float32), place * SIDE_PX0, {"has_coords": True}), uv, tissue


class Slides:
    """Made-up slides in turn of either kind, as `mil.training` takes them."""

    def __init__(self, count: int, *, first: int):
        self.y = np.arange(count) % 2
        self.bags = [slide(first + i, int(kind))[0] for i, kind in enumerate(self.y)]

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]:
        return collate([self.bags[i] for i in bags]), torch.from_numpy(self.y[bags])
