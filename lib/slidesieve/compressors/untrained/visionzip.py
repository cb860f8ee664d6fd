"""VisionZip (arXiv 2412.04467) without a class token: salient tiles stay, the others gather at evenly spaced ones.

    a_j = mean over landmarks l of softmax over tiles j of x_l . x_j / sqrt(d)     ours: tiles have no class token
    the round(54/64 k) tiles of largest a stay                                     the paper's share
    of those left, in the order of the bag, every (n_left // k_left)-th is a target; the others join the most alike

Symbols: dominant tokens -> those that stay, contextual tokens -> the targets. `joined` is "published", the target plus
the mean of those that joined it, or "mean", the mean of target and joined. Targets follow the order of the bag.
Landmarks: all tiles, or 2,048 of them drawn by a seed. Written from the equations.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.untrained.alone import Directions, Groups, Merger, drawn
from slidesieve.compressors.untrained.coverage import LANDMARKS

Joined = Literal["published", "mean"]
STAY = 54 / 64
BLOCK = 2**25  # logits at a time: 128 MB


class VisionZip(Merger):
    """Hand on the salient tiles, and sums of what is left."""

    def __init__(self, d: int, k: int, *, joined: Joined = "published", seed: int = 0):
        super().__init__(d, k)
        self.joined, self.seed = joined, seed

    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        stay = salience(x, drawn(x, LANDMARKS, self.seed)).argsort(descending=True, stable=True)[: round(STAY * k)]
        of = torch.full((len(x),), -1, device=x.device)
        of[stay] = torch.arange(len(stay), device=x.device)
        left = (of < 0).nonzero().squeeze(-1)
        share = x.new_ones(len(x))
        if (targets := k - len(stay)) == 0:
            return Groups(of, share)
        target = left[:: len(left) // targets][:targets]
        of[target] = len(stay) + torch.arange(targets, device=x.device)
        joins = (of < 0).nonzero().squeeze(-1)
        u = Directions(x)
        of[joins] = len(stay) + (u @ u[target].T)[joins].argmax(-1)
        joined = torch.bincount(of[joins], minlength=k)
        share[joins] = 1 / joined[of[joins]].to(x.dtype)
        if self.joined == "mean":
            share = 1 / torch.bincount(of)[of].to(x.dtype)
        return Groups(of, share)


def salience(x: Float[Tensor, "n d"], landmarks: Int[Tensor, " l"]) -> Float[Tensor, " n"]:
    """How much attention each tile gets of the landmarks, if features are queries and keys; sums to 1."""
    parts = (x[some] @ x.T / x.shape[-1] ** 0.5 for some in landmarks.split(max(1, BLOCK // len(x))))
    return sum(logits.softmax(-1).sum(0) for logits in parts) / len(landmarks)
