"""Sieve: learned selection of some tiles, and means of what is left. Ours, not from any paper.

Selection keeps evidence and loses what a slide is composed of; clusters do the reverse. Of k tokens a share `means`
goes to clusters, k2 = round(means k), and k1 = k - k2 to tiles that SparseLearn's scorer keeps (see `sparselearn`):

    c(i)  = cluster of tile i among k2, by k-means of directions (see `untrained.kmeans`): nothing in it learns
    train:  tiles as SparseLearn's, alpha of budget k1;   mean_c = sum_{c(i) = c} (1 - alpha_i) x_i / sum (1 - alpha_i)
    test:   the k1 best tiles;                            the same with alpha 1 for what is kept, 0 for what is not

As the temperature falls the first becomes the second. A mean stands at the tile of what is left that is nearest to
it; a cluster of which all is kept gives no token, so that a slide may give fewer than k. Clusters are found once a
slide.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slidesieve.compressors.result import Compressed
from slidesieve.compressors.rows import by_rows, real_rows, stretches
from slidesieve.compressors.sparselearn import Attend, Denoise, Gate, SparseLearn
from slidesieve.compressors.untrained.alone import Directions, wide
from slidesieve.compressors.untrained.kmeans import clusters
from slidesieve.compressors.untrained.remembered import Remembered

LEFT = 1e-4  # tiles of a cluster; with less left of it there is no mean


class Sieve(SparseLearn):
    """Keep k1 tiles by a learned score, and the means of what is left of k2 clusters."""

    kind = "selects"
    fills = False
    stops_early = True  # its clusters, as k-means' do

    def __init__(
        self,
        d: int,
        k: int,
        *,
        means: float = 0.5,
        scorer_layers: int = 2,
        scorer_width: int | None = None,
        scorer_heads: int = 8,
        scorer_attention: Attend = "global",
        gate: Gate = "vp",
        denoiser: Denoise = "diagonal",
        tau: float = 1.0,
        seed: int = 0,
    ):
        kept, of_rest = split(k, means)
        super().__init__(
            d, kept, scorer_layers=scorer_layers, scorer_width=scorer_width, scorer_heads=scorer_heads,
            scorer_attention=scorer_attention, gate=gate, denoiser=denoiser, tau=tau, seed=seed,
        )  # fmt: skip
        self.n_means, self.once = of_rest, Remembered()

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, means: float = 0.5, **options) -> int:
        kept, of_rest = split(k, means)
        return n + min(of_rest, n) if training else min(kept, n) + min(of_rest, max(n - kept, 0))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        scores = self.scores(x, mask)
        of = self._clusters(x, mask)
        if self.training:
            alpha = self._shares(scores, mask, generator)
            tiles = self._soft(F.layer_norm(x, x.shape[-1:]), scores, alpha, mask, generator)
        else:
            tiles = self._hard(x, scores, mask)
            alpha = torch.zeros_like(scores).scatter(1, tiles.kept, tiles.mask.to(scores.dtype))
        of_rest = min(self.n_means, x.shape[1])
        if not of_rest:
            return tiles
        most = x.shape[1] + of_rest if self.training else min(self.k + of_rest, x.shape[1])
        return in_order(tiles, means_of(x, of, (1 - alpha) * mask, of_rest), most)

    def _clusters(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """The cluster of each tile, -1 on padding."""
        of = torch.full(mask.shape, -1, dtype=torch.long, device=x.device)
        for i, real in enumerate(mask):
            own = wide(real_rows(x[i], real))
            k = min(self.n_means, len(own))
            if k:
                (of[i, real],) = self.once([own], partial(_found, own, k, self.stops_early))
        return of


class Means(NamedTuple):
    """Means of what is left of each cluster: which there are, at which tile each stands, the share of each tile."""

    tokens: Float[Tensor, "b c d"]
    mask: Bool[Tensor, "b c"]
    places: Int[Tensor, "b c"]
    of: Int[Tensor, "b n"]
    share: Float[Tensor, "b n"]


def means_of(x: Float[Tensor, "b n d"], of: Int[Tensor, "b n"], left: Float[Tensor, "b n"], count: int) -> Means:
    """Average each of `count` clusters' tiles, normalised, by what is left of them; `of` is -1 for a tile in none."""
    holds = of.unsqueeze(-1) == torch.arange(count, device=x.device)
    weight = holds * left.unsqueeze(-1).to(x.dtype)
    total = weight.sum(1)
    normed = lambda part: F.layer_norm(part, part.shape[-1:])  # noqa: E731
    summed = sum(weight[:, some].transpose(1, 2) @ normed(x[:, some]) for some in stretches(x.shape[1]))
    mean = summed / total.clamp(min=LEFT).unsqueeze(-1)
    with torch.no_grad():

        def apart(part: Tensor) -> Tensor:  # up to what is a cluster's own
            z = normed(part)
            return z.square().sum(-1).unsqueeze(-1) - 2 * z @ mean.transpose(1, 2)

        far = by_rows(apart, x, dim=1)
        places = far.masked_fill(~(holds & (left > 0).unsqueeze(-1)), torch.inf).argmin(1)
        share = left.to(x.dtype) / total.clamp(min=LEFT).gather(1, of.clamp(min=0)) * (of >= 0)
    real = total > LEFT
    return Means(mean * real.unsqueeze(-1), real, places * real, of, share)


def in_order(tiles: Compressed, means: Means, most: int) -> Compressed:
    """Tiles and means as one row of up to `most` tokens, in the order of their places; a mean after its tile."""
    m, c = tiles.mask.shape[1], means.mask.shape[1]
    mask, places = torch.cat([tiles.mask, means.mask], 1), torch.cat([tiles.places, means.places], 1)
    is_mean = torch.arange(m + c, device=places.device) >= m
    order = torch.where(mask, 2 * places + is_mean, torch.iinfo(places.dtype).max).argsort(1)
    rank = order.argsort(1)
    tokens = torch.cat([tiles.tokens, means.tokens], 1)
    kept = torch.cat([tiles.kept, torch.full_like(means.places, -1)], 1)
    (slide, token, tile), share = tiles.weights.indices(), tiles.weights.values()
    from_slide, from_tile = (means.mask.gather(1, means.of.clamp(min=0)) & (means.share > 0)).nonzero(as_tuple=True)
    where = torch.stack(
        [
            torch.cat([slide, from_slide]),
            torch.cat([rank[slide, token], rank[from_slide, m + means.of[from_slide, from_tile]]]),
            torch.cat([tile, from_tile]),
        ]
    )
    values = torch.cat([share, means.share[from_slide, from_tile].to(share.dtype)])
    size, order = (len(mask), most, tiles.weights.shape[-1]), order[:, :most]
    places, mask = places.gather(1, order), mask.gather(1, order)
    return tiles._replace(
        tokens=tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])),
        mask=mask,
        positions=places * mask,
        weights=torch.sparse_coo_tensor(where, values.detach(), size, check_invariants=False),
        kept=kept.gather(1, order),
        places=places,
    )


def split(k: int, means: float) -> tuple[int, int]:
    """How many of k tokens are kept tiles, and how many means; at least one is a tile. Raises ValueError."""
    if not 0 <= means < 1:
        raise ValueError(f"sieve: got means = {means}; expected a share of the tokens, 0 or more and below 1")
    of_rest = min(round(means * k), k - 1)
    return k - of_rest, of_rest


def _found(x: Float[Tensor, "n d"], k: int, stops_early: bool) -> tuple[Int[Tensor, " n"]]:
    return (clusters(Directions(x), k, stops_early=stops_early),)
