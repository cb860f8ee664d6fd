"""What the features of a bag look like: their norms and their spectrum."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from slidesieve.features.bag import Bag


def norms(bags: Iterable[Bag]) -> Float[np.ndarray, " n"]:
    """Return the length of every feature of some bags."""
    return np.concatenate([np.linalg.norm(bag.x, axis=1) for bag in bags])


def spectrum(bags: Iterable[Bag]) -> Float[np.ndarray, " d"]:
    """Return the share of variance along each principal axis of the features, largest first; it adds up to 1."""
    x = np.concatenate([bag.x for bag in bags]).astype(np.float64)
    variance = np.linalg.eigvalsh(np.cov(x.T))[::-1].clip(0)
    return variance / variance.sum()
