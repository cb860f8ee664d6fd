"""Bag classification: the head's formula, what reaches it on each path, and a training loop that repeats itself."""

import copy
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.features.bag import Batch, collate, make_bag
from slidesieve.mil.models import BagClassifier, GatedAttentionHead, log_mass
from slidesieve.mil.training import Annealing, Settings, bag_auc, bag_logits, bags_of_step, class_weights, fit_bags

D, K, N = 12, 5, 47


@dataclass(frozen=True)
class ToyBags:
    """Bags of noise with 4 tokens that share a direction and carry the class in another."""

    x: torch.Tensor
    y: np.ndarray
    is_needle: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, bags):
        x = self.x[torch.from_numpy(bags)]
        coords = torch.arange(N)[None, :, None].expand(len(x), N, 2)
        return Batch(x, coords, torch.ones(x.shape[:2], dtype=torch.bool)), torch.from_numpy(self.y[bags])


def toy(count: int, seed: int) -> ToyBags:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((count, N, D)).astype(np.float32), np.arange(count) % 2
    mark = np.zeros((count, N), bool)
    for i in range(count):
        where = rng.choice(N, 4, replace=False)
        mark[i, where] = True
        x[i, where, 0] += 6
        x[i, where, 1] += 5 * (2 * y[i] - 1)
    return ToyBags(torch.from_numpy(x), y, mark)


def classifier(name: str = "sparselearn", *, seed: int = 0, classes: int = 2) -> BagClassifier:
    own = (
        {"scorer_layers": 1, "scorer_width": 16, "scorer_heads": 2, "denoiser": "off"} if name == "sparselearn" else {}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = GatedAttentionHead(D, classes, width=24, attention=9)
    return BagClassifier(COMPRESSORS[name](D, K, seed=seed, **own), head)


def weights(model) -> dict:
    return copy.deepcopy(model.state_dict())


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def fit(tmp_path):
    return partial(fit_bags, seed=0, checkpoint=tmp_path / "bags.pt")


class Inputs(torch.nn.Module):
    """A head that keeps what it was given."""

    def forward(self, tokens, mask, mass):
        self.seen = tokens, mask, mass
        return tokens.sum((1, 2))[:, None].expand(-1, 2)


def test_the_head_is_its_formula():
    head = classifier(classes=3).head.eval()
    z, mass = torch.randn(7, D), torch.rand(7)
    e, h = [], []
    for i in range(7):
        h.append(torch.relu(head.lift[0].weight @ F.layer_norm(z[i], (D,)) + head.lift[0].bias))
        v = torch.tanh(head.v.weight @ h[i] + head.v.bias)
        u = torch.sigmoid(head.u.weight @ h[i] + head.u.bias)
        e.append((head.w.weight[0] @ (v * u)).item() + math.log(mass[i]))
    a = [math.exp(value) / sum(map(math.exp, e)) for value in e]
    want = head.out.weight @ sum(a[i] * h[i] for i in range(7)) + head.out.bias
    got = head(z[None], torch.ones(1, 7, dtype=torch.bool), mass.log()[None])
    assert torch.allclose(got[0], want, atol=1e-5)


@pytest.mark.parametrize("name", ["sparselearn", "tcssa", "all", "random", "linspace", "mean"])
def test_neither_padding_nor_batch_mates_change_a_bags_logits(name):
    rng = np.random.default_rng(0)
    bags = [make_bag(str(n), rng.standard_normal((n, D)), None, {}) for n in (31, 3, N)]
    model = classifier(name).eval()
    together, _ = model(*collate(bags).tiles)
    for i, bag in enumerate(bags):
        assert torch.allclose(together[i], model(*collate([bag]).tiles)[0][0], atol=1e-6)


def test_a_bag_of_no_token_gives_the_bias():
    head = classifier().head.eval()
    got = head(torch.zeros(1, 4, D), torch.zeros(1, 4, dtype=torch.bool), torch.zeros(1, 4))
    assert torch.allclose(got[0], head.out.bias)


def test_in_evaluation_exactly_k_raw_tokens_reach_the_head():
    model = BagClassifier(classifier().compressor, Inputs()).eval()
    batch, _ = toy(3, 1).batch(np.arange(3))
    x, coords, mask = batch.tiles
    model(x, coords, mask)
    tokens, valid, mass = model.head.seen
    kept = model.compressor.scores(x, mask).topk(K).indices.sort().values
    raw = F.layer_norm(x, (D,)).gather(1, kept[..., None].expand(-1, -1, D))
    assert tokens.shape == (3, K, D) and valid.all() and torch.equal(mass, torch.zeros(3, K))
    assert torch.allclose(tokens, raw, atol=1e-6)


def test_in_training_all_tokens_reach_the_head_with_masses_that_sum_to_k():
    model = BagClassifier(classifier().compressor, Inputs()).train()
    batch, _ = toy(3, 1).batch(np.arange(3))
    x, coords, mask = batch.tiles
    model(x, coords, mask)
    tokens, _, mass = model.head.seen
    assert tokens.shape == (3, N, D) and torch.allclose(mass.exp().sum(-1), torch.full((3,), float(K)), atol=1e-3)


def test_a_mean_has_mass_one():
    batch, _ = toy(2, 0).batch(np.arange(2))
    x, coords, mask = batch.tiles
    assert torch.allclose(log_mass(classifier("mean").compressor(x, coords, mask)), torch.zeros(2, K), atol=1e-6)


def test_the_seed_is_the_run_and_the_global_generator_is_left_alone(fit):
    results, settings = [], Settings(1e-2, epochs=2, patience=2, batch=7)
    for seed, noise in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise)
        before, model = torch.get_rng_state(), classifier()
        log = fit(model, toy(20, 0), toy(9, 1), settings, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        results.append((weights(model), log))
    assert same(results[0][0], results[1][0]) and results[0][1].equals(results[1][1])
    assert not same(results[0][0], results[2][0])


def test_the_best_epoch_is_kept_and_patience_ends_the_run(fit):
    unlearnable = np.random.default_rng(0).permutation(np.arange(30) % 2)
    validation, model = replace(toy(30, 1), y=unlearnable), classifier()
    log = fit(model, toy(40, 0), validation, Settings(1e-2, epochs=30, patience=2, batch=8))
    best = log["validation_auc"].idxmax()
    assert not model.training
    assert bag_auc(bag_logits(model, validation, batch=8), validation.y) == log["validation_auc"][best]
    assert len(log) == best + 3 < 30


def test_a_named_part_has_its_own_rate(fit):
    model = classifier()
    before = weights(model)
    fit(model, toy(20, 0), toy(9, 1), Settings(1e-2, 1, 1, 8, weight_decay=0, rates={"head": 0.0}))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("compressor.scorer") for name in moved)


