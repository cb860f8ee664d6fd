"""TC-SSA: route every tile into k semantic slots and pool each slot (arXiv 2603.01143).

    g_j = W x_j + b,   P_j = softmax(g_j + e_j),   e ~ N(0, 0.1^2) in training only        gate           Sec. 3.2
    m_jk = 1 where P_jk is among the `top` largest of P_j; P~ = m P, not renormalised      hard routing
    c_k = sum_j P~_jk x_j / (sum_j P~_jk + 1e-9)                                           pooling
    y_k = c_k + LN(W2_k dropout(gelu(W1_k c_k)))                                           one expert a slot

and, over a slide's tiles, with P-_k = mean_j P_jk, f_k = mean_j m_jk, H the entropy and lse the logsumexp over slots,

    aux = balance (k sum_k P-_k f_k  +  0.5 (1 - H(P-) / log k)  +  1e-4 mean_j lse(g_j)^2)

All k slots reach the language model, at positions 0 ... k-1; a slot that no tile was routed to starts from c_k = 0.

Symbols: theirs -> ours.  lambda -> balance, Top-2 -> top, N -> n, K -> k, D -> d.

Where the paper and its code part, or are silent
- z-loss: `per_tile` is the paper's formula (clean logits), `mean` the code's, 1e-4 (mean_j lse(g_j + e_j))^2.
- The gate has a bias, as in the code. Means are over a slide's own tiles, and the batch's loss is the mean over its
  slides: padding and batch-mates enter nowhere.
- Nothing here is random in evaluation, and the auxiliary loss is 0 there.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.result import Compressed, Compressor

ZLoss = Literal["per_tile", "mean"]
DELTA = 1e-9  # in the pooling's denominator
Z_SHARE, ENTROPY_SHARE = 1e-4, 0.5  # of the auxiliary terms


class Routing(NamedTuple):
    """Where a slide's tiles go: all affinities, which of them count (0 on padding), and the logits behind them."""

    affinity: Float[Tensor, "b n k"]
    routed: Bool[Tensor, "b n k"]
    logits: Float[Tensor, "b n k"]
    noisy: Float[Tensor, "b n k"]


