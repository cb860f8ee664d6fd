"""How well hidden tokens are predicted, beside what needs no learning: the nearest visible token, and their mean."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from slidesieve.compressors.locpath import Merged
from slidesieve.features.bag import Bag
from slidesieve.training.masked import Masked, MaskedAutoencoder, target_of
from slidesieve.training.masked_loop import Settings, hide_and_predict

GUESSES = ("predicted", "nearest", "mean")


class Picture(NamedTuple):
    """One slide's merged tokens: where they lie (column, row), which were hidden, the truth, and what was predicted."""

    places: Float[np.ndarray, "w 2"]
    hidden: Bool[np.ndarray, " w"]
    target: Float[np.ndarray, "w d"]
    predicted: Float[np.ndarray, "w d"]


def cosines(
    model: MaskedAutoencoder, bags: Mapping[str, Bag], slides: Sequence[str], settings: Settings, *, seed: int
) -> pd.DataFrame:
    """Return slide_id, n_tokens, n_hidden and the mean cosine of each of GUESSES with a slide's hidden tokens.

    A slide of which nothing could be hidden has no row.
    """
    rows = []
    for some, masked in hide_and_predict(model, bags, slides, settings, seed=seed):
        guesses = {"predicted": masked.predicted, "nearest": nearest(masked), "mean": mean_of_visible(masked)}
        for i, slide in enumerate(some):
            real = masked.hidden.mask[i]
            n_hidden, n_visible = int(real.sum()), int(masked.visible.mask[i].sum())
            if n_hidden:
                alike = [
                    F.cosine_similarity(guesses[g][i, real], masked.target[i, real], dim=-1).mean() for g in GUESSES
                ]
                rows.append((slide, n_hidden + n_visible, n_hidden, *map(float, alike)))
    return pd.DataFrame(rows, columns=["slide_id", "n_tokens", "n_hidden", *GUESSES])


def nearest(masked: Masked) -> Float[Tensor, "b h d"]:
    """Guess that a hidden token is the visible one that lies nearest (the first of equals)."""
    apart = torch.cdist(masked.hidden.places.double(), masked.visible.places.double())
    first = apart.masked_fill(~masked.visible.mask.unsqueeze(1), torch.inf).argmin(-1)
    known = target_of(masked.visible)
    return known.gather(1, first.unsqueeze(-1).expand(-1, -1, known.shape[-1]))


def mean_of_visible(masked: Masked) -> Float[Tensor, "b 1 d"]:
    """Guess the mean of the slide's visible tokens everywhere."""
    return _mean(target_of(masked.visible), masked.visible).expand(masked.predicted.shape)


def pictures(
    model: MaskedAutoencoder, bags: Mapping[str, Bag], slides: Sequence[str], settings: Settings, *, seed: int
) -> dict[str, Picture]:
    """A picture of each of some slides."""
    batches = hide_and_predict(model, bags, slides, settings, seed=seed)
    return {slide: picture(masked, i) for some, masked in batches for i, slide in enumerate(some)}


def picture(masked: Masked, row: int) -> Picture:
    """One slide of a batch; visible tokens stand for their own prediction."""
    seen, gone = masked.visible.mask[row], masked.hidden.mask[row]
    visible, hidden = target_of(masked.visible)[row, seen], masked.target[row, gone]
    places = torch.cat([masked.visible.places[row, seen], masked.hidden.places[row, gone]])
    flags = torch.arange(len(places)) >= int(seen.sum())
    both = torch.cat([visible, hidden]), torch.cat([visible, masked.predicted[row, gone]])
    return Picture(places.cpu().numpy(), flags.numpy(), *(part.cpu().numpy() for part in both))


def _mean(values: Float[Tensor, "b w d"], merged: Merged) -> Float[Tensor, "b 1 d"]:
    real = merged.mask.unsqueeze(-1).to(values.dtype)
    return (values * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
