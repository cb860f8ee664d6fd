"""TC-SSA from its equations, with loops: routing, pooling, experts, the auxiliary terms, and what masks must not do."""

import math

import pytest
import torch
from torch import nn

from slidesieve.compressors.tcssa import (
    TCSSA,
    Routing,
    entropy_loss,
    load,
    mean_affinity,
    pool_slots,
    switch_loss,
    z_loss_of_mean,
    z_loss_per_tile,
)

N, D, K = 75, 33, 7


def make(*, d: int = D, k: int = K, training: bool = False, **options) -> TCSSA:
    return TCSSA(d, k, expert_hidden=11, seed=5, **options).double().train(training)


def bags(*lengths: int, d: int = D, junk: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n = max(lengths)
    mask = torch.arange(n)[None] < torch.tensor(lengths)[:, None]
    x = torch.full((len(lengths), n, d), junk, dtype=torch.float64)
    for i, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(length)
        x[i, :length] = torch.randn(length, d, generator=generator, dtype=torch.float64)
    return x, torch.zeros(*mask.shape, 2, dtype=torch.long), mask


def naive(model: TCSSA, x: torch.Tensor) -> torch.Tensor:
    """Tokens (k d) of one slide (n d), tile by tile and slot by slot."""
    n, k, gate = len(x), model.k, model.gate
    kept = torch.zeros(n, k, dtype=x.dtype)
    for j in range(n):
        g = gate.weight @ x[j] + gate.bias
        p = (g - g.max()).exp() / (g - g.max()).exp().sum()
        for slot in sorted(range(k), key=lambda slot: -p.tolist()[slot])[: model.top]:
            kept[j, slot] = p[slot]
    tokens = []
    for slot in range(k):
        c = sum(kept[j, slot] * x[j] for j in range(n)) / (sum(kept[j, slot] for j in range(n)) + 1e-9)
        e = model.experts
        h = nn.functional.gelu(c @ e.w1[slot] + e.b1[slot]) @ e.w2[slot] + e.b2[slot]
        h = (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt() * e.scale[slot] + e.shift[slot]
        tokens.append(c + h)
    return torch.stack(tokens)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_tokens_are_those_of_the_loops(top):
    model, (x, coords, mask) = make(top=top), bags(41, N, 1, junk=50)
    for parameter in (model.experts.scale, model.experts.shift):
        nn.init.normal_(parameter, mean=0.5)
    out = model(x, coords, mask)
    for i, n in enumerate((41, N, 1)):
        assert (out.tokens[i] - naive(model, x[i, :n])).abs().max() < 1e-12


@pytest.mark.parametrize("top", [1, 2, 4])
def test_each_tile_goes_to_its_top_slots_and_keeps_its_share(top):  # I26
    x, _, mask = bags(41, N, junk=50)
    routing = make(top=top, training=True).route(x, mask, torch.Generator().manual_seed(0))
    assert (routing.routed.sum(-1) == top * mask).all()
    assert (routing.affinity.sum(-1) - 1).abs().max() < 1e-12
    kept = (routing.affinity * routing.routed).sum(-1)
    assert (kept <= 1).all() and (kept[mask] < 1).all()  # not renormalised
    least = routing.affinity.masked_fill(~routing.routed, torch.inf).amin(-1)
    most = routing.affinity.masked_fill(routing.routed, -torch.inf).amax(-1)
    assert (least >= most)[mask].all()


@pytest.mark.parametrize("n", [1, 2, 5, 10_000])
def test_as_many_tokens_as_slots_whatever_the_slide(n):  # I27
    x, coords, mask = bags(n, 3)
    out = make()(x, coords, mask)
    assert out.tokens.shape == (2, K, D) and out.tokens.isfinite().all()
    assert out.mask.all() and out.span.tolist() == [K, K] and out.positions[0].tolist() == list(range(K))


def test_a_slot_is_a_mean_of_its_tiles():  # I28
    x, _, mask = bags(N)
    routing = make().route(x, mask)
    share, centre = pool_slots(x, routing)
    for slot in range(K):
        routed = x[0, routing.routed[0, :, slot]]
        assert len(routed)
        assert (routed.amin(0) - 1e-8 <= centre[0, slot]).all() and (centre[0, slot] <= routed.amax(0) + 1e-8).all()
    assert (share.sum(1) - 1).abs().max() < 1e-7 and (share[~routing.routed] == 0).all()


def test_neither_the_order_of_tiles_nor_a_second_copy_of_the_slide_matters():  # I29
    model, (x, coords, mask) = make(training=True, routing_noise=0, expert_dropout=0), bags(N)
    out = model(x, coords, mask)
    order = torch.randperm(N)
    shuffled = model(x[:, order], coords, mask)
    twice = model(torch.cat([x, x], 1), torch.cat([coords, coords], 1), torch.cat([mask, mask], 1))
    for other in (shuffled, twice):
        assert (other.tokens - out.tokens).abs().max() < 1e-7  # DELTA counts half as much in the doubled slide
        assert (other.aux_loss - out.aux_loss).abs() < 1e-12


def routing_of(logits: torch.Tensor, top: int = 2) -> Routing:
    affinity = logits.softmax(-1)
    routed = torch.zeros_like(affinity, dtype=torch.bool).scatter(-1, affinity.topk(top).indices, True)
    return Routing(affinity, routed, logits, logits)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_auxiliary_terms_of_an_even_gate(top):  # I30, I32
    logits = torch.zeros(1, N, K, dtype=torch.float64)
    routing, mask = routing_of(logits, top), torch.ones(1, N, dtype=torch.bool)
    assert switch_loss(routing, mask).item() == pytest.approx(top, abs=1e-12)
    assert entropy_loss(routing, mask).item() == pytest.approx(0, abs=1e-6)
    for z_loss in (z_loss_per_tile, z_loss_of_mean):
        assert z_loss(logits, mask).item() == pytest.approx(math.log(K) ** 2, abs=1e-12)


def test_auxiliary_terms_of_a_collapsed_gate():  # I31
    logits = torch.full((1, N, K), -1e3, dtype=torch.float64)
    logits[..., :2] = 0
    routing, mask = routing_of(logits), torch.ones(1, N, dtype=torch.bool)
    assert switch_loss(routing, mask).item() == pytest.approx(K, abs=1e-12)
    assert entropy_loss(routing, mask).item() == pytest.approx(1 - math.log(2) / math.log(K), abs=1e-6)


def test_both_z_losses():  # I32
    logits = torch.randn(3, N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(N) < torch.tensor([N, 9, 1])[:, None]
    per_tile, of_mean = z_loss_per_tile(logits, mask), z_loss_of_mean(logits, mask)
    for i, n in enumerate((N, 9, 1)):
        lse = [math.log(sum(math.exp(g) for g in logits[i, j])) for j in range(n)]
        assert per_tile[i].item() == pytest.approx(sum(value**2 for value in lse) / n)
        assert of_mean[i].item() == pytest.approx((sum(lse) / n) ** 2)
    assert (per_tile[:2] > of_mean[:2]).all()
    assert per_tile[2].item() == pytest.approx(of_mean[2].item())


@pytest.mark.parametrize("z_loss", ["per_tile", "mean"])
def test_the_auxiliary_loss_is_the_papers_sum_over_real_tiles(z_loss):
    """Loops over each slide alone, with the noise that the padded batch drew; then the mean over slides."""
    model, (x, coords, mask) = make(training=True, z_loss=z_loss, balance=0.3), bags(N, 41, junk=50)
    aux = model(x, coords, mask, torch.Generator().manual_seed(1)).aux_loss
    drawn = torch.randn(2, N, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = []
    for i, n in enumerate((N, 41)):
        clean = [(model.gate.weight @ x[i, j] + model.gate.bias).detach() for j in range(n)]
        noisy = [(g + 0.1 * drawn[i, j]).tolist() for j, g in enumerate(clean)]
        p = [[math.exp(v) / sum(math.exp(u) for u in g) for v in g] for g in noisy]
        top = [sorted(range(K), key=lambda slot: -row[slot])[:2] for row in p]
        mean = [sum(row[slot] for row in p) / n for slot in range(K)]
        f = [sum(slot in chosen for chosen in top) / n for slot in range(K)]
        switch = K * sum(a * b for a, b in zip(mean, f, strict=True))
        entropy = 1 + sum(a * math.log(a + 1e-8) for a in mean) / math.log(K)
        lse = [math.log(sum(math.exp(v) for v in g)) for g in (clean if z_loss == "per_tile" else noisy)]
        z = sum(v**2 for v in lse) / n if z_loss == "per_tile" else (sum(lse) / n) ** 2
        expected.append(switch + 0.5 * entropy + 1e-4 * z)
    assert aux.item() == pytest.approx(0.3 * sum(expected) / 2, rel=1e-10)


def test_loads_sum_to_top_and_mean_affinities_to_one():
    x, _, mask = bags(N, 41, 1, junk=50)
    routing = make(top=3).route(x, mask)
    assert (load(routing, mask).sum(-1) - 3).abs().max() < 1e-12
    assert (mean_affinity(routing, mask).sum(-1) - 1).abs().max() < 1e-12


def test_an_empty_slot_is_finite_and_so_are_its_gradients():  # I33
    model, (x, coords, mask) = make(training=True, routing_noise=0), bags(N, 2)
    with torch.no_grad():
        model.gate.bias[:2] = 1e3  # every tile goes to the first two slots; the others' affinities underflow to 0
    x.requires_grad_()
    out = model(x, coords, mask)
    (out.tokens.square().sum() + out.aux_loss).backward()
    assert out.tokens.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert out.weights.to_dense()[:, 2:].sum() == 0
    expected = model.eval().experts(torch.zeros(1, K, D, dtype=torch.float64))
    assert torch.equal(model(x, coords, mask).tokens[0, 2:], expected[0, 2:])


def test_padding_and_batch_mates_change_nothing():  # I34
    model = make()
    alone = model(*bags(41))
    company = model(*bags(41, N, 1, junk=50))
    assert (company.tokens[0] - alone.tokens[0]).abs().max() < 1e-12
    assert (company.weights.to_dense()[0, :, :41] - alone.weights.to_dense()[0]).abs().max() < 1e-12
    assert (company.weights.to_dense()[0, :, 41:] == 0).all()


def test_evaluation_draws_nothing_and_has_no_loss_of_its_own():  # I35
    model, batch = make(), bags(N)
    outs = [model(*batch, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert torch.equal(outs[0].tokens, outs[1].tokens) and outs[0].aux_loss == 0
    model.train()
    outs = [model(*batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(outs[0].weights.to_dense(), outs[1].weights.to_dense())
    assert not torch.equal(outs[0].weights.to_dense(), outs[2].weights.to_dense())
    assert outs[0].aux_loss > 0


@pytest.mark.parametrize(("d", "expected"), [(1024, 33_701_920), (512, 16_859_168)])
def test_parameter_counts(d, expected):  # I36
    assert sum(p.numel() for p in TCSSA(d, 32).parameters()) == expected


def test_experts_are_independent():  # I37
    model, (x, coords, mask) = make(), bags(N)
    model(x, coords, mask).tokens[0, 3].sum().backward()
    for name, parameter in model.experts.named_parameters():
        others = [slot for slot in range(K) if slot != 3]
        assert (parameter.grad[others] == 0).all(), name
        assert (parameter.grad[3] != 0).any() or name == "scale", name


def test_the_gate_learns_through_shares_not_through_choices():
    """The gradient to the gate is that of shares with the chosen slots held fixed."""
    model, (x, coords, mask) = make(), bags(N)
    probe = torch.randn(K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (model(x, coords, mask).tokens[0] * probe).sum().backward()
    routed = model.route(x, mask).routed

    def value(weight):
        affinity = (x @ weight.T + model.gate.bias).softmax(-1)
        return (model.experts(pool_slots(x, Routing(affinity, routed, affinity, affinity))[1])[0] * probe).sum()

    weight = model.gate.weight.detach()
    for slot, place in ((0, 0), (3, 17), (6, 32)):
        step = torch.zeros_like(weight)
        step[slot, place] = 1e-6
        slope = (value(weight + step) - value(weight - step)) / 2e-6
        assert model.gate.weight.grad[slot, place].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-9)


def test_a_heavier_balance_loss_leaves_more_slots_in_use():  # Sec. 3.3: against collapse
    used = [effective_slots_when_pulled_to_one(balance) for balance in (0.0, 0.1, 0.5)]
    assert used[0] + 1 < used[1] < used[2] <= K


def effective_slots_when_pulled_to_one(balance: float) -> float:
    """Train a gate that a task pulls towards slot 0; return exp H of the load at the end."""
    model = make(training=True, balance=balance, routing_noise=0.0)
    x, _, mask = bags(N)
    optimizer = torch.optim.Adam(model.gate.parameters(), lr=0.02)
    for _ in range(150):
        routing = model.route(x, mask)
        task = -0.1 * mean_affinity(routing, mask)[:, 0].log().mean()
        optimizer.zero_grad()
        (task + model.aux_loss(routing, mask)).backward()
        optimizer.step()
    share = load(model.route(x, mask), mask)[0].detach() / model.top
    return float(torch.special.entr(share).sum().exp())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"top": 0}, "top = 0 of k = 7"), ({"top": 8}, "top = 8 of k = 7"), ({"z_loss": "T3"}, "z_loss 'T3'")],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
