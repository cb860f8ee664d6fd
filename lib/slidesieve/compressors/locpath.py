"""LoC-Path-style: neighbouring tiles are merged, then resampled into a fixed set of latents (after arXiv 2512.05391).

Of the paper, abstracts, a caption and one efficiency table are public. Its stated structure is kept: sparse token
merger -> MAE-pretrained resampler -> query-conditioned importance scorer over latents -> cross-attention adapters in a
few decoder layers, and no visual prefix. What is inside each part is our own design, not the authors' method. This file
holds the first two parts; `training.masked` pre-trains them, `models.cross_attention` holds the other two.

Merger, over the occupied w x w windows of the tile grid, mu a window's mean (w = 1: every tile a window of its own):

    a_j = softmax_j( (W_q mu)^T (W_k x_j) / sqrt d ),    t = mu + W_o W_v sum_j a_j x_j      W_o = 0 at first: mean

Resampler, M learned latents Z, R pre-norm blocks, n_t the tiles behind token t (proportional attention):

    Z <- Z + attention(Z, W t + place(t); + log n_t),   Z <- Z + attention(Z, Z),   Z <- Z + FFN(Z)

With `merge_above` = rho, a tile whose cosine with its window's mean is below rho stays a token of its own. Where no
tile has a neighbour on a grid, as in a bag without known places, none is merged: the next tile in a file is no
neighbour.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.blocks import Block, CrossAttention
from slidesieve.compressors.result import Compressed, Compressor
from slidesieve.compressors.rows import by_rows, real_rows, stretches
from slidesieve.compressors.windows import (
    from_corner,
    grid_places,
    segment_mean,
    segment_softmax,
    split_off,
    windows,
)

LATENTS, LATENT_WIDTH = 128, 512


class Merged(NamedTuple):
    """The occupied windows of each slide, row by row: what is in them, how many tiles, where.

    Places are columns and rows of tiles, from the slide's own corner. `mean` is the window's plain mean, which only
    pre-training asks for; `window` the number of each tile's window (0 on padding).
    """

    tokens: Float[Tensor, "b w d"]
    mean: Float[Tensor, "b w d"] | None
    sizes: Int[Tensor, "b w"]
    places: Float[Tensor, "b w 2"]
    mask: Bool[Tensor, "b w"]
    window: Int[Tensor, "b n"]


class LoCPath(Compressor):
    """Merge tiles in windows and resample them into `latents` tokens, whatever n.

    `k` is how many of them the language model's adapters read, chosen for each question by `models.cross_attention`.
    Without a question, as in bag classification, all of them are handed on.
    """

    kind = "resamples"
    is_pretrained = True
    fusion = "slidesieve.models.cross_attention.LatentReader"

    def __init__(
        self,
        d: int,
        k: int,
        *,
        window: int = 2,
        merge_above: float = -1.0,
        latents: int = LATENTS,
        latent_width: int = LATENT_WIDTH,
        resampler_blocks: int = 4,
        resampler_heads: int = 8,
        seed: int = 0,
    ):
        super().__init__()
        if latent_width % (4 * resampler_heads) or latents < 1 or window < 1:
            raise ValueError(
                f"locpath: got {latents} latents of width {latent_width}, {resampler_heads} heads, window {window}; "
                "expected at least one latent, a window of at least 1, a width that 4 x heads divides"
            )
        self.k, self.width = k, latent_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.merger = Merger(d, window, merge_above)
            self.resampler = Resampler(d, latent_width, latents, resampler_blocks, resampler_heads)

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, latents: int = LATENTS, **options) -> int:
        return latents

    @classmethod
    def token_width(cls, d: int, *, latent_width: int = LATENT_WIDTH, **options) -> int:
        return latent_width

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        merged = self.merger(x, coords, mask)._replace(mean=None)
        read, bias = self.resampler.placed(merged)
        del merged  # no merged token is held while they are read
        latents = self.resampler.resampled(read, bias)
        step = torch.arange(latents.shape[1], device=x.device).expand(len(x), -1)
        return Compressed(
            tokens=latents,
            mask=torch.ones_like(step, dtype=torch.bool),
            positions=step,
            span=torch.full_like(step[:, 0], latents.shape[1]),
            weights=None,
            aux_loss=x.new_zeros(()),
        )


class Merger(nn.Module):
    """Sparse token merger: one token an occupied window, in time and memory linear in the number of tiles."""

    def __init__(self, d: int, window: int, merge_above: float):
        super().__init__()
        self.window, self.merge_above = window, merge_above
        self.query, self.key, self.value, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Merged:
        tiles, slide = real_rows(x.flatten(0, 1), mask.flatten()), mask.nonzero()[:, 0]
        places, placed = grid_places(coords, mask)
        cell = windows(places, slide, self.window)
        if not placed.all():
            cell = split_off(cell, ~placed)
        mean = segment_mean(tiles, cell)
        if self.merge_above > -1:
            alone = by_rows(lambda x, c: F.cosine_similarity(x, mean[c], dim=-1), tiles, cell) < self.merge_above
            cell = split_off(cell, alone)
            mean = segment_mean(tiles, cell)
        # (W_q mu)^T (W_k x) = (W_k^T W_q mu)^T x, and W_v sum a x = sum a W_v x: matrices meet windows, never tiles
        share = segment_softmax(self._asked(tiles, mean, cell), cell)
        pooled = torch.zeros_like(mean)
        for some in stretches(len(tiles)):
            pooled.index_add_(0, cell[some], share[some].unsqueeze(-1) * tiles[some])
        tokens = by_rows(lambda mu, p: mu + self.out(self.value(p)), mean, pooled)
        del pooled
        return _by_slide(tokens, mean, segment_mean(from_corner(places, slide), cell), cell, slide, mask)

    def _asked(self, tiles: Float[Tensor, "t d"], mean: Float[Tensor, "w d"], cell: Int[Tensor, " t"]) -> Tensor:
        """How well each tile answers its window's mean."""
        asked = by_rows(lambda mu: self.query(mu) @ self.key.weight / math.sqrt(mu.shape[-1]), mean)
        return by_rows(lambda x, c: (asked[c] * x).sum(-1), tiles, cell)


