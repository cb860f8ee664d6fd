"""Tile features as everything learned gets them: standardised per dimension, then layer-normalised.

    x <- LN((x - mean) / std),    mean and std (d) of training slides' tiles, LN over a tile's d numbers, no weights

Departures
- Neither step is in any of the papers: SlideChat, SparseLearn, TC-SSA and LoC-Path take features as the encoder gives
  them. Here both stand in front of every method and every floor alike, so that no method wins by its scale.
- Classifiers of bags (`mil`) take the first step alone: their heads have a layer norm where they need one, and their
  rivals, made for an encoder's own features, have none.
- `standardise = False` leaves both out, for all methods: slide encoder and compressor get the file's own numbers.
  SparseLearn keeps a layer norm of its own behind it, which its gate needs (see `compressors.sparselearn`).
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from slidesieve.features.bag import Batch


class Moments(NamedTuple):
    """Each dimension's mean and standard deviation (d), the latter at least 1e-6; arrays or tensors."""

    mean: Float[np.ndarray, " d"] | Float[Tensor, " d"]
    std: Float[np.ndarray, " d"] | Float[Tensor, " d"]

    @classmethod
    def of(cls, tiles: Iterable[Float[np.ndarray, "n d"]]) -> Self:
        """Those of all tiles, a bag at a time, summed in float64."""
        n, total, square = 0, 0.0, 0.0
        for x in tiles:
            x = x.astype(np.float64)
            n, total, square = n + len(x), total + x.sum(0), square + (x**2).sum(0)
        mean = total / n
        std = np.sqrt(np.maximum(square / n - mean**2, 0))
        return cls(mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32))

    def standardise(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (x - self.mean) / self.std


class StandardisedFeatures(nn.Module):
    """A model that normalises its tiles, the same for every method; the statistics are training slides' and saved."""

    def __init__(self, d: int, *, standardise: bool = True):
        super().__init__()
        self.standardise = standardise
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))

    def fit_features(self, batch: Batch) -> None:
        """Take each dimension's mean and standard deviation from these tiles (training slides only)."""
        moments = Moments.of([batch.x[batch.mask].numpy()])
        self.feature_mean.copy_(torch.from_numpy(moments.mean))
        self.feature_std.copy_(torch.from_numpy(moments.std))

    def normalise(self, batch: Batch) -> Float[Tensor, "b n d"]:
        if not self.standardise:
            return batch.x
        x = Moments(self.feature_mean, self.feature_std).standardise(batch.x)
        return F.layer_norm(x, x.shape[-1:])
