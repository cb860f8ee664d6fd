"""Bags of different lengths become one padded batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.features import Bag


class Batch(NamedTuple):
    """Padded bags: `mask` is True on real tiles; padding stands at the end and holds zeros."""

    x: Float[Tensor, "b n d"]
    coords: Int[Tensor, "b n 2"]
    mask: Bool[Tensor, "b n"]

    def to(self, device) -> "Batch":
        return Batch(*(part.to(device) for part in self))


def collate(bags: Sequence[Bag]) -> Batch:
    """Pad bags to the longest. Raises ValueError naming a bag that is empty or of another feature width."""
    d = bags[0].x.shape[1]
    for bag in bags:
        if len(bag.x) == 0 or bag.x.shape[1] != d:
            raise ValueError(f"{bag.slide_id}: got {bag.x.shape} features; expected at least one tile of width {d}")
    b, n = len(bags), max(len(bag.x) for bag in bags)
    batch = Batch(torch.zeros(b, n, d), torch.zeros(b, n, 2, dtype=torch.long), torch.zeros(b, n, dtype=torch.bool))
    for i, bag in enumerate(bags):
        length = len(bag.x)
        batch.x[i, :length] = torch.from_numpy(np.ascontiguousarray(bag.x, dtype=np.float32))
        batch.coords[i, :length] = torch.from_numpy(np.ascontiguousarray(bag.coords, dtype=np.int64))
        batch.mask[i, :length] = True
    return batch


def take(bag: Bag, tiles: Int[np.ndarray, " m"]) -> Bag:
    """Return the bag of the named tiles, in the order given."""
    return bag._replace(x=bag.x[tiles], coords=bag.coords[tiles])


def linspace_cap(bag: Bag, most: int) -> Bag:
    """Return at most `most` tiles, evenly spaced in the bag's order, first and last included (SlideChat's rule)."""
    if len(bag.x) <= most:
        return bag
    return take(bag, np.linspace(0, len(bag.x) - 1, most).astype(np.int64))


def in_box(bag: Bag, box: tuple[int, int, int, int]) -> Bag:
    """Return the tiles whose top-left corner lies in the box (x, y, width, height), all in level-0 px."""
    x, y, width, height = box
    column, row = bag.coords.T
    inside = (x <= column) & (column < x + width) & (y <= row) & (row < y + height)
    if not inside.any():
        raise ValueError(f"{bag.slide_id}: no tile in the box x={x} y={y} width={width} height={height} (level-0 px)")
    return take(bag, inside.nonzero()[0])
