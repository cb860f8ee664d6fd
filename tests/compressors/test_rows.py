"""A bag taken a stretch of rows at a time is the bag taken at once: every compressor, in use and with its gradients."""

import pytest
import torch

from slidesieve.compressors import rows
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.rows import by_rows, real_rows, stretches
from slidesieve.compressors.untrained import coverage, tome, visionzip

N, D, K = 71, 16, 6


@pytest.mark.parametrize("n", [1, 16, 17, 18, 34, 53])
def test_stretches_are_all_rows_once_and_in_order(n, monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 17)
    x, more = torch.randn(n, 3), torch.randn(n, 3)
    seen = []
    joined = by_rows(lambda a, b: seen.append(len(a)) or (a * b).sum(-1), x, more)
    assert torch.equal(joined, (x * more).sum(-1)) and max(seen) <= 17 and sum(seen) == n
    assert torch.equal(by_rows(torch.exp, x[None], dim=1), x[None].exp())
    assert torch.cat([torch.arange(n)[some] for some in stretches(n)]).tolist() == list(range(n))


def test_where_all_rows_are_real_none_is_copied():
    x, real = torch.randn(5, 3), torch.tensor([True, False, True, True, False])
    assert real_rows(x, torch.ones(5, dtype=torch.bool)) is x
    assert torch.equal(real_rows(x, real), x[[0, 2, 3]])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressor_gives_the_same_in_stretches(name, training, monkeypatch):
    x = torch.randn(2, N, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    coords = (torch.stack([torch.arange(N) % 9, torch.arange(N) // 9], -1) * 256).expand(2, -1, -1)
    mask = torch.arange(N)[None] < torch.tensor([[N], [41]])
    x = x * mask.unsqueeze(-1)

    def found() -> tuple:
        model = COMPRESSORS[name](D, K, seed=1).double().train(training)
        given = x.clone().requires_grad_()
        out = model(given, coords, mask, torch.Generator().manual_seed(7))
        value = out.tokens.square().sum() + out.aux_loss
        (slope,) = torch.autograd.grad(value, given, allow_unused=True) if value.requires_grad else (None,)
        return out, slope

    whole, slope = found()
    monkeypatch.setattr(rows, "ROWS", 17)
    for module in (coverage, visionzip):
        monkeypatch.setattr(module, "BLOCK", 10 * N)
    monkeypatch.setattr(coverage, "AT_ONCE", 3)
    monkeypatch.setattr(tome, "BLOCK", 5)
    cut, slope_cut = found()
    assert torch.allclose(cut.tokens, whole.tokens, rtol=0, atol=1e-12) and torch.equal(cut.mask, whole.mask)
    assert torch.equal(cut.positions, whole.positions)
    assert (slope is None) == (slope_cut is None)
    assert slope is None or torch.allclose(slope, slope_cut, rtol=0, atol=1e-11)
