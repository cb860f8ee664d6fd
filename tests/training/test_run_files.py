"""Checkpoints that are torn, flipped or half written are set aside and said; what is whole is gone on from."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_training import Model, train

from slidesieve.provenance.files import is_sealed, seal
from slidesieve.training.run_files import Losses, losses_of, previous_of, read_losses
from slidesieve.training.state import RunState


@pytest.fixture
def whole(tmp_path):
    _, state = train(tmp_path / "whole" / "c.pt", steps=11)
    return state


def same(state: RunState, other: RunState) -> bool:
    return state.history().equals(other.history()) and torch.equal(state.best["learns"], other.best["learns"])


def test_what_is_left_is_a_checkpoint_the_one_before_best_weights_and_losses(whole):
    folder = whole.checkpoint.parent
    assert {f.name for f in folder.iterdir()} == {"c.pt", "c.previous.pt", "c.best-6.pt", "c.losses.csv"}
    assert sum(f.stat().st_size for f in folder.iterdir()) < 4096 * 4  # nothing of what is frozen
    assert all(is_sealed(file) for file in folder.glob("*.pt"))
    table = pd.read_csv(folder / "c.losses.csv")
    history = whole.history()
    assert table.equals(history[["step", "loss", "lr"]])
    assert history["score"].dropna().tolist() == [-4 / 7, -2 / 7, 0, -2 / 7, -4 / 7] and whole.best_step == 6


@pytest.mark.parametrize("cut", [1, 4, 7, 10])
def test_a_resumed_run_has_the_uninterrupted_ones_history_byte_for_byte(tmp_path, whole, cut):
    checkpoint = tmp_path / "cut" / "c.pt"
    train(checkpoint, steps=cut)
    with losses_of(checkpoint).open("a") as file:
        file.write("99,1.0,2.0\n1")  # what a kill after the losses and before the checkpoint leaves
    began, state = train(checkpoint, steps=11)
    assert began == cut and same(state, whole)
    assert losses_of(checkpoint).read_bytes() == losses_of(whole.checkpoint).read_bytes()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("spoil", [flip, cut_short, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_serves(tmp_path, whole, spoil, capsys):
    checkpoint = tmp_path / "cut" / "c.pt"
    train(checkpoint, steps=9)
    spoil(checkpoint)
    spoilt = checkpoint.read_bytes()
    began, state = train(checkpoint, steps=11)
    assert began == 8 and same(state, whole)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "c.pt: damaged, its checksum does not fit; it is set aside as c.pt.damaged", "resuming at step 8",
    ]  # fmt: skip
    assert checkpoint.with_name("c.pt.damaged").read_bytes() == spoilt


def test_another_recipe_s_checkpoint_is_never_gone_on_from(tmp_path, whole, capsys):
    """Of two trainings in one folder the first saves after the second has begun."""
    checkpoint, mark = tmp_path / "cut" / "c.pt", tmp_path / "cut" / "recipe.txt"
    mark.parent.mkdir()
    mark.write_text("aaaa")
    state = RunState(checkpoint)
    mark.write_text("bbbb")
    model = Model()
    optimizer = torch.optim.AdamW([model.learns], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state.note(5.0, 0.1)
    state.judge(model, lambda model, share: 99.0)
    state.save(model, optimizer, schedule)
    theirs = checkpoint.read_bytes()
    began, found = train(checkpoint, steps=11)
    assert began == 0 and same(found, whole)
    said = "c.pt: of recipe aaaa, not of bbbb; it is set aside as c.pt.other-recipe"
    assert capsys.readouterr().out.splitlines() == [said]
    assert checkpoint.with_name("c.pt.other-recipe").read_bytes() == theirs
    assert train(checkpoint, steps=11)[0] == 11
    mark.unlink()
    assert train(checkpoint, steps=11)[0] == 0


@pytest.mark.parametrize("part", ["c.best-6.pt", "c.losses.csv", "both"])
def test_without_anything_whole_training_begins_anew(tmp_path, whole, part, capsys):
    checkpoint = tmp_path / "cut" / "c.pt"
    train(checkpoint, steps=9)
    for path in (checkpoint, previous_of(checkpoint)) if part == "both" else (checkpoint.with_name(part),):
        flip(path)
    began, state = train(checkpoint, steps=11)
    assert began == 0 and same(state, whole)
    assert losses_of(checkpoint).read_bytes() == losses_of(whole.checkpoint).read_bytes()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("set aside" in line for line in said) and (part == "both" or part in said[0])


def test_weights_that_are_no_numbers_are_neither_saved_nor_best(tmp_path):
    _, state = train(tmp_path / "c.pt", steps=3)
    model = Model()
    optimizer = torch.optim.AdamW([model.learns], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model.learns.data[2] = float("nan")
    before, best = (tmp_path / "c.pt").read_bytes(), state.best_step
    state.note(1.0, 0.1)
    state.judge(model, lambda model, share: 5.0)
    state.save_if_due(model, optimizer, schedule, minutes=0)
    assert (tmp_path / "c.pt").read_bytes() == before and state.best_step == best
    model.learns.data[2] = 0.0
    for score in (float("nan"), float("inf")):
        state.judge(model, lambda model, share, score=score: score)
        assert state.best_step == best
    state.judge(model, lambda model, share: 5.0)
    assert state.best_step == 4


def test_saves_are_by_minutes(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("slidesieve.training.state.time.monotonic", lambda: now[0])
    model, saved = Model(), []
    optimizer = torch.optim.AdamW([model.learns], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state = RunState(tmp_path / "c.pt")
    for step in range(40):
        now[0] += 13.0
        state.note(1.0, 0.1)
        state.save_if_due(model, optimizer, schedule, minutes=2.5)
        saved += [step] if state.saved_step == step + 1 else []
    assert saved == [11, 23, 35]


def test_losses_are_written_to_the_last_digit(tmp_path):
    rows = [(i, float(x), float(y)) for i, (x, y) in enumerate(np.random.default_rng(0).standard_normal((7, 2)))]
    losses = Losses(tmp_path / "c.csv")
    first, second = losses.append(rows[:3]), losses.append(rows)
    assert read_losses(tmp_path / "c.csv", first) == rows[:3] and read_losses(tmp_path / "c.csv", second) == rows
    flip(tmp_path / "c.csv")
    assert read_losses(tmp_path / "c.csv", second) is None


def test_a_seal_speaks_of_every_byte(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 3)
    assert not is_sealed(path) and not is_sealed(tmp_path / "absent")
    seal(path)
    whole = path.read_bytes()
    assert is_sealed(path)
    for place in (0, 700, len(whole) - 65, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not is_sealed(path)
