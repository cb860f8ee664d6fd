"""Laws of the LapSum soft top-k (ICML 2025), against bisection and double loops written from its formula."""

import math

import pytest
import torch

from slidesieve.compressors.topk import cosine_tau, hard_topk, soft_topk, standardize

N, K = 75, 7
TAUS = [20.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.01]


def random_scores(n: int = N, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """One row of z-scored Gaussian scores, (1 n)."""
    s = torch.randn(1, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((s - s.mean()) / s.std(correction=0)).to(dtype)


def all_real(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones(scores.shape, dtype=torch.bool)


def laplace_cdf(u: float) -> float:
    return 0.5 * math.exp(u) if u <= 0 else 1 - 0.5 * math.exp(-u)


def bisected_alpha(scores: list[float], k: int, tau: float) -> list[float]:
    """alpha_i = F((s_i - b) / tau) with the root b of sum_i alpha_i = k found by halving an interval."""
    low, high = min(scores) - 50 * tau, max(scores) + 50 * tau
    for _ in range(300):
        b = (low + high) / 2
        if sum(laplace_cdf((s - b) / tau) for s in scores) > k:
            low = b
        else:
            high = b
    return [laplace_cdf((s - b) / tau) for s in scores]


def looped_jacobian(alpha: list[float], tau: float) -> torch.Tensor:
    """d alpha_i / d s_j = (delta_ij f_i - f_i f_j / sum_m f_m) / tau with f_i = min(alpha_i, 1 - alpha_i)."""
    f = [min(a, 1 - a) for a in alpha]
    rows = []
    for i in range(len(f)):
        rows.append([((f[i] if i == j else 0.0) - f[i] * f[j] / sum(f)) / tau for j in range(len(f))])
    return torch.tensor(rows, dtype=torch.float64)


def jacobian(scores: torch.Tensor, *, k: int, tau: float) -> torch.Tensor:
    """Autograd's Jacobian of one row, (n n)."""
    return torch.autograd.functional.jacobian(
        lambda s: soft_topk(s[None], k=k, tau=tau, mask=all_real(s[None]))[0], scores[0]
    )


# I1
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize(("n", "k"), [(75, 7), (75, 1), (75, 74), (8, 7), (2, 1), (1001, 33)])
def test_sums_to_k_within_zero_and_one(n, k, tau):
    scores = random_scores(n, seed=n + k)
    alpha = soft_topk(scores, k=k, tau=tau, mask=all_real(scores))
    assert alpha.dtype == torch.float64
    assert abs(alpha.sum().item() - k) < 1e-8
    assert alpha.min() >= 0 and alpha.max() <= 1


# I2
@pytest.mark.parametrize("tau", [2.0, 0.2, 0.01])
def test_monotone_in_the_score_and_equal_on_ties(tau):
    scores = random_scores(seed=1)
    scores[0, 11] = scores[0, 3]
    scores[0, 40] = scores[0].max()
    alpha = soft_topk(scores, k=K, tau=tau, mask=all_real(scores))[0]
    assert (alpha[scores[0].argsort()].diff() >= 0).all()
    assert alpha[11] == alpha[3]
    assert alpha[40] == alpha[scores[0].argmax()]


# I3
def test_shift_invariant():
    scores = random_scores(seed=2)
    mask = all_real(scores)
    expected = soft_topk(scores, k=K, tau=0.3, mask=mask)
    for shift in (-100.0, 3.7, 1000.0):
        assert (soft_topk(scores + shift, k=K, tau=0.3, mask=mask) - expected).abs().max() < 1e-10


def test_scale_invariant_after_standardize():
    scores = random_scores(seed=3)
    mask = all_real(scores)
    expected = soft_topk(standardize(scores * 1e3, mask), k=K, tau=0.3, mask=mask)
    for a, c in ((3e3, 0.0), (2e4, -5.0)):
        alpha = soft_topk(standardize(a * scores + c, mask), k=K, tau=0.3, mask=mask)
        assert (alpha - expected).abs().max() < 1e-10


# I4
def test_permutation_equivariant():
    scores = random_scores(seed=4)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    mask = all_real(scores)
    alpha = soft_topk(scores, k=K, tau=0.2, mask=mask)
    assert (soft_topk(scores[:, order], k=K, tau=0.2, mask=mask) - alpha[:, order]).abs().max() < 1e-12


# I5
def test_small_tau_is_the_hard_mask():
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    scores = torch.linspace(-1.7, 1.7, N, dtype=torch.float64)[order][None]
    alpha = soft_topk(scores, k=K, tau=1e-4, mask=all_real(scores))
    hard = torch.zeros_like(scores)
    hard[0, sorted(range(N), key=lambda i: -scores[0, i].item())[:K]] = 1
    assert (alpha - hard).abs().max() < 1e-12


def test_large_tau_is_uniform():
    scores = random_scores(seed=5)
    alpha = soft_topk(scores, k=K, tau=1e7, mask=all_real(scores))
    assert (alpha - K / N).abs().max() < 1e-6


# I6
@pytest.mark.parametrize("tau", [1.0, 0.3, 0.1])
def test_jacobian_equals_loops_and_differences_of_the_bisection(tau):
    n, k = 13, 5
    scores = random_scores(n, seed=6)
    got = jacobian(scores, k=k, tau=tau)
    values = scores[0].tolist()
    assert (got - looped_jacobian(bisected_alpha(values, k, tau), tau)).abs().max() < 1e-9

    step = 1e-5
    for j in range(n):
        up = [v + step * (i == j) for i, v in enumerate(values)]
        down = [v - step * (i == j) for i, v in enumerate(values)]
        pairs = zip(bisected_alpha(up, k, tau), bisected_alpha(down, k, tau), strict=True)
        column = torch.tensor([(a - b) / (2 * step) for a, b in pairs], dtype=torch.float64)
        assert (got[:, j] - column).abs().max() < 1e-5


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.02])
def test_jacobian_is_a_laplacian(tau):
    got = jacobian(random_scores(seed=7), k=K, tau=tau)
    assert got.sum(0).abs().max() < 1e-9 and got.sum(1).abs().max() < 1e-9
    assert (got - got.T).abs().max() < 1e-12
    assert torch.linalg.eigvalsh(got).min() > -1e-9
    off = got - torch.diag(got.diag())
    assert got.diag().min() >= 0 and off.max() <= 0  # I7, signs


# I7
@pytest.mark.parametrize(("n", "k", "tau"), [(9, 3, 0.5), (8, 7, 1.0), (11, 1, 0.3)])
def test_gradcheck(n, k, tau):
    scores = torch.cat([random_scores(n, seed=8), random_scores(n, seed=9)]).requires_grad_()
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[1, n - 2 :] = n - 2 <= k  # the second slide is shorter where that leaves a choice to make
    assert torch.autograd.gradcheck(lambda s: soft_topk(s, k=k, tau=tau, mask=mask), (scores,))


# I8
@pytest.mark.parametrize("n", [1, 3, 7])
def test_short_slides_keep_everything_and_send_no_gradient(n):
    scores = torch.linspace(-2, 3, n, dtype=torch.float64)[None].requires_grad_()
    alpha = soft_topk(standardize(scores, all_real(scores)), k=K, tau=0.05, mask=all_real(scores))
    assert torch.equal(alpha, torch.ones_like(alpha))
    (gradient,) = torch.autograd.grad((alpha * torch.arange(1, n + 1)).sum(), scores)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_one_tile_more_than_the_budget():
    scores = random_scores(K + 1, seed=10)
    alpha = soft_topk(scores, k=K, tau=0.7, mask=all_real(scores))[0]
    expected = torch.tensor(bisected_alpha(scores[0].tolist(), K, 0.7), dtype=torch.float64)
    assert (alpha - expected).abs().max() < 1e-10
    assert alpha.min() < 1


# I9
@pytest.mark.parametrize("junk", [0.0, 1e4, -1e4, float("nan"), float("inf")])
def test_padding_and_batch_mates_change_nothing(junk):
    short, long = random_scores(41, seed=11), random_scores(N, seed=12)
    padded = torch.full((2, N), junk, dtype=torch.float64)
    padded[0, :41], padded[1] = short[0], long[0]
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, :41], mask[1] = True, True
    padded.requires_grad_()
    alpha = soft_topk(standardize(padded, mask), k=K, tau=0.2, mask=mask)

    for row, alone in enumerate((short, long)):
        expected = soft_topk(standardize(alone, all_real(alone)), k=K, tau=0.2, mask=all_real(alone))
        assert (alpha[row, : alone.shape[1]] - expected[0]).abs().max() < 1e-12
    assert torch.equal(alpha[0, 41:], torch.zeros(34, dtype=torch.float64))

    (gradient,) = torch.autograd.grad((alpha**2).sum(), padded)
    assert gradient.isfinite().all()
    assert torch.equal(gradient[0, 41:], torch.zeros(34, dtype=torch.float64))
    assert gradient[0, :41].abs().max() > 0


