"""Tile features as everything learned gets them: standardised per dimension, then layer-normalised."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.batch import Batch


class StandardisedFeatures(nn.Module):
    """A model that normalises its tiles, the same for every method; the statistics are training slides' and saved."""

    def __init__(self, d: int):
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))

    def fit_features(self, batch: Batch) -> None:
        """Take each dimension's mean and standard deviation from these tiles (training slides only)."""
        tiles = batch.x[batch.mask]
        self.feature_mean.copy_(tiles.mean(0))
        self.feature_std.copy_(tiles.std(0, correction=0).clamp(min=1e-6))

    def normalise(self, batch: Batch) -> Float[Tensor, "b n d"]:
        x = (batch.x - self.feature_mean) / self.feature_std
        return F.layer_norm(x, x.shape[-1:])
