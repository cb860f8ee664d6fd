"""Token merging (ToMe, arXiv 2210.09461): the most similar pairs merge, again and again, until k are left.

    tokens alternate between two sides; each of the first side looks for its likeliest of the second (cosine);
    the r = min(half, what is too many) most similar pairs merge, weighted by the tiles that they hold

What is alike is looked for among a half of all pairs, in blocks: time O(n^2 d), memory O(n). The sides follow the order
of the bag, so that order matters, as in the paper. Written from the equations.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Groups, Merger, directions

BLOCK = 1_024


class TokenMerging(Merger):
    """Hand on k means of tiles that were merged pair by pair."""

    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        of = merged(x, k)
        return Groups(of, 1 / torch.bincount(of)[of])


def merged(x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " n"]:
    """The token of each tile."""
    of = torch.arange(len(x), device=x.device)
    size, sums = torch.ones(len(x), 1, dtype=x.dtype, device=x.device), x
    while len(sums) > k:
        u = directions(sums / size)
        likeness, partner = _likeliest(u[::2], u[1::2])
        goes = likeness.argsort(descending=True, stable=True)[: min(len(sums) - k, len(sums) // 2)]
        target = torch.arange(len(sums), device=x.device)
        target[2 * goes] = 2 * partner[goes] + 1
        target = target.unique(return_inverse=True)[1]
        left = len(sums) - len(goes)
        size = size.new_zeros(left, 1).index_add(0, target, size)
        sums = sums.new_zeros(left, x.shape[-1]).index_add(0, target, sums)
        of = target[of]
    return of


def _likeliest(a: Float[Tensor, "p d"], b: Float[Tensor, "q d"]) -> tuple[Float[Tensor, " p"], Int[Tensor, " p"]]:
    found = [(block @ b.T).max(-1) for block in a.split(BLOCK)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
