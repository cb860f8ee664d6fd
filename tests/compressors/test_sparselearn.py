"""SparseLearn against its equations: moments of the gate, torch's own encoder layers, training against evaluation."""

from pathlib import Path

import pytest
import torch
from run_alone import run_alone
from torch import nn

from slidesieve.compressors.sparselearn import DIM, Denoiser, Scorer, SparseLearn, masked_attention_denoise, vp_gate
from slidesieve.compressors.topk import soft_topk, standardize
from slidesieve.cost.measure import peak_memory

N, D, K, HEADS = 75, 33, 7, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiles(b: int = 2, n: int = N, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(b, n, D, generator=generator(seed), dtype=dtype)


def coords(b: int = 2, n: int = N) -> torch.Tensor:
    return torch.stack(torch.meshgrid(torch.arange(n) * 64, torch.tensor([0]), indexing="ij"), -1)[None, :, 0].expand(
        b, n, 2
    )


def scrambled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same module in float64 with every parameter away from its initial zeros and ones."""
    net = net.double()
    g = generator(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=g, dtype=torch.float64))
    return net


def sparselearn(**options) -> SparseLearn:
    return scrambled(SparseLearn(D, K, scorer_heads=HEADS, scorer_width=24, tau=0.5, seed=5, **options))


def torch_layer(block: nn.Module, width: int) -> nn.TransformerEncoderLayer:
    """torch's pre-norm GELU encoder layer with our block's weights."""
    layer = nn.TransformerEncoderLayer(
        width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(block.qkv.weight)
        layer.self_attn.in_proj_bias.copy_(block.qkv.bias)
        layer.self_attn.out_proj.load_state_dict(block.out.state_dict())
        layer.norm1.load_state_dict(block.norm_attention.state_dict())
        layer.norm2.load_state_dict(block.norm_ffn.state_dict())
        layer.linear1.load_state_dict(block.ffn[0].state_dict())
        layer.linear2.load_state_dict(block.ffn[2].state_dict())
    return layer


# --- the variance-preserving gate


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gate_keeps_unit_variance_and_correlates_as_the_root_of_alpha(alpha):  # I11, I12
    x = tiles(1, 20_011)
    y = vp_gate(x, torch.full((1, 20_011), alpha, dtype=torch.float64), generator(1))
    assert abs(y.var().item() - 1) < 0.01
    correlation = torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()
    assert abs(correlation - alpha**0.5) < 0.01


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9])
def test_gate_has_mean_root_alpha_x(alpha):  # I12
    draws = 4001
    x = tiles(1, 7)
    y = vp_gate(x.expand(draws, 7, D), torch.full((draws, 7), alpha, dtype=torch.float64), generator(2))
    error = (y.mean(0) - alpha**0.5 * x[0]) / ((1 - alpha) / draws) ** 0.5  # standard normal under the law
    assert error.abs().max() < 5
    assert abs(error.square().mean().item() - 1) < 0.5


def test_gate_uses_one_alpha_and_fresh_noise_for_each_token():
    x, alpha = tiles(), torch.rand(2, N, generator=generator(3), dtype=torch.float64)
    y = vp_gate(x, alpha, generator(4))
    noise = torch.randn(x.shape, generator=generator(4), dtype=torch.float64)
    for b in range(2):
        for i in range(N):
            a = alpha[b, i].item()
            assert (y[b, i] - (a**0.5 * x[b, i] + (1 - a) ** 0.5 * noise[b, i])).abs().max() < 1e-12  # Eq. 5
    assert (vp_gate(x, alpha, generator(5)) - y).abs().max() > 0.1


def test_gate_is_exact_at_both_ends():  # I13
    x = tiles().requires_grad_()
    assert torch.equal(vp_gate(x, torch.ones(2, N, dtype=torch.float64), generator()), x)
    zeros = torch.zeros(2, N, dtype=torch.float64)
    off = vp_gate(x, zeros, generator(6))
    assert torch.equal(off, vp_gate(tiles(seed=9), zeros, generator(6)))
    (gradient,) = torch.autograd.grad(off.square().sum(), x)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gate_has_finite_gradients_in_bfloat16_next_to_the_ends(dtype):  # I14
    near = [0.0, 1e-12, 5e-6, 1e-5, 2e-5, 0.5, 1 - 2e-5, 1 - 1e-5, 1 - 5e-6, 1 - 1e-7, 1.0]
    alpha = torch.tensor([near]).to(dtype).requires_grad_()
    x = tiles(1, len(near), dtype=torch.bfloat16).requires_grad_()
    y = vp_gate(x, alpha, generator())
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert x.grad.isfinite().all() and alpha.grad.isfinite().all()


@pytest.mark.parametrize("attention", ["global", "none"])
def test_gradient_reaches_every_weight_of_the_scorer(attention):  # I15
    model = sparselearn(scorer_attention=attention).train()
    mask = torch.ones(2, N, dtype=torch.bool)
    out = model(tiles(), coords(), mask, generator())
    (out.tokens * tiles(seed=8)).sum().backward()
    for name, parameter in model.scorer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        if name in ("head.bias", "norm.bias"):  # these shift all scores alike, which cancels in the z-score
            assert parameter.grad.abs().max() < 1e-10, name
        else:
            assert parameter.grad.abs().max() > 1e-8, name


# --- the scorer


@pytest.mark.parametrize("width", [D, 24])
def test_scorer_is_a_stack_of_encoder_layers_that_ignores_padding(width):
    scorer = scrambled(Scorer(D, 2, width, heads=HEADS, attention="global"))
    x, mask = tiles(), torch.arange(N)[None] < torch.tensor([[41], [N]])
    h = x if width == D else x @ scorer.embed.weight.T + scorer.embed.bias
    for block in scorer.blocks:
        h = torch_layer(block, width)(h, src_key_padding_mask=~mask)
    h = nn.functional.layer_norm(h, (width,), scorer.norm.weight, scorer.norm.bias)
    expected = (h @ scorer.head.weight.T + scorer.head.bias)[..., 0]
    assert (scorer(x, mask) - expected)[mask].abs().max() < 1e-9


def test_scorer_without_attention_scores_each_tile_by_itself():
    scorer = scrambled(Scorer(D, 2, 24, heads=HEADS, attention="none"))
    x, mask = tiles(), torch.ones(2, N, dtype=torch.bool)
    alone = torch.stack([scorer(x[:, i : i + 1], mask[:, i : i + 1])[:, 0] for i in range(N)], dim=1)
    assert (scorer(x, mask) - alone).abs().max() < 1e-10


# --- the diagonal denoiser


def cross_jacobian(f, n: int = 5) -> torch.Tensor:
    """d y_i / d x_j, (n d n d)."""
    return torch.autograd.functional.jacobian(lambda x: f(x[None])[0], tiles(1, n)[0])


def test_denoiser_reads_no_other_token():  # I16
    denoiser = scrambled(Denoiser(D, HEADS))
    jacobian = cross_jacobian(denoiser)
    for i in range(5):
        for j in range(5):
            block = jacobian[i, :, j]
            assert block.abs().max() > 0 if i == j else torch.equal(block, torch.zeros_like(block))


def test_denoiser_is_an_encoder_layer_under_an_identity_mask():  # I17
    denoiser = scrambled(Denoiser(D, HEADS))
    x = tiles()
    expected = torch_layer(denoiser.block, D)(x, src_mask=~torch.eye(N, dtype=torch.bool))
    assert (denoiser(x) - expected).abs().max() < 1e-10
    assert (masked_attention_denoise(denoiser, x) - expected).abs().max() < 1e-10


def test_masked_form_sends_no_gradient_to_queries_and_keys():  # I18
    denoiser = scrambled(Denoiser(D, HEADS))
    masked_attention_denoise(denoiser, tiles()).square().sum().backward()
    gradient = denoiser.block.qkv.weight.grad
    assert gradient[: 2 * D].abs().max() < 1e-9
    assert gradient[2 * D :].abs().max() > 1


def test_global_attention_would_read_other_tokens():  # I19
    denoiser = scrambled(Denoiser(D, HEADS))
    jacobian = cross_jacobian(lambda x: denoiser.block.attend_all(x, None))
    assert min(jacobian[i, :, j].abs().max() for i in range(5) for j in range(5)) > 1e-6


def test_denoiser_is_permutation_equivariant():  # I20
    denoiser, x = scrambled(Denoiser(D, HEADS)), tiles()
    order = torch.randperm(N, generator=generator(1))
    assert (denoiser(x[:, order]) - denoiser(x)[:, order]).abs().max() < 1e-12


def test_denoiser_starts_as_the_identity():
    x = tiles(dtype=torch.float32)
    assert torch.equal(Denoiser(D, HEADS)(x), x)


# --- training keeps n noised tiles, evaluation k untouched ones


def test_evaluation_calls_neither_gate_nor_denoiser(monkeypatch):  # I21
    def forbidden(*_):
        raise AssertionError("called in evaluation")

    model = sparselearn().eval()
    monkeypatch.setitem(DIM, "vp", forbidden)
    model.denoiser.register_forward_hook(forbidden)
    g = generator()
    state = g.get_state()
    for n in (1, 3, K, K + 1, N):
        x, mask = tiles(n=n), torch.ones(2, n, dtype=torch.bool)
        out = model(x, coords(n=n), mask, g)
        assert out.tokens.shape == (2, min(K, n), D)
        assert (out.positions.diff(dim=1) > 0).all()
        raw = nn.functional.layer_norm(x, (D,))
        assert torch.equal(out.tokens, raw.gather(1, out.positions[..., None].expand_as(out.tokens)))
    assert torch.equal(g.get_state(), state)


def test_same_seed_same_tokens_in_training_and_evaluation():  # I22
    model, mask = sparselearn(), torch.ones(2, N, dtype=torch.bool)
    for training in (True, False):
        model.train(training)
        first, second = (model(tiles(), coords(), mask, generator(3)).tokens for _ in range(2))
        assert torch.equal(first, second)
    assert not torch.equal(
        model.train()(tiles(), coords(), mask, generator(3)).tokens, model(tiles(), coords(), mask, generator(4)).tokens
    )


def test_evaluation_does_not_depend_on_the_denoiser():  # I23
    model, mask = sparselearn().eval(), torch.ones(2, N, dtype=torch.bool)
    before = model(tiles(), coords(), mask).tokens
    scrambled(model.denoiser, seed=77)
    assert torch.equal(model(tiles(), coords(), mask).tokens, before)


@pytest.mark.parametrize("tau", [2.0, 0.5, 0.2])
def test_hard_and_soft_path_prefer_the_same_tiles(tau):  # I24, I25
    model = sparselearn()
    model.tau.fill_(tau)
    mask = torch.arange(N)[None] < torch.tensor([[41], [N]])
    soft = model.train()(tiles(), coords(), mask, generator()).weights.to_dense()
    hard = model.eval()(tiles(), coords(), mask)
    alpha = soft.diagonal(dim1=1, dim2=2)
    assert (soft.sum(-1) - alpha).abs().max() == 0
    assert (alpha.sum(-1) - K).abs().max() < 1e-5
    for b in range(2):
        best = sorted(sorted(range(N), key=lambda i: -alpha[b, i].item())[:K])
        assert hard.positions[b].tolist() == best


def test_training_path_is_scorer_soft_topk_gate_denoiser():
    model = sparselearn().train()
    x, mask = tiles(), torch.arange(N)[None] < torch.tensor([[41], [N]])
    out = model(x, coords(), mask, generator(2))
    normal = nn.functional.layer_norm(x, (D,))
    alpha = soft_topk(standardize(model.scorer(normal, mask), mask), k=K, tau=0.5, mask=mask)
    expected = model.denoiser(vp_gate(normal, alpha, generator(2)))
    assert (out.tokens - expected)[mask].abs().max() < 1e-12
    assert torch.equal(out.mask, mask)
    assert out.positions[0, :41].tolist() == list(range(41)) and out.positions[1].tolist() == list(range(N))
    assert out.span.tolist() == [41, N]


def test_short_slides_are_neither_noised_nor_gated():
    model, n = sparselearn().train(), 5
    x, mask = tiles(n=n), torch.ones(2, n, dtype=torch.bool)
    out = model(x, coords(n=n), mask, generator())
    assert (out.tokens - model.denoiser(nn.functional.layer_norm(x, (D,)))).abs().max() < 1e-12


def test_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 33 is not a multiple of 8 heads"):
        SparseLearn(D, K, scorer_heads=8)


def memory_of_a_long_bag(n: int, d: int, padding: int) -> float:
    """MiB at the peak, above what stood there before."""
    model = SparseLearn(d, K, scorer_heads=2).eval()
    x, places = torch.randn(1, n, d, generator=generator()), coords(1, n)
    mask = torch.arange(n)[None] < n - padding
    with torch.no_grad():
        model(x[:, :99], places[:, :99], mask[:, :99])
        with peak_memory("cpu") as memory:
            model(x, places, mask)
    return memory["above_mib"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("padding", [0, 1])
def test_global_scoring_of_a_long_bag_stores_no_n_by_n_matrix(padding):
    n, d = 12_007, 8  # n x n is 137 MiB in bytes and 550 MiB in float32; all activations are about 15 MiB
    assert run_alone(memory_of_a_long_bag, n, d, padding) < 60


@torch.no_grad()
def test_autocast_changes_neither_scores_nor_what_is_kept():
    """4,096 tiles: in bfloat16 fewer than half of the scores would be distinct."""
    torch.manual_seed(0)
    model = SparseLearn(64, 32, scorer_heads=4, seed=1).eval()
    x, mask = torch.randn(1, 4096, 64), torch.ones(1, 4096, dtype=torch.bool)
    exact = model(x, coords(1, 4096), mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, coords(1, 4096), mask)
        soft = model.train()(x, coords(1, 4096), mask, generator())
        alone = model.scorer(x, mask).flatten().unique()
    assert len(alone) < 2048  # what it would be without care
    assert len(rough.scores.unique()) == len(exact.scores.unique()) > 4000
    assert torch.equal(rough.scores, exact.scores) and torch.equal(rough.kept, exact.kept)
    assert soft.weights.values().dtype == torch.float32 and torch.equal(soft.scores, exact.scores)
    assert abs(float(soft.weights.values().sum()) - 32) < 1e-3
