"""Facility location: the k tiles that together stand for all others best (the visual term of MMTok, arXiv 2508.18264).

    Q_lj = softmax over tiles j of u_l . u_j / 0.2       l: landmarks, all tiles, or 2,048 of them drawn by a seed
    F(S) = sum_l max over j in S of Q_lj                 greedy: within 1 - 1/e of the largest

F is submodular, so a gain never grows: a heap of old gains is looked through from its top (lazy greedy), and the result
is that of the plain one. Memory O(2,048 n). Written from the equations.
"""

import heapq

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Selector, directions, drawn

LANDMARKS = 2_048
TEMPERATURE = 0.2


class Coverage(Selector):
    """Keep k tiles that the others are like."""

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__(d, k)
        self.seed = seed

    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        return facilities(directions(x), k, drawn(x, LANDMARKS, self.seed))


def facilities(u: Float[Tensor, "n d"], k: int, landmarks: Int[Tensor, " l"]) -> Int[Tensor, " k"]:
    """Name k tiles, in the order in which they are taken; among equals the first."""
    served = ((u[landmarks] @ u.T) / TEMPERATURE).softmax(-1).T.contiguous()
    gains = [(-gain, j, 0) for j, gain in enumerate(served.sum(-1).tolist())]
    heapq.heapify(gains)
    best, taken = torch.zeros_like(served[0]), []
    while len(taken) < k:
        _, j, seen = heapq.heappop(gains)
        if seen == len(taken):
            taken.append(j)
            best = torch.maximum(best, served[j])
        else:
            heapq.heappush(gains, (-float((served[j] - best).clamp(min=0).sum()), j, len(taken)))
    return torch.tensor(taken, device=u.device)
