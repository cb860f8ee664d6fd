"""A long bag a stretch of tiles at a time, so that what is asked of each tile makes no second copy of them all."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROWS = 32_768  # tiles at a time: 64 MB of 512 numbers each


def by_rows(f: Callable[..., Tensor], *parts: Tensor, dim: int = 0) -> Tensor:
    """What `f` makes of each stretch of the parts' rows, joined; `dim`: where rows lie, in parts and result alike."""
    if parts[0].shape[dim] <= ROWS:
        return f(*parts)
    return torch.cat([f(*some) for some in zip(*(part.split(ROWS, dim) for part in parts), strict=True)], dim)


def stretches(n: int) -> Iterator[slice]:
    """The stretches of n rows, one after the other."""
    return (slice(first, first + ROWS) for first in range(0, n, ROWS))


def real_rows(x: Float[Tensor, "n d"], real: Bool[Tensor, " n"]) -> Float[Tensor, "m d"]:
    """The rows that are no padding: the very tensor where all are."""
    return x if real.all() else x[real]
