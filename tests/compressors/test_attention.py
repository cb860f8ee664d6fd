"""Selection by attention against loops over tiles: what is kept, what is pooled, and what learns from which."""

import math

import pytest
import torch

from slidesieve.compressors.attention import AttentionTopK
from slidesieve.compressors.cropr import Cropr, cropped, hilbert

N, D, K = 61, 33, 7
SHORT = 23


def slides(*lengths: int):
    """Padded with noise; tiles on a grid 9 wide, in an order of their own."""
    g = torch.Generator().manual_seed(len(lengths))
    x = torch.randn(len(lengths), max(lengths), D, generator=g, dtype=torch.float64)
    place = torch.randperm(90, generator=g)[: max(lengths)]
    coords = torch.stack([place % 9, place // 9], -1).expand(len(lengths), -1, -1) * 256
    return x, coords, torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]


def made(name, training=False, **options):
    cls, own = {"attention_topk": (AttentionTopK, {}), "cropr": (Cropr, {"query_heads": 3})}[name]
    return cls(D, K, seed=5, **own, **options).double().train(training)


def gated(model, x):
    """Attention logits of one slide, tile by tile (Ilse et al. 2018, Eq. 9)."""
    found = []
    for tile in x:
        v = torch.tanh(model.v.weight @ tile + model.v.bias)
        u = 1 / (1 + torch.exp(-(model.u.weight @ tile + model.u.bias)))
        found.append(float((model.w.weight[0] * v * u).sum()))
    return found


def shares_of(logits):
    total = sum(math.exp(e) for e in logits)
    return [math.exp(e) / total for e in logits]


def test_the_tiles_with_most_attention_are_kept():
    model, (x, coords, mask) = made("attention_topk"), slides(SHORT, N)
    out = model(x, coords, mask)
    for i, n in enumerate((SHORT, N)):
        e = gated(model, x[i, :n])
        assert out.kept[i].tolist() == sorted(sorted(range(n), key=lambda j: -e[j])[:K])
        assert (out.scores[i, :n] - torch.tensor(e)).abs().max() < 1e-6


def test_in_training_some_slides_are_read_through_their_pooled_token():
    model, (x, coords, mask) = made("attention_topk", training=True), slides(*[SHORT, N] * 20)
    out = model(x, coords, mask, torch.Generator().manual_seed(3))
    drawn = torch.rand(40, generator=torch.Generator().manual_seed(3)) < 0.5
    assert out.mask.sum(1).tolist() == [1 if pooled else K for pooled in drawn] and 10 < drawn.sum() < 30
    weights = out.weights.to_dense()
    for i, pooled in enumerate(drawn):
        n = (SHORT, N)[i % 2]
        if not pooled:
            assert torch.equal(out.tokens[i], x[i, out.kept[i]]) and (weights[i].sum(-1) == 1).all()
            continue
        a = shares_of(gated(model, x[i, :n]))
        expected = sum(a[j] * x[i, j] for j in range(n))
        assert (out.tokens[i, 0] - expected).abs().max() < 1e-10
        assert (weights[i, 0, :n] - torch.tensor(a)).abs().max() < 1e-6 and weights[i].sum() == pytest.approx(1)
        assert out.kept[i].tolist() == [-1] * K and out.places[i, 0] == a.index(max(a)) == out.positions[i, 0]


@pytest.mark.parametrize("name", ["attention_topk", "cropr"])
def test_attention_learns_from_pooled_tokens_alone(name):
    for pooled, learns in ((1 - 1e-9, True), (1e-9, False)):
        model, (x, coords, mask) = made(name, training=True, pooled=pooled), slides(SHORT, N)
        x.requires_grad_()
        (model(x, coords, mask, torch.Generator()).tokens ** 3).sum().backward()
        gradients = [p.grad is not None and bool(p.grad.any()) for p in model.parameters()]
        assert all(gradients) if learns else not any(gradients)


@pytest.mark.parametrize("name", ["attention_topk", "cropr"])
def test_scores_do_not_tie_where_the_rest_computes_in_bfloat16(name):
    model, (x, coords, mask) = made(name).float(), slides(SHORT, N)
    plain = model(x.float(), coords, mask)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x.float(), coords, mask)
        again = model(x.bfloat16(), coords, mask)
    assert torch.equal(half.scores, plain.scores) and torch.equal(half.kept, plain.kept)
    assert again.scores.dtype == torch.float32 and again.tokens.dtype == torch.bfloat16


