"""The pathologist's own baseline: the k tiles with most attention of gated ABMIL (Ilse et al. 2018, Eq. 8 and 9).

    e_i = w^T (tanh(V x_i) * sigmoid(U x_i)),   a = softmax(e),   z = sum_i a_i x_i
    train:  LM([P(z); text]) for some slides of a step, LM([P(x[top-k of e]); text]) for the others
    test:   LM([P(x[top-k of e]); text])

Attention learns from the answers through the pooled token z, as it does in a classifier; which tiles are kept passes no
gradient. The projector and the language model learn to read tiles on the other slides. So one training does what
otherwise takes a first one of a classifier and a second one on what it attends to: that is ours, as is the even split
(`pooled`). What is kept after both is the usual thing.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.result import Compressed, Compressor, keep_tiles
from slidesieve.compressors.topk import hard_topk


class Attended(NamedTuple):
    """Pooled tokens, the share of each tile in each, each tile's score, and which tiles are kept, ascending."""

    pooled: Float[Tensor, "b p d"]
    shares: Float[Tensor, "b p n"]
    scores: Float[Tensor, "b n"]
    kept: Int[Tensor, "b m"]
    valid: Bool[Tensor, "b m"]


class Attending(Compressor, ABC):
    """Keep k tiles by an attention that learns through pooled tokens, on a share `pooled` of the slides of a step."""

    kind = "selects"
    fills = False  # where pooled tokens are read

    def __init__(self, d: int, k: int, *, pooled: float = 0.5):
        super().__init__()
        if not 0 < pooled < 1:
            raise ValueError(f"attention: got pooled = {pooled}; expected a share of the slides, above 0 and below 1")
        self.k, self.pooled = k, pooled

    @abstractmethod
    def attend(self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Attended:
        """Pool and choose."""

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 scores tie, and ties decide what is kept
            found = self.attend(x.to(torch.promote_types(x.dtype, torch.float32)), coords, mask)
        tiles = keep_tiles(x, found.kept, found.valid, mask)._replace(scores=found.scores)
        if not self.training:
            return tiles
        drawn = torch.rand(len(x), generator=generator, device=x.device)
        return read_pooled(tiles, found, drawn < self.pooled)


class AttentionTopK(Attending):
    """Keep the k tiles that gated attention weighs most."""

    def __init__(self, d: int, k: int, *, attention_width: int = 128, pooled: float = 0.5, seed: int = 0):
        super().__init__(d, k, pooled=pooled)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.v, self.u = nn.Linear(d, attention_width), nn.Linear(d, attention_width)
            self.w = nn.Linear(attention_width, 1, bias=False)

    def attend(self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Attended:
        e = self.w(self.v(x).tanh() * self.u(x).sigmoid()).squeeze(-1)
        shares = masked_softmax(e, mask).unsqueeze(1)
        scores = e.detach().float()
        return Attended(shares @ x, shares, scores, *hard_topk(scores, self.k, mask))


def masked_softmax(e: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Shares that sum to 1 over real tiles; 0 on padding, and on a slide of padding alone."""
    return e.masked_fill(~mask, torch.finfo(e.dtype).min).softmax(-1) * mask


def read_pooled(tiles: Compressed, found: Attended, which: Bool[Tensor, " b"]) -> Compressed:
    """Put the pooled tokens of some slides in the place of their tiles; each stands at the tile with most share."""
    most, here = max(found.shares.shape[1], tiles.mask.shape[1]), which.unsqueeze(-1)
    peak, order = found.shares.detach().argmax(-1).sort(dim=-1, stable=True)
    pooled = found.pooled.gather(1, order.unsqueeze(-1).expand_as(found.pooled))
    shares = found.shares.detach().gather(1, order.unsqueeze(-1).expand_as(found.shares)) * here.unsqueeze(-1)
    some = (tiles.mask.any(-1, keepdim=True)).expand_as(peak)  # no tile, no token
    return tiles._replace(
        tokens=torch.where(here.unsqueeze(-1), _wide(pooled * some.unsqueeze(-1), most), _wide(tiles.tokens, most)),
        mask=torch.where(here, _wide(some, most), _wide(tiles.mask, most)),
        positions=torch.where(here, _wide(peak, most), _wide(tiles.positions, most)),
        weights=_shares(tiles.weights, shares, ~which, most),
        kept=torch.where(here, -1, _wide(tiles.kept, most)),
        places=torch.where(here, _wide(peak, most), _wide(tiles.places, most)),
    )


def _wide(values: Tensor, m: int) -> Tensor:
    """Pad the second dimension to m with zeros."""
    more = values.new_zeros(len(values), m - values.shape[1], *values.shape[2:])
    return torch.cat([values, more], 1)


def _shares(tiles: Tensor, shares: Float[Tensor, "b p n"], stay: Bool[Tensor, " b"], m: int) -> Tensor:
    """Sparse (b m n) weights: those of tiles where they stay, and attention's shares elsewhere."""
    own, value = tiles.indices(), tiles.values()
    here = stay[own[0]]
    where = shares.nonzero(as_tuple=True)
    indices = torch.cat([own[:, here], torch.stack(where)], 1)
    values = torch.cat([value[here], shares[where].to(value.dtype)])
    return torch.sparse_coo_tensor(indices, values, (len(stay), m, shares.shape[-1]), check_invariants=False)
