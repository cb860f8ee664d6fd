"""What is handed to a reader in place of a bag: shares of the budget by hand, the piece alone, whole bags."""

import pytest
import torch

from benchmarks.selection_pays import Handed

N, D, K, PIECE = 15, 7, 4, range(5, 8)


@pytest.fixture
def bag():
    x = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0))
    coords = torch.zeros(2, N, 2, dtype=torch.long)
    coords[0, PIECE, 1], coords[1, :2, 1] = 1, 1
    mask = torch.ones(2, N, dtype=torch.bool)
    mask[1, 11:] = False
    return x, coords, mask


def test_the_piece_alone_is_an_oracles_selection(bag):
    x, coords, mask = bag
    found = Handed(K, alpha=None, alone=True)(x, coords, mask)
    assert found.kept[0].tolist() == list(PIECE) and found.mask.tolist() == [[True] * 3, [True, True, False]]
    assert torch.equal(found.tokens[0], x[0, PIECE]) and torch.equal(found.tokens[1, :2], x[1, :2])


@pytest.mark.parametrize(
    ("alpha", "own", "left"), [(0.0, [4 / 15, 4 / 11], None), (0.5, [0.5, 0.5], [2.5 / 12, 3 / 9])]
)
def test_the_budget_is_shared_between_the_piece_and_the_rest(bag, monkeypatch, alpha, own, left):
    x, coords, mask = bag
    seen = []
    monkeypatch.setattr("benchmarks.selection_pays.vp_gate", lambda x, alpha, generator: seen.append(alpha) or x)
    Handed(K, alpha=alpha)(x, coords, mask)
    for slide, (alphas, real, marked) in enumerate(zip(seen[0], mask, coords[..., 1] > 0, strict=True)):
        assert alphas[marked].tolist() == pytest.approx([own[slide]] * int(marked.sum()))
        assert alphas[real & ~marked].tolist() == pytest.approx([(left or own)[slide]] * int((real & ~marked).sum()))
        assert float(alphas[real].sum()) == pytest.approx(K)


def test_without_a_gate_every_tile_is_as_it_is(bag):
    x, coords, mask = bag
    assert torch.equal(Handed(K, alpha=None)(x, coords, mask).tokens, x * mask.unsqueeze(-1))