class TCSSA(Compressor):
    """Route tiles to k slots, `top` slots a tile; return the k slots' tokens, whatever n."""

    kind = "pools"
    routes = True

    def __init__(
        self,
        d: int,
        k: int,
        *,
        top: int = 2,
        routing_noise: float = 0.1,
        expert_hidden: int = 512,
        expert_dropout: float = 0.25,
        balance: float = 0.1,
        z_loss: ZLoss = "per_tile",
        seed: int = 0,
    ):
        super().__init__()
        if not 1 <= top <= k or k < 2:
            raise ValueError(f"tcssa: got top = {top} of k = {k} slots; expected k >= 2 and 1 <= top <= k")
        if z_loss not in get_args(ZLoss):
            raise ValueError(f"tcssa: z_loss {z_loss!r}; expected one of {get_args(ZLoss)}")
        self.k, self.top, self.routing_noise = k, top, routing_noise
        self.balance, self.z_loss = balance, z_loss
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.gate = nn.Linear(d, k)
            self.experts = SlotExperts(d, k, expert_hidden, expert_dropout)

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return k

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        routing = self.route(x, mask, generator)
        share, centre = pool_slots(x, routing)
        tokens = self.experts(centre, generator)
        step = torch.arange(self.k, device=x.device).expand(len(x), self.k)
        return Compressed(
            tokens=tokens,
            mask=torch.ones_like(step, dtype=torch.bool),
            positions=step,
            span=torch.full_like(step[:, 0], self.k),
            weights=share.detach().mT.to_sparse(),
            aux_loss=self.aux_loss(routing, mask) if self.training else x.new_zeros(()),
        )

    def route(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"], generator: torch.Generator | None = None
    ) -> Routing:
        """Affinity of each tile to each slot, and the `top` slots that it is routed to."""
        noisy = logits = self.gate(x)
        if self.training and self.routing_noise:
            drawn = torch.randn(logits.shape, generator=generator, device=x.device, dtype=logits.dtype)
            noisy = logits + self.routing_noise * drawn
        affinity = noisy.softmax(-1)
        best = affinity.topk(self.top, dim=-1).indices
        routed = torch.zeros_like(affinity, dtype=torch.bool).scatter(-1, best, True) & mask.unsqueeze(-1)
        return Routing(affinity, routed, logits, noisy)

    def aux_loss(self, routing: Routing, mask: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The three auxiliary terms, weighted by `balance`; the mean over slides."""
        z = z_loss_per_tile(routing.logits, mask) if self.z_loss == "per_tile" else z_loss_of_mean(routing.noisy, mask)
        terms = switch_loss(routing, mask) + ENTROPY_SHARE * entropy_loss(routing, mask) + Z_SHARE * z
        return self.balance * terms.mean()


class SlotExperts(nn.Module):
    """One two-layer perceptron and layer norm a slot, added to what enters it: k independent sets of weights."""

    def __init__(self, d: int, k: int, hidden: int, dropout: float):
        super().__init__()
        self.w1, self.b1 = _linear(k, d, hidden)
        self.w2, self.b2 = _linear(k, hidden, d)
        self.scale, self.shift = nn.Parameter(torch.ones(k, d)), nn.Parameter(torch.zeros(k, d))
        self.dropout = dropout

    def forward(self, c: Float[Tensor, "b k d"], generator: torch.Generator | None = None) -> Float[Tensor, "b k d"]:
        h = F.gelu(torch.einsum("bkd,kdh->bkh", c, self.w1) + self.b1)
        if self.training and self.dropout:  # not nn.Dropout, which draws from the global generator
            kept = torch.rand(h.shape, generator=generator, device=h.device) >= self.dropout
            h = h * kept / (1 - self.dropout)
        out = torch.einsum("bkh,khd->bkd", h, self.w2) + self.b2
        return c + F.layer_norm(out, out.shape[-1:]) * self.scale + self.shift


def _linear(k: int, fan_in: int, fan_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights and biases of k linear maps, initialised as nn.Linear does."""
    bound = 1 / math.sqrt(fan_in)
    weight, bias = torch.empty(k, fan_in, fan_out), torch.empty(k, fan_out)
    return nn.Parameter(weight.uniform_(-bound, bound)), nn.Parameter(bias.uniform_(-bound, bound))


def pool_slots(x: Float[Tensor, "b n d"], routing: Routing) -> tuple[Float[Tensor, "b n k"], Float[Tensor, "b k d"]]:
    """The share of each tile in each slot, and each slot's weighted mean of tiles; 0 where no tile was routed."""
    kept = routing.affinity * routing.routed
    mass = kept.sum(1, keepdim=True) + DELTA
    return kept / mass, (kept.mT @ x) / mass.mT


def mean_affinity(routing: Routing, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b k"]:
    """P-: the mean affinity of a slide's tiles to each slot; sums to 1."""
    return _mean_over_tiles(routing.affinity, mask)


def load(routing: Routing, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b k"]:
    """f: the share of a slide's tiles that are routed to each slot; sums to `top`."""
    return _mean_over_tiles(routing.routed.to(routing.affinity.dtype), mask)


def switch_loss(routing: Routing, mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """k sum_k P-_k f_k: `top` at uniform routing, k where all tiles go evenly to the same two slots."""
    mean = mean_affinity(routing, mask)
    return mean.shape[-1] * (mean * load(routing, mask)).sum(-1)


def entropy_loss(routing: Routing, mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """1 - H(P-) / log k: of the mean affinity, so it asks for balance between slots and not for sure tiles."""
    mean = mean_affinity(routing, mask)
    return 1 + (mean * (mean + 1e-8).log()).sum(-1) / math.log(mean.shape[-1])


def z_loss_per_tile(logits: Float[Tensor, "b n k"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """mean_j lse(g_j)^2, the paper's; no smaller than the other form (Jensen)."""
    return _mean_over_tiles(logits.logsumexp(-1, keepdim=True).square(), mask).squeeze(-1)


def z_loss_of_mean(logits: Float[Tensor, "b n k"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """(mean_j lse(g_j))^2, the code's."""
    return _mean_over_tiles(logits.logsumexp(-1, keepdim=True), mask).squeeze(-1).square()


def _mean_over_tiles(values: Float[Tensor, "b n k"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b k"]:
    return (values * mask.unsqueeze(-1)).sum(1) / mask.sum(-1, keepdim=True).clamp(min=1)
