"""A small masked autoencoder, and slides whose neighbouring tiles are alike."""

import numpy as np

from slidesieve.compressors.locpath import LoCPath
from slidesieve.features.bag import make_bag
from slidesieve.training.masked import MaskedAutoencoder

D, STEP = 13, 224


def bag(name: str, columns: int, rows: int, *, seed: int = 0):
    rng = np.random.default_rng([seed, columns, rows])
    place = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    ramp = place @ rng.standard_normal((2, D)) / 5  # neighbours are alike, so that there is something to learn
    return make_bag(name, ramp + 0.3 * rng.standard_normal((len(place), D)), place * STEP, {})


def model(*, mask_ratio: float = 0.75, seed: int = 0) -> MaskedAutoencoder:
    compressor = LoCPath(D, 4, latents=7, latent_width=24, resampler_heads=3, resampler_blocks=1, seed=seed)
    return MaskedAutoencoder(compressor, D, mask_ratio=mask_ratio, decoder_blocks=2, heads=3, seed=seed)
