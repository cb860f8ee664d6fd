"""What all rivals without training share: each slide's real tiles are looked at alone, and no gradient chooses.

A choice or a grouping depends on a slide's own tiles, whatever the padding and the other slides of its batch. Gradients
reach a token from the tiles that it is made of.

    u_i = x_i / |x_i|    the features as the model standardises them, as directions

A bag may have 10^6 tiles: what is made of it on the way is a few numbers a tile, never a second copy of its features.
"""

from abc import ABC, abstractmethod
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slidesieve.compressors.result import Compressed, Compressor, keep_tiles
from slidesieve.compressors.rows import by_rows, real_rows, stretches
from slidesieve.compressors.untrained.hashed import tile_hash
from slidesieve.compressors.untrained.remembered import Remembered

SHORTEST = 1e-12  # a length below it counts as this


class Untrained(Compressor, ABC):
    """A compressor without a weight; `seed` is for those that draw."""

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__()
        self.k = k
        self.once = Remembered()  # a slide comes many times, and what is made of it is the same each time


class Selector(Untrained):
    """Keep k tiles, named by `choose`."""

    kind = "selects"

    @abstractmethod
    def choose(self, x: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
        """Name k of n >= k tiles, in any order."""

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        kept = torch.zeros(len(x), min(self.k, x.shape[1]), dtype=torch.long, device=x.device)
        valid = torch.zeros_like(kept, dtype=torch.bool)
        for i, real in enumerate(mask):
            tiles = real.nonzero().squeeze(-1)
            if len(tiles) > self.k:
                own = wide(real_rows(x[i], real))
                (chosen,) = self.once([own], partial(self._chosen, own))
                tiles = tiles[chosen]
            kept[i, : len(tiles)], valid[i, : len(tiles)] = tiles, True
        return keep_tiles(x, kept, valid, mask)

    def _chosen(self, x: Float[Tensor, "n d"]) -> tuple[Int[Tensor, " k"]]:
        return (self.choose(x, self.k).sort().values,)


class Groups(NamedTuple):
    """A token for each number in `of`, the sum of its tiles by `share`; tiles of -1 are in none."""

    of: Int[Tensor, " n"]
    share: Float[Tensor, " n"]


class Merger(Untrained):
    """Hand on sums of tiles, grouped by `group`; a token stands where the tile nearest to its group's mean lies."""

    kind = "merges"

    @abstractmethod
    def group(self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"], k: int) -> Groups:
        """Put n > k tiles into at most k groups, numbered from 0 without a gap."""

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        b, n = mask.shape
        m = min(self.k, n)
        tokens, parts = [], []
        place = torch.zeros(b, m, dtype=torch.long, device=x.device)
        valid = torch.zeros_like(place, dtype=torch.bool)
        for i, real in enumerate(mask):
            tiles = real.nonzero().squeeze(-1)
            own = real_rows(x[i], real)
            given = (wide(own), coords[i, tiles])
            of, share, nearest = self.once(given, partial(self._grouped, *given))
            order = nearest.argsort()  # tokens stand in the order of their places
            rank, g = order.argsort(), len(nearest)
            inside = (of >= 0).nonzero().squeeze(-1)
            token, weight = rank[of[inside]], share[inside]
            summed = own.new_zeros(g, len(tiles)).index_put((token, inside), weight.to(own.dtype))
            tokens.append(F.pad(summed @ own, (0, 0, 0, m - g)))
            place[i, :g], valid[i, :g] = tiles[nearest[order]], True
            parts.append((torch.stack([torch.full_like(token, i), token, tiles[inside]]), weight.float()))
        where, weights = torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts])
        return Compressed(
            tokens=torch.stack(tokens),
            mask=valid,
            positions=place * valid,
            span=mask.sum(-1),
            weights=torch.sparse_coo_tensor(where, weights, (b, m, n), check_invariants=False),
            aux_loss=x.new_zeros(()),
            places=place,
        )

    def _grouped(
        self, x: Float[Tensor, "n d"], coords: Int[Tensor, "n 2"]
    ) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Int[Tensor, " g"]]:
        """The groups of a slide's tiles, and the tile at which each stands."""
        if len(x) > self.k:
            groups = self.group(x, coords, self.k)
            return *groups, medoids(x, groups.of)
        each = torch.arange(len(x), device=x.device)
        return each, torch.ones(len(x), device=x.device), each


def wide(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Features without a gradient, in float32 or wider."""
    return x.detach() if x.dtype == torch.float64 else x.detach().float()


class Directions:
    """Tiles scaled to length 1, one of no length stays 0: u of the equations, (n d), of which no copy is held."""

    def __init__(self, x: Float[Tensor, "n d"]):
        self.x = x
        self.lengths = by_rows(lambda part: torch.linalg.vector_norm(part, dim=-1), x)
        self.scale = 1 / self.lengths.clamp(min=SHORTEST)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, which: int | slice | Tensor) -> Float[Tensor, "... d"]:
        return self.x[which] * self.scale[which].unsqueeze(-1)

    def __matmul__(self, other: Float[Tensor, "d ..."]) -> Float[Tensor, "n ..."]:
        return (self.x @ other).mul_(self.scale if other.dim() == 1 else self.scale.unsqueeze(-1))

    def mean(self) -> Float[Tensor, " d"]:
        return sum(self[some].sum(0) for some in stretches(len(self))) / len(self)

    def squares(self) -> Float[Tensor, " n"]:
        """|u|^2: 1, or 0."""
        return (self.lengths * self.scale).square()

    def sums(self, of: Int[Tensor, " n"], k: int) -> Float[Tensor, "k d"]:
        """The sum over each group of tiles."""
        sums = self.x.new_zeros(k, self.x.shape[-1])
        for some in stretches(len(self)):
            sums.index_add_(0, of[some], self[some])
        return sums


def medoids(x: Float[Tensor, "n d"], of: Int[Tensor, " n"]) -> Int[Tensor, " g"]:
    """The tile of each group that is nearest to the mean of the group; among equals the first."""
    holds = of == torch.arange(int(of.max()) + 1, device=x.device).unsqueeze(-1)
    mean = holds.to(x.dtype) @ x / holds.sum(-1, keepdim=True)
    far = by_rows(lambda part: part.square().sum(-1), x) - 2 * mean @ x.T  # up to what is the same for all of a group
    return far.masked_fill(~holds, torch.inf).argmin(-1)


def drawn(x: Float[Tensor, "n d"], count: int, seed: int) -> Int[Tensor, " m"]:
    """Draw up to `count` tiles by a hash of their features and a seed, whatever their order; ascending."""
    if len(x) <= count:
        return torch.arange(len(x), device=x.device)
    return tile_hash(x, seed).argsort(stable=True)[:count].sort().values
