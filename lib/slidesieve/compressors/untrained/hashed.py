"""A draw that depends on a tile and a seed alone: neither padding, batch-mates nor the order of tiles change it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.rows import by_rows

PLACE, SEED, AVALANCHE = (73_856_093, 19_349_663), 83_492_791, 0x45D9F3B


def tile_hash(
    x: Float[Tensor, "... n d"], seed: int, coords: Int[Tensor, "... n 2"] | None = None
) -> Int[Tensor, "... n"]:
    """Mix each tile's features, its place if given, and a seed into 31 bits."""
    place = torch.arange(1, x.shape[-1] + 1, device=x.device)
    bits = lambda some: ((some.float() * 4096).round().long() * place).sum(-1)  # noqa: E731
    mixed = by_rows(bits, x.flatten(0, -2)).view(x.shape[:-1]) + seed * SEED
    if coords is not None:
        mixed = mixed + coords[..., 0] * PLACE[0] + coords[..., 1] * PLACE[1]
    for _ in range(2):  # rounds of an integer avalanche
        mixed = (mixed ^ (mixed >> 16)) * AVALANCHE & 0x7FFFFFFF
    return mixed ^ (mixed >> 16)