def test_holes_in_the_mask_are_padding_too():
    scores = random_scores(seed=13)
    mask = torch.rand(1, N, generator=torch.Generator().manual_seed(2)) < 0.6
    alpha = soft_topk(scores, k=K, tau=0.4, mask=mask)
    expected = bisected_alpha(scores[mask].tolist(), K, 0.4)
    assert (alpha[mask] - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-10
    assert (alpha[~mask] == 0).all()


# I10
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize(("n", "k"), [(75, 7), (75, 74), (75, 1), (11, 5)])
def test_closed_form_equals_bisection(n, k, tau):
    for seed in range(3):
        scores = random_scores(n, seed=100 + seed)
        alpha = soft_topk(scores, k=k, tau=tau, mask=all_real(scores))[0]
        expected = torch.tensor(bisected_alpha(scores[0].tolist(), k, tau), dtype=torch.float64)
        assert (alpha - expected).abs().max() < 1e-10


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 11,  # all tied
        [5.0] * 4 + [-5.0] * 7,  # the budget cuts between two ties
        [3.0] * 7 + [-3.0] * 4,  # the budget cuts inside a tie
        [-400.0, -3.0, 0.0, 0.1, 0.2, 3.0, 900.0],  # |s / tau| in the thousands
    ],
)
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_closed_form_on_ties_and_far_outliers(values, tau):
    scores = torch.tensor([values], dtype=torch.float64)
    alpha = soft_topk(scores, k=4, tau=tau, mask=all_real(scores))[0]
    expected = torch.tensor(bisected_alpha(values, 4, tau), dtype=torch.float64)
    assert (alpha - expected).abs().max() < 1e-9


