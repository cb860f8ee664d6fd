"""SlideChat's slide encoder (arXiv 2410.11761), as its paper has it and as it was released.

SlideChat is `LongNet` in front of the compressor `AllTiles`: n tiles give n tokens. The same encoder may stand in front
of any other compressor; SparseLearn selects from its output.

    O_i, lse_i = attention within segments of w_i tokens, each head keeping every r_i-th token      (LongNet, eq. 5-8)
    O = sum_i softmax_i(lse_i) O_i                                                                   (LongNet, eq. 9-11)

2 layers, width d (512 in the paper), 8 heads, feed-forward 2 d, pre-norm with sub-layer norms, final norm; dropout and
drop-path 0.1; segments 1,024 ... 16,384 with dilations 1 ... 16; no position encoding.

As released (`LongNetReleased`) no tile looks at another: the bag goes in as (n, 1, d), a batch of n sequences of one
tile, where (1, n, d) was meant. A softmax over one key is 1 and every dilated branch holds the token itself or nothing,
so attention is the value path alone:

    x <- x + W_o LN(W_v LN(x)),    x <- x + W_2 LN(gelu(W_1 LN(x))),    LN at the end

Departures
- The reference pads a segment's tail with zeros that take part in its softmax; here absent tokens get no weight, so
  neither padding nor batch-mates change a slide's output. Slides are therefore encoded one at a time.
- Features are standardised and layer-normalised before the encoder, as they are for every method here
  (`standardise`, see `features.standardised`).
- The release's scores are those of its own network. `slide_encoder` has both: longnet and longnet_released.
- The release computes queries and keys, which cancel; here they are not computed. Their parameters stay, with a
  gradient of zero, so that the number of parameters and their names are those of the paper's network.
- As released, the projections to queries, keys and values keep nn.Linear's own first weights, and drop-path draws once
  a tile, each tile being a sequence; `LongNet` has sub-LN's rule, and draws once a slide.
- The release trains the whole language model in stage 2 (`train_lm=full`); the default here is LoRA.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.registry import Rows

SLIDE_ENCODERS = Rows(
    {
        "none": "",
        "longnet": "slidesieve.models.longnet.LongNet",
        "longnet_released": "slidesieve.models.longnet.LongNetReleased",
    }
)
SEGMENTS = (1024, 2048, 4096, 8192, 16384)
DILATIONS = (1, 2, 4, 8, 16)
ABSENT = -1e8  # log-sum-exp of a branch that skips a token


class LongNet(nn.Module):
    """Let a slide's tiles look at each other at linear cost: tokens (b n d) to tokens (b n d), zero on padding."""

    def __init__(
        self,
        d: int,
        *,
        layers: int = 2,
        heads: int = 8,
        segments: tuple[int, ...] = SEGMENTS,
        dilations: tuple[int, ...] = DILATIONS,
        dropout: float = 0.1,
        drop_path: float = 0.1,
    ):
        super().__init__()
        if d % heads:
            raise ValueError(
                f"slide encoder: feature width {d} is not a multiple of {heads} heads; use features of such a width"
            )
        rates = [drop_path * i / max(layers - 1, 1) for i in range(layers)]
        branches = tuple(zip(segments, dilations, strict=True))
        self.layers = nn.ModuleList(self.layer_class()(d, heads, branches, dropout, rate) for rate in rates)
        self.norm = nn.LayerNorm(d)
        for layer in self.layers:
            layer.draw_weights(gain=math.sqrt(math.log(2 * layers)))

    @staticmethod
    def layer_class() -> type["Layer"]:
        return Layer

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        encoded = torch.zeros_like(x)
        encoded[mask] = torch.cat([self._encode(tiles[real]) for tiles, real in zip(x, mask, strict=True)]).to(x.dtype)
        return encoded

    def _encode(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Layer(nn.Module):
    """Pre-norm dilated attention and feed-forward, each with a second norm before its last linear map (sub-LN)."""

    def __init__(self, d: int, heads: int, branches: tuple[tuple[int, int], ...], dropout: float, drop_path: float):
        super().__init__()
        self.heads, self.branches, self.drop_path = heads, branches, drop_path
        self.dropout = nn.Dropout(dropout)
        self.norm_attention, self.norm_mixed = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm_ffn, self.norm_hidden = nn.LayerNorm(d), nn.LayerNorm(2 * d)
        self.widen, self.narrow = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def draw_weights(self, *, gain: float) -> None:
        """Xavier initialisation; `gain` scales all but queries and keys (sub-LN's rule, sqrt(log 2L) for L layers)."""
        query_key, value = self.qkv.weight.split([2 * self.out.in_features, self.out.in_features])
        for part in query_key.chunk(2):
            nn.init.xavier_uniform_(part)
        for weight in (value, self.out.weight, self.widen.weight, self.narrow.weight):
            nn.init.xavier_uniform_(weight, gain=gain)
        for linear in (self.qkv, self.out, self.widen, self.narrow):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        x = x + self._dropped(self.out(self.norm_mixed(self._mixed(self.norm_attention(x)))))
        hidden = self.norm_hidden(F.gelu(self.widen(self.norm_ffn(x))))
        return x + self._dropped(self.narrow(hidden))

    def _mixed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        q, k, v = rearrange(self.qkv(x), "n (three h e) -> three n h e", three=3, h=self.heads)
        return rearrange(dilated_attention(q, k, v, self.branches), "n h e -> n (h e)")

    def _dropped(self, branch: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Dropout of numbers, and of the whole branch at once (stochastic depth, one draw a slide)."""
        if not (self.training and self.drop_path):
            return self.dropout(branch)
        keep = 1 - self.drop_path
        return self.dropout(branch) * (torch.rand((), device=branch.device) < keep) / keep


def dilated_attention(
    q: Float[Tensor, "n h e"],
    k: Float[Tensor, "n h e"],
    v: Float[Tensor, "n h e"],
    branches: tuple[tuple[int, int], ...],
) -> Float[Tensor, "n h e"]:
    """Mix the outputs of all (segment, dilation) branches by their shares of the softmax mass; linear in n."""
    parts = [_branch(q, k, v, segment=min(w, len(q)), dilation=r) for w, r in branches]
    share = branch_weights(torch.stack([lse for _, lse in parts]))
    return sum(s.unsqueeze(-1).to(out.dtype) * out for s, (out, _) in zip(share, parts, strict=True))


def branch_weights(lse: Float[Tensor, "branch n h"]) -> Float[Tensor, "branch n h"]:
    """Share of each branch in each token's softmax mass; constants to the gradient, as in the reference."""
    return lse.detach().softmax(dim=0)


def head_offsets(heads: int, dilation: int) -> Int[Tensor, " h"]:
    """First token that each head keeps: heads are split into `dilation` groups, group g starting at token g."""
    return torch.arange(heads) // math.ceil(heads / dilation)


class LongNetReleased(LongNet):
    """Encode each tile by itself: tokens (b n d) to tokens (b n d), zero on padding."""

    def __init__(self, d: int, *, layers: int = 2, heads: int = 8, dropout: float = 0.1, drop_path: float = 0.1):
        super().__init__(d, layers=layers, heads=heads, dropout=dropout, drop_path=drop_path)

    @staticmethod
    def layer_class() -> type[Layer]:
        return TokenwiseLayer

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        encoded = torch.zeros_like(x)
        encoded[mask] = self._encode(x[mask]).to(x.dtype)
        return encoded


class TokenwiseLayer(Layer):
    """A layer of sequences of one tile."""

    def draw_weights(self, *, gain: float) -> None:
        """Xavier initialisation, scaled by `gain`, of all but queries, keys and values."""
        for linear in (self.out, self.widen, self.narrow):
            nn.init.xavier_uniform_(linear.weight, gain=gain)
            nn.init.zeros_(linear.bias)

    def _mixed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        d = x.shape[-1]
        return F.linear(x, self.qkv.weight[-d:], self.qkv.bias[-d:])

    def _dropped(self, branch: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if not (self.training and self.drop_path):
            return self.dropout(branch)
        keep = 1 - self.drop_path
        return self.dropout(branch) * (torch.rand(len(branch), 1, device=branch.device) < keep) / keep


def _branch(q: Tensor, k: Tensor, v: Tensor, *, segment: int, dilation: int) -> tuple[Tensor, Tensor]:
    """One branch's output (n h e) and log-sum-exp (n h): whole segments together, then the shorter last one."""
    whole = len(q) // segment * segment
    outs, lses = [], []
    for start, stop, length in ((0, whole, segment), (whole, len(q), len(q) - whole)):
        if start < stop:
            segments = (rearrange(x[start:stop], "(s t) h e -> s t h e", t=length) for x in (q, k, v))
            out, lse = _within_segments(*segments, dilation)
            outs.append(out.flatten(0, 1))
            lses.append(lse.flatten(0, 1))
    return torch.cat(outs), torch.cat(lses)


def _within_segments(
    q: Float[Tensor, "s t h e"], k: Float[Tensor, "s t h e"], v: Float[Tensor, "s t h e"], dilation: int
) -> tuple[Float[Tensor, "s t h e"], Float[Tensor, "s t h"]]:
    """Attention among each head's tokens of a segment, put back in place: zero and ABSENT elsewhere."""
    s, t, h, e = q.shape
    rows = math.ceil(t / dilation)
    head, offset = torch.arange(h, device=q.device), head_offsets(h, dilation).to(q.device)
    real = (torch.arange(rows, device=q.device) * dilation + offset.unsqueeze(-1)) < t  # (h rows)
    q, k, v = (
        rearrange(_in_rows(x, dilation)[:, :, offset, head], "s m h e -> s h m e").contiguous() for x in (q, k, v)
    )
    keys = None if real.all() else (real | ~real.any(-1, keepdim=True)).view(1, h, 1, rows)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
    lse = _log_sum_exp(q, k, keys)
    there = real.T.unsqueeze(0)  # (1 rows h)
    dense = q.new_zeros(s, rows, dilation, h, e)
    dense[:, :, offset, head] = rearrange(out, "s h m e -> s m h e") * there.unsqueeze(-1)
    dense_lse = lse.new_full((s, rows, dilation, h), ABSENT)
    dense_lse[:, :, offset, head] = torch.where(there, rearrange(lse, "s h m -> s m h"), ABSENT)
    return dense.flatten(1, 2)[:, :t], dense_lse.flatten(1, 2)[:, :t]


def _in_rows(x: Float[Tensor, "s t h e"], dilation: int) -> Float[Tensor, "s m r h e"]:
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % dilation))
    return rearrange(padded, "s (m r) h e -> s m r h e", r=dilation)


@torch.no_grad()
def _log_sum_exp(q: Float[Tensor, "s h m e"], k: Float[Tensor, "s h m e"], keys: Tensor | None) -> Tensor:
    """Logarithm of each query's softmax denominator (s h m), one segment in memory at a time."""
    sums, precision = [], torch.promote_types(q.dtype, torch.float32)
    for one_q, one_k in zip(q.to(precision), k.to(precision), strict=True):
        scores = one_q @ one_k.mT / math.sqrt(q.shape[-1])
        sums.append((scores if keys is None else scores.masked_fill(~keys[0], -math.inf)).logsumexp(-1))
    return torch.stack(sums)
