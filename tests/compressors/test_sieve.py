"""The sieve against loops over tiles and clusters, in use and in training, and where its parts are what they were."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slidesieve.compressors.sieve import Sieve, split
from slidesieve.compressors.sparselearn import SparseLearn
from slidesieve.compressors.topk import soft_topk, standardize
from slidesieve.compressors.untrained.alone import Directions
from slidesieve.compressors.untrained.kmeans import clusters

N, D, K = 61, 33, 9
SHORT = 23


def slides(*lengths: int):
    x = torch.zeros(len(lengths), max(lengths), D, dtype=torch.float64)
    for i, n in enumerate(lengths):
        x[i, :n] = torch.randn(n, D, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return x, torch.zeros(*x.shape[:2], 2, dtype=torch.long), mask


def sieve(training=False, **options):
    return Sieve(D, K, scorer_heads=3, seed=5, **options).double().train(training)


def naive(model, x, left):
    """Mean, place and share of what is left of each cluster of one slide, tile by tile."""
    _, k2 = split(K, 0.5)
    of, x = clusters(Directions(x.float()) if x.dtype != torch.float64 else Directions(x), k2), F.layer_norm(x, (D,))
    found = []
    for c in range(k2):
        own = [i for i in range(len(x)) if of[i] == c and left[i] > 0]
        total = sum(float(left[i].detach()) for i in own)
        if total <= 1e-4:
            continue
        mean = sum(left[i].item() * x[i] for i in own) / total
        place = min(own, key=lambda i: float((x[i] - mean).square().sum()))
        found.append((place, mean, {i: left[i].item() / total for i in own}))
    return sorted(found, key=lambda one: one[0])


def test_the_budget_is_divided():
    assert [split(k, 0.5) for k in (1, 2, 8, 32)] == [(1, 0), (1, 1), (4, 4), (16, 16)]
    assert split(32, 0.25) == (24, 8) and split(8, 0.0) == (8, 0) and split(8, 0.99) == (1, 7)
    with pytest.raises(ValueError, match=r"sieve: got means = 1\.0"):
        sieve(means=1.0)


@pytest.mark.parametrize("training", [False, True])
def test_tokens_are_kept_tiles_and_the_means_of_what_is_left(training):
    model, (x, coords, mask) = sieve(training), slides(SHORT, N)
    out = model(x, coords, mask, torch.Generator().manual_seed(1))
    scores, (k1, _) = model.scores(x, mask), split(K, 0.5)
    soft = soft_topk(standardize(scores, mask), k=k1, tau=float(model.tau), mask=mask)
    for i, n in enumerate((SHORT, N)):
        kept = set(scores[i, :n].topk(k1).indices.tolist())
        left = 1 - soft[i, :n] if training else torch.tensor([float(j not in kept) for j in range(n)])
        is_mean = (out.kept[i] < 0) & out.mask[i]
        expected = naive(model, x[i, :n], left)
        assert out.places[i][is_mean].tolist() == [place for place, *_ in expected]
        for token, (_, mean, _) in zip(out.tokens[i][is_mean], expected, strict=True):
            assert (token - mean).abs().max() < 1e-6
        weights = out.weights.to_dense()[i][is_mean]
        for row, (_, _, share) in zip(weights, expected, strict=True):
            assert {j: round(float(v), 6) for j, v in enumerate(row) if v} == {
                j: round(v, 6) for j, v in share.items() if round(v, 6)
            }
        is_tile = (out.kept[i] >= 0) & out.mask[i]
        assert out.kept[i][is_tile].tolist() == (list(range(n)) if training else sorted(kept))
        assert (out.positions[i][out.mask[i]].diff() >= (0 if training else 1)).all() and out.span[i] == n


def test_a_slide_shorter_than_what_is_kept_is_kept_whole_and_has_no_mean():
    """Beside a longer one, so that its row has places that are no tile's."""
    for n in (1, 2, 4):
        out = sieve()(*slides(n, N))
        assert out.kept[0][out.mask[0]].tolist() == list(range(n))


def test_in_training_tiles_are_sparselearns_of_a_smaller_budget():
    (k1, _), batch = split(K, 0.5), slides(SHORT, N)
    own = SparseLearn(D, k1, scorer_heads=3, seed=5).double().train()
    model = sieve(training=True)
    model.load_state_dict(own.state_dict())
    theirs, out = own(*batch, torch.Generator().manual_seed(1)), model(*batch, torch.Generator().manual_seed(1))
    for i in range(2):
        is_tile = (out.kept[i] >= 0) & out.mask[i]
        assert torch.equal(out.tokens[i][is_tile], theirs.tokens[i][theirs.mask[i]])


def test_cold_training_means_are_those_in_use_and_without_means_it_is_sparselearn():
    batch, model = slides(N), sieve(training=True)
    model.tau.fill_(1e-4)
    cold = model(*batch, torch.Generator().manual_seed(1))
    used = model.eval()(*batch)
    soft, hard = (out.tokens[0][(out.kept[0] < 0) & out.mask[0]] for out in (cold, used))
    assert (soft - hard).abs().max() < 1e-3
    plain = sieve(means=0.0)(*batch)
    own = SparseLearn(D, K, scorer_heads=3, seed=5).double().eval()(*batch)
    assert torch.equal(plain.tokens, own.tokens) and torch.equal(plain.kept, own.kept)


def test_means_teach_the_scorer_too():
    """A gradient that comes by the means alone reaches the scores, and is that of differences."""
    model, batch = sieve(training=True), slides(N)
    head = model.scorer.head.weight

    def value():
        out = model(*batch, torch.Generator().manual_seed(1))
        is_mean = (out.kept[0] < 0) & out.mask[0]
        return (out.tokens[0][is_mean] * torch.linspace(-1, 1, D, dtype=torch.float64)).sum()

    value().backward()
    found = head.grad.clone()
    with torch.no_grad():
        step, differences = 1e-5, []
        for j in range(3):
            sides = []
            for sign in (1, -1):
                head[0, j] += sign * step
                sides.append(float(value()))
                head[0, j] -= sign * step
            differences.append((sides[0] - sides[1]) / (2 * step))
    assert np.allclose(found[0, :3].numpy(), differences, rtol=1e-3, atol=1e-7) and found.abs().max() > 1e-4
