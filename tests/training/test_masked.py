"""Masked pre-training: what is hidden, what the decoder may know, and the loss, from loops."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_autoencoder import D, bag, model

from slidesieve.features.bag import collate
from slidesieve.training import step as steps
from slidesieve.training.masked import draw_visible, keep, loss
from slidesieve.training.masked_loop import MaskedLoss, Settings, pretrain, slides_of_step


def slides():
    return collate([bag("a", 9, 7), bag("b", 5, 3), bag("c", 1, 1)])


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_the_visible_are_the_share_that_is_left_rounded_up(ratio):  # I40
    mask = torch.zeros(5, 41, dtype=torch.bool)
    for row, n in enumerate([1, 2, 4, 20, 41]):
        mask[row, torch.randperm(41)[:n]] = True
    seen = draw_visible(mask, ratio, torch.Generator().manual_seed(0))
    assert (seen & ~mask).sum() == 0
    exact = {0.5: [1, 1, 2, 10, 21], 0.75: [1, 1, 1, 5, 11], 0.9: [1, 1, 1, 2, 5]}[ratio]
    assert seen.sum(-1).tolist() == exact


def test_every_token_is_as_likely_to_be_hidden():
    mask = torch.ones(4000, 8, dtype=torch.bool)
    share = draw_visible(mask, 0.75, torch.Generator().manual_seed(0)).double().mean(0)
    assert (share - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 4000)


def test_keeping_some_tokens_keeps_their_order_and_places():
    merged = model().compressor.merger(*slides().tiles)
    which = draw_visible(merged.mask, 0.5, torch.Generator().manual_seed(1))
    kept = keep(merged, which)
    for row in range(len(which)):
        n = int(which[row].sum())
        assert kept.mask[row].tolist() == [True] * n + [False] * (kept.mask.shape[1] - n)
        for before, after in zip(merged[:4], kept[:4], strict=True):
            assert torch.equal(after[row, :n], before[row][which[row]])


def test_hidden_tokens_reach_neither_the_latents_nor_the_predictions():  # I40
    ours, batch = model().double(), slides()
    batch = batch._replace(x=batch.x.double())
    merged = ours.compressor.merger(ours.normalise(batch), batch.coords, batch.mask)
    seen = draw_visible(merged.mask, 0.75, torch.Generator().manual_seed(3))
    visible = keep(merged, seen)
    noisy = merged._replace(
        tokens=torch.where(seen.unsqueeze(-1), merged.tokens, 100 * torch.randn_like(merged.tokens)),
        mean=torch.where(seen.unsqueeze(-1), merged.mean, 100 * torch.randn_like(merged.mean)),
    )
    again = keep(noisy, seen)
    assert torch.equal(ours.compressor.resampler(visible), ours.compressor.resampler(again))


def test_without_latents_a_prediction_depends_on_its_place_alone():  # I40
    decoder = model().double().decoder
    places = torch.rand(2, 6, 2, dtype=torch.float64) * 30
    places[1, 4] = places[0, 2]
    nothing = decoder(torch.zeros(2, 7, 24, dtype=torch.float64), places)
    assert (nothing[1, 4] - nothing[0, 2]).abs().max() < 1e-12
    assert (nothing[0, 1] - nothing[0, 2]).abs().max() > 1e-3
    something = decoder(torch.randn(2, 7, 24, dtype=torch.float64), places)
    assert (something[1, 4] - something[0, 2]).abs().max() > 1e-3


def test_a_prediction_does_not_depend_on_what_else_is_asked():
    decoder = model().double().decoder
    latents, places = torch.randn(1, 7, 24, dtype=torch.float64), torch.rand(1, 6, 2, dtype=torch.float64) * 30
    assert (decoder(latents, places)[:, 2:3] - decoder(latents, places[:, 2:3])).abs().max() < 1e-12


def test_the_loss_is_that_of_the_loops_over_hidden_tokens_alone():  # I40
    ours, batch = model().double(), slides()
    batch = batch._replace(x=batch.x.double())
    masked = ours(batch, torch.Generator().manual_seed(3))
    squares, cosines = [], []
    for row, token in masked.hidden.mask.nonzero().tolist():
        p, y = masked.predicted[row, token].detach(), masked.target[row, token]
        assert abs(float(y.mean())) < 1e-9 and abs(float(y.var(correction=0)) - 1) < 1e-3  # layer-normalised
        squares.append(float(((p - y) ** 2).sum()) / D)
        cosines.append(float(p @ y / p.norm() / y.norm()))
    expected = sum(squares) / len(squares) + 1 - sum(cosines) / len(cosines)
    assert abs(float(loss(masked).detach()) - expected) < 1e-9
    spoilt = masked._replace(predicted=torch.where(masked.hidden.mask.unsqueeze(-1), masked.predicted, 1e3))
    assert torch.equal(loss(spoilt), loss(masked))


def test_targets_pass_no_gradient_and_everything_else_learns():
    ours, batch = model(), slides()
    masked = ours(batch, torch.Generator().manual_seed(3))
    assert not masked.target.requires_grad
    loss(masked).backward()
    without = [name for name, p in ours.named_parameters() if p.grad is None or not p.grad.abs().any()]
    # W_o of the merger is zero at first, so nothing reaches what stands before it yet
    assert set(without) <= {f"compressor.merger.{part}.weight" for part in ("query", "key", "value")}
    assert "decoder.mask_token" not in without and "compressor.resampler.latents" not in without


def test_a_slide_of_one_token_has_nothing_to_predict():
    value = loss(model()(collate([bag("c", 1, 1)]), torch.Generator().manual_seed(0)))
    value.backward()
    assert float(value.detach()) == 0


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5])
def test_a_mask_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match=f"mask_ratio: got {ratio}"):
        model(mask_ratio=ratio)


def test_an_epoch_goes_through_every_slide_once():
    names = [f"s{i}" for i in range(7)]
    seen = [slide for step in range(7) for slide in slides_of_step(names, step, 3, seed=5)]
    assert sorted(seen[:7]) == sorted(seen[7:14]) == names and seen[:7] != seen[7:14]


def run(folder, steps_before_kill: int | None = None):
    bags = {f"s{i}": bag(f"s{i}", 6 + i % 3, 5, seed=i) for i in range(9)}
    ours = model()
    ours.fit_features(collate(list(bags.values())))
    settings = Settings(base_lr=0.64, steps=steps_before_kill or 24, batch=4)
    named = sorted(bags)
    table = pretrain(
        ours, bags, named[:6], named[6:], settings if not steps_before_kill else settings._replace(steps=24),
        seed=1, checkpoint=folder / "checkpoint.pt", save_minutes=0, evaluations=3, device="cpu",
    )  # fmt: skip
    return ours, table


class Killed(Exception):
    pass


def test_a_killed_pre_training_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole, table = run(tmp_path / "whole")
    gradients, calls = MaskedLoss.gradients, []

    def gradients_or_death(*args, **kwargs):
        calls.append(1)
        if len(calls) == 14:
            raise Killed
        return gradients(*args, **kwargs)

    monkeypatch.setattr(MaskedLoss, "gradients", gradients_or_death)
    with pytest.raises(Killed):
        run(tmp_path / "cut")
    again, resumed = run(tmp_path / "cut")
    assert len(calls) == 14 + 24 - 13  # on from the last whole step
    assert resumed.drop(columns="lr").equals(table.drop(columns="lr"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_it_learns_what_neighbours_tell(tmp_path):
    _, table = run(tmp_path)
    cosine = table["score"].dropna()
    assert cosine.iloc[-1] > cosine.iloc[0] + 0.05


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}])
def test_settings_without_sense_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"pre-training: got .* steps of"):
        pretrain(
            model(), {"s": bag("s", 3, 3)}, ["s"], ["s"], Settings(0.1, 1, 1)._replace(**wrong), seed=0,
            checkpoint=tmp_path / "c.pt", save_minutes=0, evaluations=1, device="cpu",
        )  # fmt: skip


def test_no_validation_slides_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="got 1 training and 0 validation slides"):
        pretrain(
            model(), {"s": bag("s", 3, 3)}, ["s"], [], Settings(0.1, 1, 1), seed=0,
            checkpoint=tmp_path / "c.pt", save_minutes=0, evaluations=1, device="cpu",
        )  # fmt: skip


@pytest.mark.parametrize("budget", [1, 70, 10**6])
def test_a_step_in_parts_has_the_loss_of_all_its_hidden_tokens(monkeypatch, budget):
    """Tokens are hidden by their slide alone here, so that parts hide the same ones."""

    def hide(mask, ratio, generator):
        place = mask.cumsum(-1)
        return mask & (place <= (0.25 * mask.sum(-1, keepdim=True)).ceil())

    monkeypatch.setattr("slidesieve.training.masked.draw_visible", hide)
    bags = [bag("a", 9, 7), bag("b", 5, 3), bag("c", 1, 1), bag("d", 11, 4)]
    ours, whole = model(), model()
    work = MaskedLoss({b.slide_id: b for b in bags}, [b.slide_id for b in bags], Settings(0.1, 1, 4))
    optimiser = steps.Settings({}, 0.0, 0.0, 1.0, batch_tokens=budget)
    value = work.gradients(Accelerator(cpu=True), ours, optimiser, seed=0, step=0, together=range(1))
    expected = loss(whole(collate(bags), torch.Generator()))
    expected.backward()
    assert value == pytest.approx(float(expected.detach()), abs=1e-6)
    for (name, one), other in zip(ours.named_parameters(), whole.parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-6), name


def test_a_loss_that_is_no_number_ends_it_and_says_where(tmp_path):
    bags = {f"s{i}": bag(f"s{i}", 5, 4 + i) for i in range(4)}
    bags["s1"] = bags["s1"]._replace(x=bags["s1"].x * np.nan)
    with pytest.raises(ValueError, match=r"training: step \d: the loss is nan, .*lower the learning rates"):
        pretrain(
            model(), bags, ["s0", "s1", "s2"], ["s3"], Settings(0.1, 9, 2), seed=0,
            checkpoint=tmp_path / "c.pt", save_minutes=99, evaluations=1, device="cpu",
        )  # fmt: skip
