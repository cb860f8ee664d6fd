"""K-means: k means of tiles that are alike, whatever they are worth.

    centres = farthest points of u, then 10 times: each tile to the nearest centre, each centre to its tiles' mean
    token = the mean of its tiles' features                                                  O(10 n k d), memory O(n k)

A cluster that loses its tiles takes the one that lies farthest from its own centre, so that k stay. The order of the
tiles changes nothing, but for tiles that are equal.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Groups, Merger
from slidesieve.compressors.untrained.fps import farthest_points

STEPS = 10


class KMeans(Merger):
    """Hand on the means of k clusters."""

    stops_early = True  # once no tile changes its cluster; what it costs at most is counted without

    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        of = clusters(Directions(x), k, stops_early=self.stops_early)
        return Groups(of, 1 / torch.bincount(of, minlength=k)[of])


def clusters(u: Directions, k: int, steps: int = STEPS, *, stops_early: bool = True) -> Int[Tensor, " n"]:
    """The cluster of each tile, by Lloyd's steps from farthest points."""
    of = _nearest(u, u[farthest_points(u, k)])
    for _ in range(steps):
        before, of = of, _nearest(u, u.sums(of, k) / torch.bincount(of, minlength=k).unsqueeze(-1))
        if stops_early and torch.equal(of, before):  # and so it would stay
            break
    return of


def _nearest(u: Directions, centres: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    far = centres.square().sum(-1) - 2 * (u @ centres.T)  # |u|^2 is the same for all centres
    near, of = far.min(-1)
    near = near + u.squares()
    count = torch.bincount(of, minlength=len(centres))
    for empty in (count == 0).nonzero().squeeze(-1):
        j = torch.where(count[of] > 1, near, -1).argmax()
        count[of[j]] -= 1
        of[j], near[j] = empty, 0
        count[empty] = 1
    return of