def test_a_compressors_own_loss_is_trained_too(fit):
    """A gate of TC-SSA that sends all to one slot is balanced by the auxiliary terms; the task asks for nothing."""
    entropy = {}
    for balance in (0.0, 10.0):
        model = classifier("tcssa")
        model.compressor.balance = balance
        torch.nn.init.constant_(model.compressor.gate.bias[:1], 4.0)
        fit(model, toy(40, 0), toy(9, 1), Settings(0.1, 1, 1, 4, rates={"head": 0.0}))
        batch, _ = toy(9, 1).batch(np.arange(9))
        x, _, mask = batch.tiles
        p = model.compressor.route(x, mask).affinity.detach().mean((0, 1))
        entropy[balance] = float(-(p * p.log()).sum())
    assert entropy[10.0] > entropy[0.0] + 0.1


def test_rare_classes_weigh_more():
    weight = class_weights(np.array([0, 0, 0, 1, 2, 2]))
    assert weight.tolist() == pytest.approx([6 / 9, 2, 1])


def test_bfloat16_is_for_training_alone(fit):
    used: dict[bool, set] = {True: set(), False: set()}
    model = classifier()
    model.head.lift[0].register_forward_hook(lambda part, _, out: used[part.training].add(out.dtype))
    fit(model, toy(20, 0), toy(9, 1), Settings(1e-2, 1, 1, 8, mixed_precision="bf16"))
    assert used == {True: {torch.bfloat16}, False: {torch.float32}}
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_validation_sees_the_schedule_at_its_end(fit):
    calls = []
    settings = Settings(1e-3, epochs=2, patience=2, batch=8)
    fit(classifier(), toy(20, 0), toy(9, 1), settings, before_step=lambda model, step: calls.append(step))
    assert calls == [0, 1, 2, 6, 3, 4, 5, 6]


def test_the_budget_falls_geometrically_and_the_temperature_by_a_cosine():
    model, schedule = classifier(), Annealing(k_start=20.0, k_end=K, tau_start=1.0, tau_end=0.1, steps=10)
    seen = []
    for step in (0, 5, 10, 99):
        schedule(model, step)
        seen.append((model.compressor.k, float(model.compressor.tau)))
    assert np.allclose(seen, [(20, 1), (10, 0.55), (5, 0.1), (5, 0.1)]) and isinstance(model.compressor.k, int)


def test_auc_of_two_and_of_three_classes():
    two = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [0.0, 4.0]])
    assert bag_auc(two, np.array([0, 0, 1, 1])) == 0.75
    three = np.eye(3)[[0, 1, 2, 1]] * 5
    assert bag_auc(three, np.array([0, 1, 2, 2])) == pytest.approx((1 + 5 / 6 + 3 / 4) / 3)


