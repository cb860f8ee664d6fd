"""Tile features as everything learned gets them: standardised per dimension, then layer-normalised.

    x <- LN((x - mean) / std),    mean and std (d) of training slides' tiles, LN over a tile's d numbers, no weights

Departures
- Neither step is in any of the papers: SlideChat, SparseLearn, TC-SSA and LoC-Path take features as the encoder gives
  them. Here both stand in front of every method and every floor alike, so that no method wins by its scale.
- `standardise = False` leaves both out, for all methods: slide encoder and compressor get the file's own numbers.
  SparseLearn keeps a layer norm of its own behind it, which its gate needs (see `compressors.sparselearn`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from slidesieve.features.bag import Batch


class StandardisedFeatures(nn.Module):
    """A model that normalises its tiles, the same for every method; the statistics are training slides' and saved."""

    def __init__(self, d: int, *, standardise: bool = True):
        super().__init__()
        self.standardise = standardise
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))

    def fit_features(self, batch: Batch) -> None:
        """Take each dimension's mean and standard deviation from these tiles (training slides only)."""
        tiles = batch.x[batch.mask]
        self.feature_mean.copy_(tiles.mean(0))
        self.feature_std.copy_(tiles.std(0, correction=0).clamp(min=1e-6))

    def normalise(self, batch: Batch) -> Float[Tensor, "b n d"]:
        if not self.standardise:
            return batch.x
        x = (batch.x - self.feature_mean) / self.feature_std
        return F.layer_norm(x, x.shape[-1:])