@pytest.mark.parametrize("pooled", [0.0, 1.0, -1, 2])
def test_both_kinds_of_slides_are_needed(pooled):
    with pytest.raises(ValueError, match=f"pooled = {pooled}; expected a share"):
        made("attention_topk", pooled=pooled)


def naive_crops(model, x, order):
    """Which tiles of one slide are left after all stages, in loops; the pooled token of each stage."""
    n, left, pooled = len(x), list(order), []
    h, stages = 3, len(model.queries)
    w = D // h
    for s, query in enumerate(model.queries, start=1):
        e = {}
        heads = []
        for head in range(h):
            rows = slice(head * w, (head + 1) * w)
            e[head] = {i: float(query.q[rows] @ (query.k.weight[rows] @ x[i])) / math.sqrt(w) for i in left}
            total = sum(math.exp(v) for v in e[head].values())
            heads.append(sum(math.exp(e[head][i]) / total * (query.v.weight[rows] @ x[i]) for i in left))
        o = query.out(torch.cat(heads))
        pooled.append(o + query.mlp(query.norm(o)))
        score = {i: sum(e[head][i] for head in range(h)) for i in left}
        size = len(left) - round(n * (K / n) ** (s / stages)) if n > K else 0
        if size > 0:
            sums = [sum(score[i] for i in left[a : a + size]) for a in range(len(left) - size + 1)]
            start = sums.index(min(sums))
            left = left[:start] + left[start + size :]
    return sorted(left), pooled


@pytest.mark.parametrize("stages", [1, 4])
def test_the_worst_stretches_of_the_curve_are_cropped(stages):
    model, lengths = made("cropr", crop_stages=stages), (SHORT, N, K, 3)
    x, coords, mask = slides(*lengths)
    out = model(x, coords, mask)
    pooled = model.attend(x, coords, mask).pooled
    for i, n in enumerate(lengths):
        order = sorted(range(n), key=lambda j: int(hilbert(coords[i, j])))
        expected, tokens = naive_crops(model, x[i, :n], order)
        assert out.kept[i][out.mask[i]].tolist() == expected and len(expected) == min(n, K)
        assert max((a - b).abs().max() for a, b in zip(pooled[i], tokens, strict=True)) < 1e-10


def test_a_stretch_is_taken_out_of_what_is_left():
    scores = torch.tensor([[5.0, 0, 1, 9, 0, 0, 7, 7]])
    left = torch.tensor([[True, True, False, True, True, True, True, False]])
    order = torch.arange(8)[None]
    assert cropped(scores, left, order, torch.tensor([4]))[0].nonzero().flatten().tolist() == [0, 1, 3, 6]
    assert torch.equal(cropped(scores, left, order, torch.tensor([6])), left)
    back = cropped(scores, left, order.flip(1), torch.tensor([3]))
    assert back[0].nonzero().flatten().tolist() == [0, 1, 3]


def test_neighbours_on_the_curve_are_neighbours_on_the_slide():
    side = 16
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    along = hilbert(place)
    assert sorted(along.tolist()) == list(range(side**2))
    steps = place[along.argsort()].diff(dim=0).abs().sum(-1)
    assert (steps == 1).all()
    line = torch.stack([torch.arange(1000), torch.zeros(1000, dtype=torch.long)], -1)  # a bag without places
    assert (hilbert(line).diff() > 0).all()


@pytest.mark.parametrize(
    ("options", "told"), [({"crop_stages": 0}, "crop_stages = 0"), ({"query_heads": 2}, "= 2; ex")]
)
def test_a_wrong_option_is_named(options, told):
    with pytest.raises(ValueError, match=told):
        Cropr(D, K, **{"query_heads": 3} | options)
