"""What every compressor is, and what it returns, whatever the method."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Kind = Literal["passes through", "selects", "merges", "pools", "resamples", "sees nothing"]


class Compressor(nn.Module):
    """What is true of a method stands in its class; `forward(x, coords, mask, generator)` returns `Compressed`."""

    kind: Kind
    softens = False  # all tiles softly in training, k of them hard at inference
    routes = False  # tiles to slots
    is_pretrained = False  # by masked tokens, before it is trained with a language model
    fusion = "slidesieve.models.fusion.Projector"  # what carries its tokens into a language model
    fills = True  # a slide of k tiles or more gives k tokens; else fewer, at times
    width = 0  # of its tokens, once made; 0: that of the tiles

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        """Count the tokens that it hands on of n tiles; `options` are its own, and may hold others'."""
        return min(k, n)

    @classmethod
    def token_width(cls, d: int, **options) -> int:
        """Width of its tokens, where tiles are d wide."""
        return d

    @classmethod
    def has_k(cls) -> bool:
        return cls.kind in ("selects", "merges", "pools", "resamples")

    @classmethod
    def keeps_tiles(cls) -> bool:
        """Say whether tokens are tiles, with places of their own in the slide."""
        return cls.kind in ("passes through", "selects")

    @classmethod
    def has_places(cls) -> bool:
        """Say whether each token stands at a tile's place: the tile itself, or what was merged around it."""
        return cls.keeps_tiles() or cls.kind == "merges"


class Compressed(NamedTuple):
    """The m visual tokens of each slide, and where they came from.

    `positions` are the RoPE positions that the tokens claim, `span` the number of positions they occupy: a kept tile
    claims its row in the bag, and text follows after all n (`models.positions` then says what it is in the slide).
    `weights[b, m, n]` is the share of tile n in token m; it is sparse, or a stride-0 view for means, so that no n x m
    matrix is ever stored, and None for latents, which read every tile anew. `scores` says how much each tile is worth
    keeping, where the method has an opinion; `kept` which tile each token is, -1 for one that mixes some, None where
    all do; `places` at which tile's place each stands, None where they have none.
    """

    tokens: Float[Tensor, "b m d"]
    mask: Bool[Tensor, "b m"]
    positions: Int[Tensor, "b m"]
    span: Int[Tensor, " b"]
    weights: Tensor | None
    aux_loss: Float[Tensor, ""]
    scores: Float[Tensor, "b n"] | None = None
    kept: Int[Tensor, "b m"] | None = None
    places: Int[Tensor, "b m"] | None = None


def keep_tiles(
    x: Float[Tensor, "b n d"], kept: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"], mask: Bool[Tensor, "b n"]
) -> Compressed:
    """Return the tiles named by `kept` (ascending indices) unchanged, at their original positions."""
    tokens = x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1])) * valid.unsqueeze(-1)
    return Compressed(
        tokens=tokens,
        mask=valid,
        positions=kept * valid,
        span=mask.sum(-1),
        weights=one_tile_each(kept, valid, torch.ones_like(kept, dtype=torch.float32), n=x.shape[1]),
        aux_loss=x.new_zeros(()),
        kept=kept,
        places=kept,
    )


def one_tile_each(
    tile: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"], weight: Float[Tensor, "b m"], *, n: int
) -> Tensor:
    """Sparse (b m n) weights of tokens that each come from a single tile."""
    slide, token = valid.nonzero(as_tuple=True)
    where = torch.stack([slide, token, tile[slide, token]])
    size = (*valid.shape, n)
    return torch.sparse_coo_tensor(
        where, weight.detach()[slide, token], size, check_invariants=False, is_coalesced=True
    )
