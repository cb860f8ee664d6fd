"""The gates that SparseLearn's is compared with, the other denoisers, and the renumbering of kept tokens."""

import pytest
import torch

from slidesieve.compressors.sparselearn import SparseLearn, draw_hard, scale_gate, sqrt_gate
from slidesieve.compressors.topk import soft_topk

D, N, K = 12, 11, 4


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiles(b: int = 2, n: int = N) -> torch.Tensor:
    return torch.randn(b, n, D, dtype=torch.float64, generator=seeded(n))


def model(**options) -> SparseLearn:
    return SparseLearn(D, K, scorer_width=8, scorer_heads=4, tau=0.5, **options).double()


def run(made: SparseLearn, x: torch.Tensor, seed: int = 0):
    b, n, _ = x.shape
    return made(x, torch.zeros(b, n, 2, dtype=torch.long), torch.ones(b, n, dtype=torch.bool), seeded(seed))


def test_scale_and_sqrt_dim_without_noise():
    x, alpha = tiles(), torch.rand(2, N, dtype=torch.float64, generator=seeded(1))
    for i in range(N):
        assert torch.allclose(scale_gate(x, alpha)[:, i], alpha[:, i, None] * x[:, i])
        assert torch.allclose(sqrt_gate(x, alpha)[:, i], alpha[:, i, None].sqrt() * x[:, i])


def test_sqrt_gate_has_a_finite_slope_where_nothing_is_kept():
    alpha = torch.tensor([[0.0, 1e-12, 1.0]], requires_grad=True)
    sqrt_gate(torch.ones(1, 3, 2), alpha).sum().backward()
    assert alpha.grad.isfinite().all()


def test_a_draw_is_k_ones_on_real_tiles_with_the_soft_gradient():
    mask = torch.arange(N) < torch.tensor([[N], [6]])
    logits = torch.randn(2, N, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    drawn = draw_hard(logits, k=K, mask=mask, generator=seeded(3))
    assert set(drawn.detach().round(decimals=12).unique().tolist()) == {0.0, 1.0}
    assert drawn.sum(-1).tolist() == pytest.approx([K, K]) and (drawn * ~mask).abs().max() == 0
    up = torch.randn(2, N, dtype=torch.float64, generator=seeded(4))
    (gradient,) = torch.autograd.grad((drawn * up).sum(), logits)
    uniform = torch.rand(2, N, dtype=torch.float64, generator=seeded(3))
    noisy = (logits.detach() - (-uniform.log()).log()).requires_grad_()
    (expected,) = torch.autograd.grad((soft_topk(noisy, k=K, tau=1.0, mask=mask) * up).sum(), noisy)
    assert (gradient - expected).abs().max() < 1e-12


def test_one_draw_follows_the_softmax_of_the_logits():
    """Adding Gumbel noise and keeping the best is a draw from softmax(logits): 4 standard errors on 20,000 draws."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    draws = 20_000
    mask = torch.ones(draws, 5, dtype=torch.bool)
    share = draw_hard(logits.expand(draws, 5), k=1, mask=mask, generator=seeded(5)).mean(0)
    expected = logits.softmax(0)
    assert ((share - expected).abs() < 4 * (expected * (1 - expected) / draws).sqrt()).all()


@pytest.mark.parametrize("gate", ["scale", "sqrt"])
def test_a_gate_option_is_used_before_the_denoiser(gate):
    made, x = model(gate=gate, denoiser="off").train(), tiles()
    normal = torch.nn.functional.layer_norm(x, (D,))
    out = run(made, x)
    alpha = out.weights.to_dense().diagonal(dim1=1, dim2=2)
    amplitude = alpha if gate == "scale" else alpha.clamp(min=1e-5).sqrt()
    assert (out.tokens - amplitude.unsqueeze(-1) * normal).abs().max() < 1e-12


def test_a_straight_through_token_is_whole_or_nothing():
    made, x = model(gate="gumbel-ste", denoiser="off").train(), tiles()
    normal = torch.nn.functional.layer_norm(x, (D,))
    first, second = run(made, x, seed=1).tokens, run(made, x, seed=2).tokens
    kept = first.abs().sum(-1) > 1e-9
    assert kept.sum(-1).tolist() == [K, K]
    assert (first - normal * kept.unsqueeze(-1)).abs().max() < 1e-9
    assert not torch.equal(first, second)


@pytest.mark.parametrize("gate", ["vp", "scale", "sqrt", "gumbel-ste"])
@pytest.mark.parametrize("denoiser", ["diagonal", "global", "off"])
def test_in_evaluation_every_variant_is_the_same_hard_topk(gate, denoiser):
    x = tiles()
    plain, variant = model().eval(), model(gate=gate, denoiser=denoiser).eval()
    variant.scorer.load_state_dict(plain.scorer.state_dict())
    expected, out = run(plain, x), run(variant, x)
    assert torch.equal(out.tokens, expected.tokens) and torch.equal(out.positions, expected.positions)


@pytest.mark.parametrize("gate", ["vp", "scale", "sqrt", "gumbel-ste"])
def test_every_gate_teaches_the_scorer(gate):
    made = model(gate=gate).train()
    (run(made, tiles()).tokens * tiles(2, N).flip(1)).sum().backward()
    assert made.scorer.head.weight.grad.abs().max() > 0


def test_the_global_denoiser_mixes_tokens_but_never_padding():
    made = model(denoiser="global").train()
    torch.nn.init.normal_(made.denoiser.block.out.weight, generator=seeded(6))
    x, mask = tiles(1), torch.ones(1, N, dtype=torch.bool)
    mask[:, 7:] = False
    other = x.clone()
    other[:, 3] *= -1
    apart = made.denoiser(x, mask) - made.denoiser(other, mask)
    assert apart[:, [0, 1, 2, 4, 5, 6]].abs().amax(-1).min() > 1e-6
    padded = x.clone()
    padded[:, 9] *= -1
    assert (made.denoiser(x, mask) - made.denoiser(padded, mask))[:, :7].abs().max() == 0


@pytest.mark.parametrize("wrong", [{"gate": "sigmoid"}, {"denoiser": "none"}, {"scorer_attention": "local"}])
def test_an_option_misspelt_is_named_with_what_there_is(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} '{value}'; expected one of"):
        model(**wrong)