class Resampler(nn.Module):
    """Learned latents that read any number of placed tokens."""

    def __init__(self, d: int, width: int, latents: int, blocks: int, heads: int):
        super().__init__()
        self.lift = nn.Linear(d, width)
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.blocks = nn.ModuleList(ReadingBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, merged: Merged) -> Float[Tensor, "b m w"]:
        return self.resampled(*self.placed(merged))

    def placed(self, merged: Merged) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b 1 1 n"]]:
        """What the latents read: tokens with their places, and what each adds to the attention's logits."""

        def lifted(tokens: Tensor, places: Tensor) -> Tensor:
            wide = self.lift(tokens)
            return wide + place_code(places, wide.shape[-1]).to(wide.dtype)

        tokens = by_rows(lifted, merged.tokens, merged.places, dim=1)
        bias = merged.sizes.clamp(min=1).to(tokens.dtype).log()
        return tokens, bias.masked_fill(~merged.mask, torch.finfo(bias.dtype).min)[:, None, None]

    def resampled(self, tokens: Float[Tensor, "b n w"], bias: Float[Tensor, "b 1 1 n"]) -> Float[Tensor, "b m w"]:
        """The latents once they have read."""
        z = self.latents.expand(len(tokens), -1, -1)
        for block in self.blocks:
            z = block(z, tokens, bias)
        return self.norm(z)


class ReadingBlock(nn.Module):
    """Pre-norm: latents read tokens, then each other, then a feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.read, self.mix = CrossAttention(width, heads), Block(width, heads)

    def forward(
        self, z: Float[Tensor, "b m w"], tokens: Float[Tensor, "b n w"], bias: Float[Tensor, "b 1 1 n"]
    ) -> Float[Tensor, "b m w"]:
        return self.mix.attend_all(z + self.read(z, tokens, bias), None)


def place_code(places: Float[Tensor, "b w 2"], width: int) -> Float[Tensor, "b w width"]:
    """Sines and cosines of column and row; periods 2 pi to 2 pi 10^4 tiles."""
    rate = torch.logspace(0, -4, width // 4, device=places.device)
    angle = (places.unsqueeze(-1) * rate).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def _by_slide(tokens, mean, places, cell, slide, mask) -> Merged:
    """Windows of all slides in one list to windows of each slide, padded at the end."""
    owner = torch.empty_like(cell[: len(tokens)]).scatter_(0, cell, slide)  # every tile of a window writes the same
    count = owner.bincount(minlength=len(mask))
    first = count.cumsum(0) - count
    column = torch.arange(len(tokens), device=tokens.device) - first[owner]
    b, w = len(mask), int(count.max())

    def padded(values: Tensor) -> Tensor:
        if b == 1:
            return values.unsqueeze(0)
        return values.new_zeros(b, w, *values.shape[1:]).index_put((owner, column), values)

    window = torch.zeros_like(mask, dtype=torch.long)
    window[mask] = column[cell]
    real = torch.arange(w, device=tokens.device) < count.unsqueeze(-1)
    return Merged(padded(tokens), padded(mean), padded(cell.bincount()), padded(places), real, window)
