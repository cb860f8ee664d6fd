"""Soft top-k with a closed-form forward and an analytic backward (LapSum, ICML 2025).

A threshold `b` is found so that k tokens' worth of mass lies above it:

    alpha_i = F((s_i - b) / tau),   F(u) = e^u / 2 for u <= 0, 1 - e^-u / 2 for u > 0,   sum_i alpha_i = k

With f_i = min(alpha_i, 1 - alpha_i) the Jacobian is  d alpha_i / d s_j = (delta_ij f_i - f_i f_j / sum_m f_m) / tau.

Symbols: theirs -> ours.  s-hat -> scores (standardised by the caller), b -> threshold, tau -> tau, K -> k.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VARIANCE_EPS = 1e-6


def standardize(scores: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Z-score each slide's scores over its real tiles; padding becomes 0.

    The epsilon stands inside the root: at n = 1 or equal scores the gradient of a bare `std` is NaN.
    """
    scores = _at_least_fp32(scores).masked_fill(~mask, 0.0)
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    centred = (scores - scores.sum(-1, keepdim=True) / count) * mask
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred / (variance + VARIANCE_EPS).sqrt()


def soft_topk(scores: Float[Tensor, "b n"], *, k: float, tau: float, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return weights in [0, 1] that sum to k on every slide and sharpen to the hard top-k as tau -> 0.

    A slide with at most k real tiles keeps them all (weight 1, no gradient); padding gets weight 0.
    Runs in float32 or wider whatever the autocast. Raises ValueError for k < 1 or tau <= 0.
    """
    if k < 1 or tau <= 0:
        raise ValueError(f"soft_topk: got k={k}, tau={tau}; expected k >= 1 and tau > 0")
    with torch.autocast(scores.device.type, enabled=False):
        return _SoftTopK.apply(_at_least_fp32(scores), k, tau, mask)


def hard_topk(
    scores: Float[Tensor, "b n"], k: int, mask: Bool[Tensor, "b n"]
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Return the tiles of the m = min(k, n) highest scores in ascending tile order, and which entries are real.

    Among equal scores the earlier tile wins (`torch.topk` leaves that open, and padding then changes the choice).
    """
    m = min(k, scores.shape[-1])
    ranked = scores.masked_fill(~mask, -math.inf)
    kept = ranked.sort(dim=-1, descending=True, stable=True).indices[:, :m]
    n = scores.shape[-1]
    kept = torch.where(mask.gather(-1, kept), kept, n).sort(dim=-1).values  # padding last
    return kept.clamp(max=n - 1), kept < n


def mass_on_topk(scores: Float[Tensor, "b n"], *, k: int, tau: float, mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Share of the soft top-k's mass that lies on the hard top-k: sum of alpha over the tiles kept, over their number.

    About k/n for an even spread, 1 where soft and hard are the same selection, and on a slide of at most k tiles.
    `scores` are raw, as the scorer gives them.
    """
    alpha = soft_topk(standardize(scores, mask), k=k, tau=tau, mask=mask)
    kept, valid = hard_topk(scores, k, mask)
    return (alpha.gather(-1, kept) * valid).sum(-1) / valid.sum(-1)


def cosine_tau(step: int, steps: int, tau_start: float, tau_end: float) -> float:
    """Temperature at `step`: a half cosine from tau_start to tau_end over `steps`, tau_end afterwards."""
    share = min(step / max(steps, 1), 1.0)
    return tau_end + 0.5 * (tau_start - tau_end) * (1 + math.cos(math.pi * share))


def linear_tau(step: int, steps: int, tau_start: float, tau_end: float) -> float:
    """Temperature at `step`: a straight line from tau_start to tau_end over `steps`, tau_end afterwards."""
    return tau_start + (tau_end - tau_start) * min(step / max(steps, 1), 1.0)


def constant_tau(step: int, steps: int, tau_start: float, tau_end: float) -> float:
    """Temperature that never falls: tau_start."""
    return tau_start


TAU_SCHEDULES = {"cosine": cosine_tau, "linear": linear_tau, "constant": constant_tau}


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, k, tau, mask):
        z = (scores / tau).masked_fill(~mask, -math.inf)
        alpha = _laplace_cdf(z - threshold(z, k, mask))
        keep_all = mask.sum(-1, keepdim=True) <= k
        alpha = torch.where(keep_all, mask.to(alpha.dtype), alpha)
        ctx.save_for_backward(torch.minimum(alpha, 1 - alpha))
        ctx.tau = tau
        return alpha

    @staticmethod
    def backward(ctx, grad):
        (f,) = ctx.saved_tensors
        mean = (f * grad).sum(-1, keepdim=True) / f.sum(-1, keepdim=True).clamp(min=torch.finfo(f.dtype).tiny)
        return f * (grad - mean) / ctx.tau, None, None, None


def threshold(z: Float[Tensor, "b n"], k: float, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b 1"]:
    """Solve sum_i F(z_i - b) = k exactly, in O(n log n); z is -inf on padding.

    With j tokens above b the sum is j - e^b P/2 + e^-b S/2 (P = sum of e^-z above, S = sum of e^z below):
    a quadratic in e^b. P S <= j (n - j), so only its logarithms' sum is ever exponentiated.
    """
    z, order = z.sort(dim=-1, descending=True)
    real = mask.gather(-1, order)
    count = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    log_above = torch.logcumsumexp(torch.where(real, -z, -math.inf), dim=-1)
    log_from = torch.logcumsumexp(z.flip(-1), dim=-1).flip(-1)
    log_below = torch.cat([log_from[:, 1:], torch.full_like(z[:, :1], -math.inf)], dim=-1)
    at_knot = count - 0.5 * (z + log_above).exp() + 0.5 * (log_below - z).exp()  # the sum at b = z_j
    j = ((at_knot < k) & real).sum(-1, keepdim=True)  # how many tokens lie above b
    none = torch.full_like(z[:, :1], -math.inf)
    log_p = torch.cat([none, log_above], dim=-1).gather(-1, j)
    log_s = torch.cat([log_from, none], dim=-1).gather(-1, j)
    excess = j.to(z.dtype) - k
    root = (excess.square() + (log_p + log_s).exp()).sqrt()
    above = (root + excess).log() - log_p  # each form where it does not cancel
    below = log_s - (root - excess).log()
    return torch.where(excess > 0, above, torch.where(excess < 0, below, 0.5 * (log_s - log_p)))


def _laplace_cdf(u: Tensor) -> Tensor:
    tail = 0.5 * (-u.abs()).exp()
    return torch.where(u > 0, 1 - tail, tail)


def _at_least_fp32(scores: Tensor) -> Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()
