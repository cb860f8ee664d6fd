"""A grid over the slide: the mean of the tiles of each cell (PathoJev averages in 32 x 32 cells, WSI-LLaVA in 576).

    cell of tile i = floor(g (xy_i - least) / (extent + 1)) in both directions, over the area where tiles lie

g is the largest for which at most k cells hold tiles, so that a slide may give fewer tokens than k. Tiles without known
places lie on a line in the order of the bag: then cells are segments of it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Groups, Merger

FINEST = 8  # times the side of a square of k cells


class Grid(Merger):
    """Hand on the means of the cells of a grid that hold tiles: at most k."""

    fills = False

    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        of = cells(coords, k)
        return Groups(of, 1 / torch.bincount(of)[of])


def cells(coords: Int[Tensor, "n 2"], k: int) -> Int[Tensor, " n"]:
    """The cell of each tile, numbered from 0 without a gap, in the finest grid of which at most k cells hold tiles."""
    xy = coords - coords.amin(0)
    extent = xy.amax(0) + 1
    for g in range(FINEST * max(1, round(k**0.5)), 0, -1):
        row, column = (xy * g).div(extent, rounding_mode="floor").T.flip(0)
        found, of = (row * g + column).unique(return_inverse=True)
        if len(found) <= k:
            return of
    raise ValueError(f"grid: got k = {k}; expected at least 1")
