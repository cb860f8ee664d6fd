"""How a soft top-k dims tokens in training: SparseLearn's gate (arXiv 2606.08641, Eq. 5) and those it is compared with.

vp          x~ = sqrt(alpha) x + sqrt(1 - alpha) eps,  eps ~ N(0, I)    the paper's
scale       x~ = alpha x                                                its ablation
sqrt        x~ = sqrt(alpha) x                                          ours: the signal of vp without its noise
gumbel-ste  x~ = m x,  m = hard top-k of noisy scores                   DiffPrune's baseline; our reading of it
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.soft_topk import hard_topk, soft_topk

ALPHA_EPS = 1e-5  # the slope of a square root diverges at 0


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


DIM: dict[str, Callable] = {"vp": vp_gate, "scale": scale_gate, "sqrt": sqrt_gate}


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
