"""Tiles on their slide's grid: columns and rows, the occupied windows, and sums over the tiles of each."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def grid_places(
    coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]
) -> tuple[Int[Tensor, "t 2"], Bool[Tensor, " t"]]:
    """Column and row of every real tile, in steps of its slide's grid (see `grid_step`), and if there is a grid."""
    real = [c[m] for c, m in zip(coords, mask, strict=True)]
    steps = [grid_step(own) for own in real]
    placed = [torch.full((len(own),), step > 1, device=own.device) for own, step in zip(real, steps, strict=True)]
    return torch.cat([own // step for own, step in zip(real, steps, strict=True)]), torch.cat(placed)


def grid_step(coords: Int[Tensor, "n 2"]) -> int:
    """The commonest distance of neighbours in a row or a column, in level-0 px; 1 where no tile has a neighbour.

    A bag without known places is a line of step 1 (`features.bag`).
    """
    gaps = []
    for axis in (0, 1):
        line, along = coords[:, 1 - axis], coords[:, axis] - coords[:, axis].amin()
        wide = along.amax() + 1
        order = (line * wide + along).sort().values
        gap, same_line = order.diff(), order[1:] // wide == order[:-1] // wide
        gaps.append(gap[same_line & (gap > 0)])
    found = torch.cat(gaps)
    return int(found.mode().values) if len(found) else 1


def windows(places: Int[Tensor, "t 2"], slide: Int[Tensor, " t"], side: int) -> Int[Tensor, " t"]:
    """Number the occupied side x side windows of all slides, slide after slide, row by row."""
    cell = places // side
    cell = cell - cell.amin(0)
    across, down = cell.amax(0) + 1
    return ((slide * down + cell[:, 1]) * across + cell[:, 0]).unique(return_inverse=True)[1]


def split_off(cell: Int[Tensor, " t"], alone: Bool[Tensor, " t"]) -> Int[Tensor, " t"]:
    """Give the tiles that stay alone a number of their own, behind that of their window."""
    own = torch.where(alone, 1 + torch.arange(len(cell), device=cell.device), 0)
    return (cell * (len(cell) + 1) + own).unique(return_inverse=True)[1]


def segment_sum(values: Float[Tensor, "t ..."], cell: Int[Tensor, " t"], n: int) -> Float[Tensor, "w ..."]:
    return values.new_zeros(n, *values.shape[1:]).index_add(0, cell, values)


def segment_mean(values: Tensor, cell: Int[Tensor, " t"]) -> Float[Tensor, "w d"]:
    count = cell.bincount()
    total = segment_sum(values if values.is_floating_point() else values.float(), cell, len(count))
    return total / count.unsqueeze(-1)


def segment_softmax(values: Float[Tensor, " t"], cell: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Softmax among the tiles of each window."""
    n = int(cell.max()) + 1
    top = values.new_full((n,), -math.inf).scatter_reduce(0, cell, values.detach(), "amax")
    weight = (values - top[cell]).exp()
    return weight / segment_sum(weight, cell, n)[cell]


def from_corner(places: Int[Tensor, "t 2"], slide: Int[Tensor, " t"]) -> Int[Tensor, "t 2"]:
    """Count columns and rows of each slide's tiles from its first column and row."""
    corner = places.new_zeros(int(slide.max()) + 1, 2)
    corner = corner.scatter_reduce(0, slide.unsqueeze(-1).expand(-1, 2), places, "amin", include_self=False)
    return places - corner[slide]
