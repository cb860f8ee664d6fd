"""SparseLearn: learn which k tiles to keep (arXiv 2606.08641).

Training keeps all n tiles and pays for keeping with noise; evaluation keeps the k best, untouched:

    s     = S(x)                                     scorer: L transformer blocks and a linear head      Sec. 3.2
    alpha = Phi_k(zscore(s) / tau)                   soft top-k, sum alpha = k                           Sec. 3.3
    x~_i  = sqrt(alpha_i) x_i + sqrt(1 - alpha_i) eps_i,   eps ~ N(0, I)    variance-preserving gate     Eq. 5
    y     = D(x~)                                    one block with an identity attention mask           Sec. 3.4
    train: LM([P(y); text])                          test: LM([P(x[top-k of s]); text])                  Eq. 1, 2

Symbols: theirs -> ours.  X^v -> x, S_theta -> Scorer, Phi_K -> soft_topk, D_omega -> DiagonalDenoiser, K -> k.

Departures
- The gate preserves variance only for unit-variance tokens, which the paper gets from "layer-normalised features":
  tokens pass an affine-free layer norm first, in training and in evaluation alike.
- Block count, width and temperature are not published (2 blocks as in the same group's DiffPrune; see the arguments).
- The denoiser starts as the identity (both its branches end in zeros). Slides of at most k tiles are not gated.
- The text calls the scorer both a transformer encoder and "localized"; `scorer_attention` offers both readings.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.compressors.result import Compressed, keep_tiles, one_tile_each
from lib.soft_topk import hard_topk, soft_topk, standardize

ALPHA_EPS = 1e-5  # the gate's slope diverges at 0 and 1

Attend = Literal["global", "none"]


class SparseLearn(nn.Module):
    """Score tiles, keep k. Train mode is the soft path (all n tokens, noised); eval mode the hard path (k tokens)."""

    def __init__(
        self,
        d: int,
        k: int,
        *,
        scorer_layers: int = 2,
        scorer_width: int | None = None,
        scorer_heads: int = 8,
        scorer_attention: Attend = "global",
        tau: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        self.k = k
        self.register_buffer("tau", torch.tensor(tau))  # saved with the weights: the schedule's last word
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.scorer = Scorer(d, scorer_layers, scorer_width or d, heads=scorer_heads, attention=scorer_attention)
            self.denoiser = DiagonalDenoiser(d, scorer_heads)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        x = F.layer_norm(x, x.shape[-1:])
        scores = self.scorer(x, mask)
        if not self.training:
            return keep_tiles(x, *hard_topk(scores, self.k, mask), mask)._replace(scores=scores)  # Eq. 2
        alpha = soft_topk(standardize(scores, mask), k=self.k, tau=float(self.tau), mask=mask)
        tokens = self.denoiser(vp_gate(x, alpha, generator)) * mask.unsqueeze(-1)
        every = torch.arange(x.shape[1], device=x.device).expand(mask.shape)
        return Compressed(
            tokens=tokens,
            mask=mask,
            positions=every * mask,
            span=mask.sum(-1),
            weights=one_tile_each(every, mask, alpha, n=x.shape[1]),
            aux_loss=x.new_zeros(()),
            scores=scores,
        )

    def scores(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """How much each tile is worth keeping; higher is better, no unit."""
        return self.scorer(F.layer_norm(x, x.shape[-1:]), mask)


class Scorer(nn.Module):
    """L pre-norm transformer blocks and a linear head: one number a tile. No position encoding (Sec. 3.2)."""

    def __init__(self, d: int, layers: int, width: int, *, heads: int, attention: Attend):
        super().__init__()
        self.embed = nn.Identity() if width == d else nn.Linear(d, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.attention = attention

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        h = self.embed(x)
        everything = None if mask.all() else rearrange(mask, "b n -> b 1 1 n")
        for block in self.blocks:
            h = block.attend_all(h, everything) if self.attention == "global" else block.attend_self(h)
        return self.head(self.norm(h)).squeeze(-1)


class DiagonalDenoiser(nn.Module):
    """One transformer block in which a token attends to itself only, so that no token repairs another (Sec. 3.4)."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.block = Block(d, heads)
        for last in (self.block.out, self.block.ffn[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.block.attend_self(x)


def masked_attention_denoise(denoiser: DiagonalDenoiser, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """The denoiser as the paper words it: full attention under an identity mask. O(n^2); the two must agree."""
    return denoiser.block.attend_all(x, torch.eye(x.shape[1], dtype=torch.bool, device=x.device))


def vp_gate(
    x: Float[Tensor, "b n d"], alpha: Float[Tensor, "b n"], generator: torch.Generator | None
) -> Float[Tensor, "b n d"]:
    """Blend each token with fresh noise so that unit variance stays unit variance; exact at alpha 0 and 1."""
    alpha = alpha.to(torch.promote_types(alpha.dtype, torch.float32))  # in bf16 the clamp below rounds to 1
    safe = alpha.clamp(ALPHA_EPS, 1 - ALPHA_EPS)
    signal = torch.where(alpha >= 1, 1.0, torch.where(alpha <= 0, 0.0, safe.sqrt())).unsqueeze(-1)
    noise = torch.where(alpha >= 1, 0.0, torch.where(alpha <= 0, 1.0, (1 - safe).sqrt())).unsqueeze(-1)
    eps = torch.randn(x.shape, generator=generator, device=x.device, dtype=alpha.dtype)
    return (signal * x.to(alpha.dtype) + noise * eps).to(x.dtype)  # Eq. 5


class Block(nn.Module):
    """A pre-norm transformer block whose attention may be global or from each token to itself."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"transformer block: width {width} is not a multiple of {heads} heads; set scorer_heads")
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend_all(self, x: Float[Tensor, "b n w"], mask: Tensor | None) -> Float[Tensor, "b n w"]:
        """Attend wherever `mask` (broadcast to b h n n) is True; None: everywhere. Linear memory by SDPA."""
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b n (three h w) -> three b h n w", three=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._feed_forward(x + self.out(rearrange(mixed, "b h n w -> b n (h w)")))

    def attend_self(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """A softmax over one key is 1: attention to oneself is the value path alone."""
        width = x.shape[-1]
        value = F.linear(self.norm_attention(x), self.qkv.weight[-width:], self.qkv.bias[-width:])
        return self._feed_forward(x + self.out(value))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(self.norm_ffn(x))
