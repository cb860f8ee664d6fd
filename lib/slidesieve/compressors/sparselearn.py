"""SparseLearn: learn which k tiles to keep (arXiv 2606.08641).

Training keeps all n tiles and pays for keeping with noise; evaluation keeps the k best, untouched:

    s     = S(x)                                     scorer: L transformer blocks and a linear head      Sec. 3.2
    alpha = Phi_k(zscore(s) / tau)                   soft top-k, sum alpha = k                           Sec. 3.3
    x~_i  = sqrt(alpha_i) x_i + sqrt(1 - alpha_i) eps_i,   eps ~ N(0, I)    variance-preserving gate     Eq. 5
    y     = D(x~)                                    one block with an identity attention mask           Sec. 3.4
    train: LM([P(y); text])                          test: LM([P(x[top-k of s]); text])                  Eq. 1, 2

Symbols: theirs -> ours.  X^v -> x, S_theta -> Scorer, Phi_K -> soft_topk, D_omega -> DiagonalDenoiser, K -> k.

Gates that Eq. 5 is compared with, by the option `gate`:

    scale       x~ = alpha x                                                the paper's ablation
    sqrt        x~ = sqrt(alpha) x                                          ours: the signal of Eq. 5 without its noise
    gumbel-ste  x~ = m x,  m = hard top-k of noisy scores                   DiffPrune's baseline; our reading of it

Denoisers: `diagonal`, `global` (the paper's ablation), `off`.

Departures
- The gate preserves variance only for unit-variance tokens, which the paper gets from "layer-normalised features":
  tokens pass an affine-free layer norm first, in training and in evaluation alike (`standardise` leaves it as it is).
- Block count, width and temperature are not published (2 blocks as in the same group's DiffPrune; see the arguments).
- The denoiser starts as the identity (both its branches end in zeros). Slides of at most k tiles are not gated.
- The text calls the scorer both a transformer encoder and "localized"; `scorer_attention` offers both readings.
- The paper keeps original indices; `models.positions` has these and others, which hold on longer slides.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.blocks import Block, keys_of
from slidesieve.compressors.result import Compressed, Compressor, keep_tiles, one_tile_each
from slidesieve.compressors.rows import by_rows
from slidesieve.compressors.topk import hard_topk, soft_topk, standardize

Attend = Literal["global", "none"]
Gate = Literal["vp", "scale", "sqrt", "gumbel-ste"]
Denoise = Literal["diagonal", "global", "off"]
ALPHA_EPS = 1e-5  # the slope of a square root diverges at 0


class SparseLearn(Compressor):
    """Score tiles, keep k. Train mode is the soft path (all n tokens, noised); eval mode the hard path (k tokens)."""

    kind = "selects"
    softens = True

    def __init__(
        self,
        d: int,
        k: int,
        *,
        scorer_layers: int = 2,
        scorer_width: int | None = None,
        scorer_heads: int = 8,
        scorer_attention: Attend = "global",
        gate: Gate = "vp",
        denoiser: Denoise = "diagonal",
        tau: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        for name, value, allowed in (
            ("scorer_attention", scorer_attention, Attend),
            ("gate", gate, Gate),
            ("denoiser", denoiser, Denoise),
        ):
            if value not in get_args(allowed):
                raise ValueError(f"sparselearn: {name} {value!r}; expected one of {get_args(allowed)}")
        self.k, self.gate = k, gate
        self.register_buffer("tau", torch.tensor(tau))  # saved with the weights: the schedule's last word
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.scorer = Scorer(d, scorer_layers, scorer_width or d, heads=scorer_heads, attention=scorer_attention)
            self.denoiser = None if denoiser == "off" else Denoiser(d, scorer_heads, attention=denoiser)

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return n if training else min(k, n)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        scores = self.scores(x, mask)
        if not self.training:
            return self._hard(x, scores, mask)
        x = F.layer_norm(x, x.shape[-1:])
        return self._soft(x, scores, self._shares(scores, mask, generator), mask, generator)

    def _hard(self, x: Float[Tensor, "b n d"], scores: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Compressed:
        """Keep the k best tiles, normalised, neither noised nor denoised (Eq. 2)."""
        kept, valid = hard_topk(scores, self.k, mask)
        raw = keep_tiles(x, kept, valid, mask)
        return raw._replace(tokens=F.layer_norm(raw.tokens, x.shape[-1:]) * valid.unsqueeze(-1), scores=scores)

    def _shares(
        self, scores: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"], generator: torch.Generator | None
    ) -> Float[Tensor, "b n"]:
        """Each tile's share alpha of the budget; they sum to k."""
        z = standardize(scores, mask)
        if self.gate == "gumbel-ste":
            return draw_hard(z / self.tau, k=self.k, mask=mask, generator=generator)
        return soft_topk(z, k=self.k, tau=float(self.tau), mask=mask)

    def _soft(
        self,
        x: Float[Tensor, "b n d"],
        scores: Float[Tensor, "b n"],
        alpha: Float[Tensor, "b n"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None,
    ) -> Compressed:
        """Keep all n tiles and dim each by its share of the budget (Eq. 1)."""
        tokens = DIM[self.gate](x, alpha, generator)
        if self.denoiser is not None:
            tokens = self.denoiser(tokens, mask)
        every = torch.arange(x.shape[1], device=x.device).expand(mask.shape)
        return Compressed(
            tokens=tokens * mask.unsqueeze(-1),
            mask=mask,
            positions=every * mask,
            span=mask.sum(-1),
            weights=one_tile_each(every, mask, alpha, n=x.shape[1]),
            aux_loss=x.new_zeros(()),
            scores=scores,
            kept=every,
            places=every,
        )

    def scores(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """How much each tile is worth keeping; higher is better, no unit. In float32 or wider whatever the autocast.

        In bfloat16 the scores of 4,096 tiles have fewer than half as many values, and ties decide what is kept.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            embed = lambda part: self.scorer.embed(F.layer_norm(part, part.shape[-1:]))  # noqa: E731
            return self.scorer.mixed(by_rows(embed, x, dim=1), mask)


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
        return self.mixed(by_rows(self.embed, x, dim=1), mask)

    def mixed(self, h: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The scores of embedded tiles."""
        everything = keys_of(mask)
        for block in self.blocks:
            h = block.attend_all(h, everything) if self.attention == "global" else block.attend_self(h)
        return by_rows(lambda part: self.head(self.norm(part)).squeeze(-1), h, dim=1)


class Denoiser(nn.Module):
    """One transformer block, the identity at first (Sec. 3.4).

    `diagonal`: a token attends to itself only, so that no token repairs another. `global`: the paper's ablation.
    """

    def __init__(self, d: int, heads: int, *, attention: Denoise = "diagonal"):
        super().__init__()
        self.attention = attention
        self.block = Block(d, heads)
        for last in (self.block.out, self.block.ffn[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        return self.block.attend_self(x) if self.attention == "diagonal" else self.block.attend_all(x, keys_of(mask))


def masked_attention_denoise(denoiser: Denoiser, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
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


def scale_gate(
    x: Float[Tensor, "b n d"], alpha: Float[Tensor, "b n"], generator: torch.Generator | None = None
) -> Float[Tensor, "b n d"]:
    """Multiply each token by its share; a language model can undo that for all but the smallest."""
    return (x * alpha.unsqueeze(-1)).to(x.dtype)


def sqrt_gate(
    x: Float[Tensor, "b n d"], alpha: Float[Tensor, "b n"], generator: torch.Generator | None = None
) -> Float[Tensor, "b n d"]:
    """Dim each token as the variance-preserving gate does, but put no noise in the place of what is lost."""
    return (x * alpha.clamp(min=ALPHA_EPS).sqrt().unsqueeze(-1)).to(x.dtype)


DIM: dict[str, Callable] = {"vp": vp_gate, "scale": scale_gate, "sqrt": sqrt_gate, "gumbel-ste": scale_gate}


def draw_hard(
    logits: Float[Tensor, "b n"], *, k: int, mask: Bool[Tensor, "b n"], generator: torch.Generator | None
) -> Float[Tensor, "b n"]:
    """Return the top-k of logits plus Gumbel noise as 0 and 1, with the gradient of their soft top-k at tau 1.

    Adding Gumbel noise and keeping the k highest is a draw of k without replacement from softmax(logits).
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    tiny = torch.finfo(uniform.dtype).tiny
    noisy = logits - (-uniform.clamp(min=tiny).log()).clamp(min=tiny).log()
    alpha = soft_topk(noisy, k=k, tau=1.0, mask=mask)
    kept, valid = hard_topk(noisy, k, mask)
    hard = torch.zeros_like(alpha).scatter(1, kept, valid.to(alpha.dtype)) * mask
    return hard + alpha - alpha.detach()
