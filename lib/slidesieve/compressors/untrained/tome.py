"""Token merging (ToMe, arXiv 2210.09461): the most similar pairs merge, again and again, until k are left.

    tokens alternate between two sides; each of the first side looks for its likeliest of the second (cosine);
    the r = min(half, what is too many) most similar pairs merge, weighted by the tiles that they hold

What is alike is looked for among a half of all pairs, in blocks: time O(n^2 d), memory O(n). The sides follow the order
of the bag, so that order matters, as in the paper. Written from the equations.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Groups, Merger

BLOCK = 1_024


class TokenMerging(Merger):
    """Hand on k means of tiles that were merged pair by pair."""

    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        of = merged(x, k)
        return Groups(of, 1 / torch.bincount(of)[of])


def merged(x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " n"]:
    """The token of each tile."""
    of = torch.arange(len(x), device=x.device)
    sums = x
    while len(sums) > k:
        likeness, partner = _likeliest(Directions(sums))  # a mean's direction is that of its sum
        goes = likeness.argsort(descending=True, stable=True)[: min(len(sums) - k, len(sums) // 2)]
        target = torch.arange(len(sums), device=x.device)
        target[2 * goes] = 2 * partner[goes] + 1
        target = target.unique(return_inverse=True)[1]
        sums = sums.new_zeros(len(sums) - len(goes), x.shape[-1]).index_add(0, target, sums)
        of = target[of]
    return of


def _likeliest(u: Directions) -> tuple[Float[Tensor, " p"], Int[Tensor, " p"]]:
    """For each even token the odd one that is most like it, and how much."""
    odd, scale = u.x[1::2].T, u.scale[1::2]
    found = [((u[first : first + 2 * BLOCK : 2] @ odd).mul_(scale)).max(-1) for first in range(0, len(u), 2 * BLOCK)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
