"""Cropr on slides: learned queries score tiles and crop a stretch of them, stage after stage.

Cropr (2411.13574) lets a query with a task of its own score tokens between the blocks of an image encoder. SLICEChat
(2609.24894) takes it to slides, and crops contiguous stretches of a Hilbert curve through the tiles' places. Stage s of
S, one query q_s of h heads, over the tiles that are left:

    e_i  = sum over heads of q_s . K x_i / sqrt(d/h)                      the score, before its softmax
    z_s  = o + MLP(norm(o)),  o = heads of softmax(q_s . K x / sqrt(d/h)) V x     the pooled token
    crop the stretch of n_s - n_{s+1} tiles, in the curve's order, with the least sum of e
    n_s  = round(n (k/n)^(s/S)),  so that k are left

As published, what is cropped passes no gradient, and a query learns by the task of its own pooled token. Departures:

- That task is here what all methods here learn from, the answers: the pooled tokens are read in the place of tiles on
  some slides of a step (see `attention`). SLICEChat's task is contrastive, on captions; there is no image encoder
  between the stages here, which see features as they are.
- The share kept by a stage follows from k; published is a rate.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.attention import Attended, Attending

BITS = 20  # of a place in each direction: level-0 px


class Cropr(Attending):
    """Keep the k tiles of a curve through the slide that are left when the worst stretch is cropped, stage by stage."""

    def __init__(
        self, d: int, k: int, *, crop_stages: int = 4, query_heads: int = 8, pooled: float = 0.5, seed: int = 0
    ):
        super().__init__(d, k, pooled=pooled)
        if crop_stages < 1 or d % query_heads:
            raise ValueError(
                f"cropr: got crop_stages = {crop_stages}, query_heads = {query_heads}; expected 1 or more, and a "
                f"divisor of the tiles' width {d}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.queries = nn.ModuleList(Query(d, query_heads) for _ in range(crop_stages))

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, crop_stages: int = 4, **options) -> int:
        return max(min(k, n), crop_stages) if training else min(k, n)

    def attend(self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Attended:
        left, pooled, shares, scores = mask, [], [], torch.zeros_like(x[..., 0], dtype=torch.float32)
        order = torch.where(mask, hilbert(coords), torch.iinfo(torch.long).max).sort(dim=-1, stable=True).indices
        for s, query in enumerate(self.queries, start=1):
            e, share, token = query(x, left)
            pooled.append(token)
            shares.append(share)
            scores = torch.where(left, e.detach().float(), scores)
            left = cropped(scores, left, order, _keep(mask.sum(-1), self.k, s / len(self.queries)))
        n = x.shape[1]
        kept = torch.where(left, torch.arange(n, device=x.device), n).sort(dim=-1).values[:, : min(self.k, n)]
        return Attended(torch.stack(pooled, 1), torch.stack(shares, 1), scores, kept.clamp(max=n - 1), kept < n)


class Query(nn.Module):
    """One query of several heads over tiles: logits summed over heads, mean shares, and what it has gathered."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads, self.q = heads, nn.Parameter(torch.randn(d) * d**-0.5)
        self.k, self.v, self.out = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False), nn.Linear(d, d)
        self.norm = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"], Float[Tensor, "b d"]]:
        h = self.heads
        asked = (self.q.view(h, -1, 1) * self.k.weight.view(h, -1, x.shape[-1])).sum(1)  # K^T q, a row a head
        e = torch.einsum("bnd,hd->bhn", x, asked) / (x.shape[-1] / h) ** 0.5
        share = e.masked_fill(~mask.unsqueeze(1), torch.finfo(e.dtype).min).softmax(-1) * mask.unsqueeze(1)
        read = self.v.weight.view(h, -1, x.shape[-1])
        gathered = torch.einsum("bhd,hwd->bhw", share @ x, read).flatten(1)
        o = self.out(gathered)
        return e.sum(1), share.mean(1), o + self.mlp(self.norm(o))


def cropped(
    scores: Float[Tensor, "b n"], left: Bool[Tensor, "b n"], order: Int[Tensor, "b n"], keep: Int[Tensor, " b"]
) -> Bool[Tensor, "b n"]:
    """Take, of what is left in `order`, the stretch with the least sum of scores, so that `keep` are left."""
    result = left.clone()
    for i, count in enumerate(left.sum(-1).tolist()):
        size = count - int(keep[i])
        if size <= 0:
            continue
        line = order[i][left[i][order[i]]]
        sums = F.pad(scores[i, line].double().cpu().cumsum(0), (1, 0))  # a GPU adds them in any order
        start = int((sums[size:] - sums[:-size]).argmin())
        result[i, line[start : start + size]] = False
    return result


def hilbert(coords: Int[Tensor, "... 2"]) -> Int[Tensor, "..."]:
    """How far along a Hilbert curve of 2^BITS x 2^BITS px each place lies."""
    x, y = coords.long().clamp(0, 2**BITS - 1).unbind(-1)
    along = torch.zeros_like(x)
    for bit in range(BITS - 1, -1, -1):
        side = 1 << bit
        right, up = (x & side) > 0, (y & side) > 0
        along = along + side * side * ((3 * right) ^ up.long())
        x, y = x & (side - 1), y & (side - 1)
        mirrored = right & ~up  # the last quarter runs backwards, the first sideways
        x, y = torch.where(mirrored, side - 1 - x, x), torch.where(mirrored, side - 1 - y, y)
        x, y = torch.where(up, x, y), torch.where(up, y, x)
    return along


def _keep(count: Int[Tensor, " b"], k: int, share: float) -> Int[Tensor, " b"]:
    """How many of `count` tiles a stage leaves."""
    few = count.clamp(max=k).double()
    return (count * (few / count.clamp(min=1)) ** share).round().long().maximum(count.clamp(max=k))
