"""Facility location: the k tiles that together stand for all others best (the visual term of MMTok, arXiv 2508.18264).

    Q_lj = softmax over tiles j of u_l . u_j / 0.2       l: landmarks, all tiles, or 2,048 of them drawn by a seed
    F(S) = sum_l max over j in S of Q_lj                 greedy: within 1 - 1/e of the largest

F is submodular, so a gain never grows: a heap of old gains is looked through from its top (lazy greedy), and the result
is that of the plain one. Columns of Q are made when they are asked for: memory O(n). Written from the equations.
"""

import heapq

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Selector, drawn

LANDMARKS = 2_048
AT_ONCE = 32  # old gains that are found anew together
BLOCK = 2**25  # logits at a time: 128 MB
TEMPERATURE = 0.2


class Coverage(Selector):
    """Keep k tiles that the others are like."""

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__(d, k)
        self.seed = seed

    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        return facilities(Directions(x), k, drawn(x, LANDMARKS, self.seed))


def facilities(u: Directions, k: int, landmarks: Int[Tensor, " l"]) -> Int[Tensor, " k"]:
    """Name k tiles, in the order in which they are taken; among equals the first."""
    marks = u[landmarks]
    gain, spread = _served(u, marks)
    gains = [(-worth, j, 0) for j, worth in enumerate(gain.tolist())]
    heapq.heapify(gains)
    best, taken = torch.zeros_like(spread), []
    while len(taken) < k:
        old = []
        while gains and gains[0][2] < len(taken) and len(old) < AT_ONCE:
            old.append(heapq.heappop(gains)[1])
        if not old:
            taken.append(heapq.heappop(gains)[1])
            best = torch.maximum(best, _columns(u, marks, spread, taken[-1:])[0])
            continue
        more = (_columns(u, marks, spread, old) - best).clamp(min=0).sum(-1)
        for j, worth in zip(old, more.tolist(), strict=True):
            heapq.heappush(gains, (-worth, j, len(taken)))
    return torch.tensor(taken, device=u.x.device)


def _served(u: Directions, marks: Float[Tensor, "l d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " l"]]:
    """The sum over landmarks of Q_lj for each tile j, and the logarithm of each landmark's divisor."""
    gain, spread = torch.zeros_like(u.scale), []
    for some in marks.split(max(1, BLOCK // len(u))):
        logits = (u @ some.T) / TEMPERATURE
        spread.append(logits.logsumexp(0))
        gain += logits.sub_(spread[-1]).exp_().sum(-1)
    return gain, torch.cat(spread)


def _columns(
    u: Directions, marks: Float[Tensor, "l d"], spread: Float[Tensor, " l"], tiles: list[int]
) -> Float[Tensor, "t l"]:
    """Q_lj of some tiles j."""
    return (u[torch.tensor(tiles, device=spread.device)] @ marks.T / TEMPERATURE - spread).exp()
