"""Masked pre-training of the LoC-Path-style compressor: most tokens are hidden, latents of the rest predict them.

LoC-Path (arXiv 2512.05391) says that its resampler is MAE-pretrained and no more; what follows is ours, after He et al.
2022. Of a slide's N' merged tokens a share rho is hidden; the visible ceil((1 - rho) N') alone are resampled into
latents Z. A decoder, thrown away afterwards, asks Z at every hidden place, seeing nothing else of the slide:

    q_t = mask token + place(t),   R times  q_t <- q_t + attention(q_t, Z),   q_t <- block of q_t alone,   p_t = W q_t

    loss = mean over hidden t of  |p_t - y_t|^2 / d  +  1 - cos(p_t, y_t),    y_t = LayerNorm(mean of window t)

The target is the window's plain mean, so that the merger cannot make its own task easier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from slidesieve.compressors.blocks import Block, CrossAttention
from slidesieve.compressors.locpath import LoCPath, Merged, place_code
from slidesieve.features.bag import Bag, Batch
from slidesieve.features.standardised import StandardisedFeatures
from slidesieve.models.checkpoints import statistics_batch, write_parts
from slidesieve.models.options import all_options_of, check_options, defaults_of, options_of


class Masked(NamedTuple):
    """Merged tokens that were resampled, those that were hidden, and what was predicted for these and was there."""

    visible: Merged
    hidden: Merged
    predicted: Float[Tensor, "b h d"]
    target: Float[Tensor, "b h d"]


class MaskedAutoencoder(StandardisedFeatures):
    """A compressor that is pre-trained, and the decoder that asks it; `forward` hides tokens by `generator`."""

    def __init__(
        self,
        compressor: LoCPath,
        d: int,
        *,
        mask_ratio: float,
        decoder_blocks: int,
        heads: int,
        seed: int,
        standardise: bool = True,
    ):
        super().__init__(d, standardise=standardise)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio: got {mask_ratio}; expected a share between 0 and 1")
        self.compressor, self.mask_ratio = compressor, mask_ratio
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(d, compressor.width, decoder_blocks, heads)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Masked:
        merged = self.compressor.merger(self.normalise(batch), batch.coords, batch.mask)
        seen = draw_visible(merged.mask, self.mask_ratio, generator)
        visible, hidden = keep(merged, seen), keep(merged, merged.mask & ~seen)
        predicted = self.decoder(self.compressor.resampler(visible), hidden.places)
        return Masked(visible, hidden, predicted, target_of(hidden))


class Decoder(nn.Module):
    """Predicts a token at a place from the latents alone."""

    def __init__(self, d: int, width: int, blocks: int, heads: int):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.reads = nn.ModuleList(CrossAttention(width, heads) for _ in range(blocks))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, d)

    def forward(self, latents: Float[Tensor, "b m w"], places: Float[Tensor, "b h 2"]) -> Float[Tensor, "b h d"]:
        asked = self.mask_token + place_code(places, latents.shape[-1]).to(latents.dtype)
        for read, block in zip(self.reads, self.blocks, strict=True):
            asked = block.attend_self(asked + read(asked, latents, None))
        return self.out(self.norm(asked))


def target_of(merged: Merged) -> Float[Tensor, "b w d"]:
    """What is to be predicted: each window's mean, layer-normalised; no gradient passes."""
    return F.layer_norm(merged.mean.detach(), merged.mean.shape[-1:])


def loss(masked: Masked) -> Float[Tensor, ""]:
    """Mean squared error and 1 - cosine, over the hidden tokens of all slides alike; 0 where nothing is hidden."""
    predicted, target = masked.predicted[masked.hidden.mask], masked.target[masked.hidden.mask]
    if not len(target):
        return masked.predicted.sum() * 0
    return F.mse_loss(predicted, target) + 1 - F.cosine_similarity(predicted, target, dim=-1).mean()


def draw_visible(mask: Bool[Tensor, "b w"], ratio: float, generator: torch.Generator | None) -> Bool[Tensor, "b w"]:
    """Choose ceil((1 - ratio) N') of each slide's N' tokens, all alike."""
    noise = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, 2)
    rank = noise.argsort(dim=1).argsort(dim=1)
    shown = ((1 - ratio) * mask.sum(-1, keepdim=True).double() - 1e-9).ceil()  # 0.25 x 4 may come out above 1
    return mask & (rank < shown)


def keep(merged: Merged, which: Bool[Tensor, "b w"]) -> Merged:
    """Only these tokens of each slide, in their order, padded at the end; `window` keeps the former numbers."""
    most = int(which.sum(-1).max())
    order = (~which).sort(dim=1, stable=True).indices[:, :most]

    def taken(values: Tensor) -> Tensor:
        index = order if values.dim() == 2 else order.unsqueeze(-1).expand(-1, -1, values.shape[-1])
        return values.gather(1, index)

    tokens, mean, sizes, places = (taken(part) for part in merged[:4])
    return Merged(tokens, mean, sizes, places, taken(which), merged.window)


def begin_autoencoder(
    bags: Mapping[str, Bag],
    *,
    options: dict,
    mask_ratio: float,
    decoder_blocks: int,
    seed: int,
    train_slides: list[str],
    standardise: bool = True,
) -> MaskedAutoencoder:
    """A fresh LoC-Path-style compressor and the decoder that pre-trains it; `options` are the compressor's."""
    d = next(iter(bags.values())).x.shape[1]
    check_options(all_options_of("locpath"), options, of="locpath")
    given = defaults_of("locpath") | options
    own = {name: given[name] for name in options_of(LoCPath)}
    shape = {"mask_ratio": mask_ratio, "decoder_blocks": decoder_blocks, "heads": own["resampler_heads"]}
    shape["standardise"] = standardise
    model = MaskedAutoencoder(LoCPath(d, own["latents"], seed=seed, **own), d, **shape, seed=seed)
    model.config = {"compressor": "locpath", "k": own["latents"], "seed": seed, "d": d, "options": own}
    model.config["standardise"] = standardise
    if standardise:
        model.fit_features(statistics_batch(bags, train_slides))
    return model


def save_pretrained(model: MaskedAutoencoder, folder: Path) -> None:
    """Write a pre-trained compressor as a checkpoint to start from; its decoder is thrown away."""
    ours = {name: value for name, value in model.state_dict().items() if not name.startswith("decoder.")}
    write_parts(ours, model.config, folder)
