"""Farthest points: each tile kept is the one least like those kept before (the rule of DivPrune, arXiv 2503.02175).

    first = argmin_i u_i . mean(u)
    then  = argmax_i min over kept j of (1 - u_i . u_j)          O(n k d), memory O(n)

The order of the tiles changes nothing, but for tiles that are equal. Written from the equations.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Selector


class FarthestPoints(Selector):
    """Keep k tiles that are as unlike each other as can be."""

    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        return farthest_points(Directions(x), k)


def most_apart(u: Directions) -> int:
    """The tile that is least like the mean of all."""
    return int((u @ u.mean()).argmin())


def farthest_points(u: Directions, k: int, first: Int[Tensor, " m"] | None = None) -> Int[Tensor, " k"]:
    """Name k tiles, in the order in which they are taken; those of `first` are taken already."""
    taken = [most_apart(u)] if first is None else first.tolist()
    far = (1 - u @ u[taken].T).amin(-1)
    far[taken] = -math.inf
    while len(taken) < k:
        taken.append(int(far.argmax()))
        far = torch.minimum(far, 1 - u @ u[taken[-1]])
        far[taken[-1]] = -math.inf
    return torch.tensor(taken, device=u.x.device)
