"""A determinantal point process: the set of tiles with the largest determinant of likeness, found greedily.

CDPruner (arXiv 2506.10967) without a text: every relevance r_i is 1, since a question's likeness to features that are
not in the text's space means nothing.

    L_ij = u_i . u_j,   v_i = L_ii,   and at each step  j = argmax v,
    e_i = (L_ji - sum over earlier a of c_aj c_ai) / sqrt(v_j),   c_t = e,   v -= e^2          O(n k d + n k^2)

The greedy maximum a posteriori of Chen et al. (NeurIPS 2018). All v are equal at first: the first tile is the one of
`fps`. Where the rank is spent (no v is above rounding: 32 machine epsilons), farthest points follow. Written from the
equations.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Selector
from slidesieve.compressors.untrained.fps import farthest_points, most_apart

SPENT = 32  # machine epsilons


class Determinantal(Selector):
    """Keep k tiles that span the largest volume."""

    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        return greedy_map(Directions(x), k)


def greedy_map(u: Directions, k: int) -> Int[Tensor, " k"]:
    """Name k tiles, in the order in which they are taken."""
    left = u.squares()
    spent = SPENT * torch.finfo(left.dtype).eps
    rows, taken = left.new_zeros(k, len(u)), [most_apart(u)]
    for t in range(k - 1):
        j = taken[-1]
        row = (u @ u[j] - rows[:t, j] @ rows[:t]) / left[j].clamp(min=spent).sqrt()
        rows[t], left = row, left - row.square()
        left[taken] = -math.inf
        if left.max() < spent:
            return farthest_points(u, k, torch.tensor(taken, device=left.device))
        taken.append(int(left.argmax()))
    return torch.tensor(taken, device=left.device)
