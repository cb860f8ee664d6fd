"""Facility location: the k tiles that together stand for all others best (the visual term of MMTok, arXiv 2508.18264).

    Q_lj = softmax over tiles j of u_l . u_j / 0.2       l: landmarks, all tiles, or 2,048 of them drawn by a seed
    F(S) = sum_l max over j in S of Q_lj                 greedy: within 1 - 1/e of the largest

F is submodular, so a gain never grows: a heap of old gains is looked through from its top (lazy greedy), and the result
is that of the plain one. Memory O(n): of a long bag, columns of Q are made when they are asked for. Written from the
equations.
"""

import heapq

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Selector, drawn

LANDMARKS = 2_048
AT_ONCE = 32  # old gains that are found anew together
BLOCK = 2**25  # of Q at a time: 128 MB
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
    served = _Served(u, u[landmarks])
    gain = served.sums()
    gains = [(-worth, j, 0) for j, worth in enumerate(gain.tolist())]
    heapq.heapify(gains)
    best, taken = torch.zeros_like(served.spread), []
    while len(taken) < k:
        old = []
        while gains and gains[0][2] < len(taken) and len(old) < AT_ONCE:
            old.append(heapq.heappop(gains)[1])
        if not old:
            taken.append(heapq.heappop(gains)[1])
            best = torch.maximum(best, served[taken[-1:]][0])
            continue
        more = (served[old] - best).clamp(min=0).sum(-1)
        for j, worth in zip(old, more.tolist(), strict=True):
            heapq.heappush(gains, (-worth, j, len(taken)))
    return torch.tensor(taken, device=u.x.device)


class _Served:
    """Q_lj, tile by tile: kept where it is small, else its columns are made anew when they are asked for."""

    def __init__(self, u: Directions, marks: Float[Tensor, "l d"]):
        self.u, self.marks = u, marks
        self.blocks = marks.split(max(1, BLOCK // len(u)))
        self.kept = self._of(0).softmax(0) if len(self.blocks) == 1 else None
        several = range(len(self.blocks)) if self.kept is None else ()
        self.spread = torch.cat([self._of(b).logsumexp(0) for b in several]) if several else u.x.new_zeros(len(marks))

    def _of(self, block: int) -> Float[Tensor, "n b"]:
        return (self.u @ self.blocks[block].T).div_(TEMPERATURE)

    def sums(self) -> Float[Tensor, " n"]:
        """How much of all landmarks each tile serves."""
        if self.kept is not None:
            return self.kept.sum(-1)
        spread = self.spread.split(len(self.blocks[0]))
        return sum(self._of(b).sub_(spread[b]).exp_().sum(-1) for b in range(len(self.blocks)))

    def __getitem__(self, tiles: list[int]) -> Float[Tensor, "t l"]:
        which = torch.tensor(tiles, device=self.spread.device)
        if self.kept is not None:
            return self.kept[which]
        return (self.u[which] @ self.marks.T / TEMPERATURE - self.spread).exp()
