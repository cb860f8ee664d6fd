"""A long bag a stretch of tiles at a time, so that what is asked of each tile makes no second copy of them all."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROWS = 16_384  # tiles at a time: 32 MB of 512 numbers each


def by_rows(f: Callable[..., Tensor], *parts: Tensor, dim: int = 0) -> Tensor:
    """What `f` makes of each stretch of the parts' rows, joined; `dim`: where rows lie, in parts and result alike."""
    n = parts[0].shape[dim]
    if n <= ROWS:
        return f(*parts)
    found = (f(*some) for some in zip(*(part.split(ROWS, dim) for part in parts), strict=True))
    if torch.is_grad_enabled():
        return torch.cat(list(found), dim)
    joined = None  # filled as it comes: joined in the end, it would be there twice
    for some, part in zip(stretches(n), found, strict=True):
        if joined is None:
            joined = part.new_empty(*part.shape[:dim], n, *part.shape[dim + 1 :])
        joined.narrow(dim, some.start, part.shape[dim]).copy_(part)
    return joined


def stretches(n: int) -> Iterator[slice]:
    """The stretches of n rows, one after the other."""
    return (slice(first, first + ROWS) for first in range(0, n, ROWS))


def real_rows(x: Float[Tensor, "n d"], real: Bool[Tensor, " n"]) -> Float[Tensor, "m d"]:
    """The rows that are no padding: the very tensor where all are."""
    return x if real.all() else x[real]
