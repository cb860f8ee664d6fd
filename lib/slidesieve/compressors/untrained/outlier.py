"""Outliers: the k tiles that lie farthest from the mean of their slide, the cheapest guess of what is rare on it.

    r_i = |x_i - mean(x)|      the k largest; among equals the earlier tile     O(n d)

Ours to ask: no paper proposes it, and where evidence is odd by construction a selection that is learnt must beat it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slidesieve.compressors.rows import by_rows
from slidesieve.compressors.untrained.alone import Selector


class Outliers(Selector):
    """Keep the k tiles that are least like the mean of all."""

    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        mean = x.mean(0)
        far = by_rows(lambda part: torch.linalg.vector_norm(part - mean, dim=-1), x)
        return far.argsort(descending=True, stable=True)[:k]
