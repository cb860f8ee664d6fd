"""Operations of a compressor that has no closed form here, as PyTorch's counter sees them: none is taken for free.

It is run on noise of three lengths. Operations grow with tiles and with pairs of tiles, so that a parabola through
the three counts holds for every length; its square term is what lies between pairs.
"""

from functools import lru_cache

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slidesieve.compressors.registry import COMPRESSORS

SHORTEST = 64


@lru_cache(maxsize=256)
def counted(name: str, *, d: int, k: int, n: int, training: bool) -> tuple[int, int]:
    """Operations on n tiles of width d that are linear in n, and those between pairs; options are the defaults."""
    lengths = max(SHORTEST, 2 * k) * np.arange(1, 4)
    counts = [_count(name, d=d, k=k, n=int(length), training=training) for length in lengths]
    square, slope, constant = np.polyfit(lengths, counts, 2)
    pairs = max(round(square * n**2), 0)
    return max(round(square * n**2 + slope * n + constant) - pairs, 0), pairs


def _count(name: str, *, d: int, k: int, n: int, training: bool) -> int:
    generator = torch.Generator().manual_seed(0)
    made = COMPRESSORS[name](d, k, seed=0).train(training)
    x, steps = torch.randn(1, n, d, generator=generator), 224 * torch.arange(n)
    coords, mask = torch.stack([steps % 2240, steps // 10], -1)[None], torch.ones(1, n, dtype=torch.bool)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        made(x, coords, mask, generator)
    return counter.get_total_flops()