@pytest.mark.parametrize("tau", [1.0, 0.05, 0.01])
def test_float32_on_a_long_slide(tau):
    scores = random_scores(10_007, seed=14, dtype=torch.float32)
    alpha = soft_topk(scores, k=33, tau=tau, mask=all_real(scores))
    expected = soft_topk(scores.double(), k=33, tau=tau, mask=all_real(scores))
    assert alpha.dtype == torch.float32
    assert (alpha - expected).abs().max() < 2e-4
    assert abs(alpha.sum().item() - 33) < 5e-3


def test_bfloat16_scores_are_solved_in_float32():
    scores = random_scores(501, seed=15, dtype=torch.bfloat16).requires_grad_()
    alpha = soft_topk(scores, k=33, tau=0.05, mask=all_real(scores))
    expected = soft_topk(scores.detach().double(), k=33, tau=0.05, mask=all_real(scores))
    assert (alpha.double() - expected).abs().max() < 1e-2
    alpha.float().square().sum().backward()
    assert scores.grad.isfinite().all() and scores.grad.abs().max() > 0


# standardize
def test_standardize_equals_a_loop_over_the_real_tiles():
    scores = torch.randn(2, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 4 + 2
    mask = torch.arange(N)[None] < torch.tensor([[41], [N]])
    z = standardize(scores, mask)
    for row, n in enumerate((41, N)):
        values = scores[row, :n].tolist()
        mean = sum(values) / n
        std = math.sqrt(sum((v - mean) ** 2 for v in values) / n + 1e-6)
        expected = torch.tensor([(v - mean) / std for v in values], dtype=torch.float64)
        assert (z[row, :n] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("values", [[2.5], [1.0] * 9])
def test_standardize_of_one_or_equal_scores_has_finite_gradients(values):
    scores = torch.tensor([values], requires_grad=True)
    z = standardize(scores, all_real(scores))
    (gradient,) = torch.autograd.grad((z * torch.arange(1, len(values) + 1)).sum(), scores)
    assert torch.equal(z, torch.zeros_like(z))
    assert gradient.isfinite().all()


# hard_topk
def test_hard_topk_keeps_the_largest_in_ascending_order():
    scores = torch.cat([random_scores(seed=16), random_scores(seed=17)])
    mask = torch.arange(N)[None] < torch.tensor([[5], [N]])
    indices, valid = hard_topk(scores, K, mask)
    assert indices.shape == valid.shape == (2, K)
    assert indices[0][valid[0]].tolist() == [0, 1, 2, 3, 4]
    assert valid[0].sum() == 5 and valid[1].all()
    assert indices[1].tolist() == sorted(sorted(range(N), key=lambda i: -scores[1, i].item())[:K])


@pytest.mark.parametrize("tau", [5.0, 1.0, 0.2])
def test_hard_topk_is_the_top_of_the_soft_weights(tau):  # I24
    scores = random_scores(seed=18)
    mask = all_real(scores)
    alpha = soft_topk(scores, k=K, tau=tau, mask=mask)
    assert torch.equal(hard_topk(alpha, K, mask)[0], hard_topk(scores, K, mask)[0])


def test_hard_topk_breaks_ties_the_same_alone_and_padded():
    scores = torch.zeros(1, N)
    scores[0, 50:53] = 1
    alone = hard_topk(scores, K, all_real(scores))[0]
    padded = torch.cat([scores, torch.zeros(1, 300)], dim=1)
    mask = torch.arange(N + 300)[None] < N
    assert torch.equal(hard_topk(padded, K, mask)[0], alone)
    assert {50, 51, 52} <= set(alone[0].tolist())


# temperature
def test_cosine_tau():
    tau = [cosine_tau(step, 100, 2.0, 0.1) for step in (0, 25, 50, 100, 101, 1000)]
    expected = [2.0, 0.1 + 0.95 * (1 + math.sqrt(0.5)), 1.05, 0.1, 0.1, 0.1]
    assert tau == pytest.approx(expected, abs=1e-12)