def test_sparselearn_finds_the_planted_tokens_after_a_warm_head(fit):
    train, validation, test = toy(160, 0), toy(60, 1), toy(60, 2)
    model = classifier()
    fit(BagClassifier(COMPRESSORS["all"](D), model.head), train, validation, Settings(5e-3, 6, 6, 8))
    settings = Settings(2e-3, epochs=6, patience=6, batch=8, rates={"compressor": 5e-3})
    annealing = Annealing(k_start=N / 2, k_end=K, tau_start=1.0, tau_end=0.1, steps=70)
    fit(model, train, validation, settings, before_step=annealing)
    kept = model.compressor(*test.batch(np.arange(60))[0].tiles).positions.numpy()
    precision = np.take_along_axis(test.is_needle, kept, 1).mean()
    assert bag_auc(bag_logits(model, test, batch=8), test.y) >= 0.95
    assert precision >= 0.6  # at most 4 / 5; by chance 4 / 47


def test_a_training_killed_between_epochs_goes_on_as_if_it_never_was(fit, tmp_path):
    """Noise, dropout and order of a step are functions of (seed, step) alone; patience counts on."""
    settings = Settings(1e-2, epochs=6, patience=4, batch=7)
    whole = classifier()
    log = fit(whole, toy(20, 0), toy(9, 1), settings)

    kept = {"checkpoint": tmp_path / "k.pt", "save_minutes": 0}

    class Killed(Exception):
        pass

    def kill(model, step):
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        fit(
            classifier(),
            toy(20, 0),
            toy(9, 1),
            settings,
            checkpoint=tmp_path / "k.pt",
            save_minutes=0,
            before_step=kill,
        )
    again = classifier()
    resumed = fit(again, toy(20, 0), toy(9, 1), settings, **kept)
    assert resumed.equals(log) and same(weights(again), weights(whole))


def test_a_step_is_the_weighted_mean_of_its_bags_and_an_epoch_sees_each_once(fit):
    train = replace(toy(20, 0), y=np.array([0] * 15 + [1] * 5))
    seen = [bags_of_step(20, step, 3, seed=5).tolist() for step in range(6)]
    assert [len(part) for part in seen] == [7, 7, 6] * 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(bag for part in epoch for bag in part) == list(range(20))
    assert seen[:3] != seen[3:]
    model = classifier("mean").eval()
    model.head.lift[2].p = 0.0
    batch, y = train.batch(bags_of_step(20, 0, 3, seed=0))
    logits = model(*batch.tiles)[0].detach()
    rare = [20 / (2 * 15), 20 / (2 * 5)]
    told = [-rare[c] * F.log_softmax(row, 0)[c].item() for row, c in zip(logits, y.tolist(), strict=True)]
    log = fit(model, train, toy(9, 1), Settings(0.0, 1, 1, 7, rates={"head": 1e-30}, balanced=True, weight_decay=0))
    whole = [sum(told) / sum(rare[c] for c in y.tolist())]
    for step in (1, 2):
        batch, y = train.batch(bags_of_step(20, step, 3, seed=0))
        weight = torch.tensor(rare)
        whole.append(F.cross_entropy(model(*batch.tiles)[0].detach(), y, weight=weight).item())
    assert log["loss"].item() == pytest.approx(np.mean(whole), rel=1e-5)


UNEVEN = replace(toy(21, 0), y=np.array([0] * 13 + [1] * 8))
SHARED = Settings(1e-3, epochs=2, patience=2, batch=8, balanced=True)


def trained(checkpoint, processes: int) -> tuple[np.ndarray, dict]:
    """Losses and weights of a classifier that draws nothing, trained in so many processes."""
    model = classifier("mean")
    model.head.lift[2].p = 0.0  # dropout's draws are a process's own
    log = fit_bags(model, UNEVEN, toy(9, 1), SHARED, seed=0, checkpoint=checkpoint, processes=processes)
    return log["loss"].to_numpy(), {name: value.numpy() for name, value in weights(model).items()}


def test_two_processes_train_as_one(fit, tmp_path):
    one, alone = trained(tmp_path / "1.pt", 1)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # a fork of pytest would take its threads
        two, shared = fresh.submit(trained, tmp_path / "2.pt", 2).result()
    assert np.allclose(one, two, atol=1e-5)
    assert all(np.allclose(value, shared[name], atol=1e-4) for name, value in alone.items())
    with pytest.raises(ValueError, match="batches of 5 bags for 6 processes"):
        fit(classifier(), UNEVEN, toy(9, 1), SHARED._replace(batch=6), processes=6)
