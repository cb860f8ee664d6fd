"""A tracker hears what a training learns, in one run however often it is cut off, and can neither change nor end it."""

import sys
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
from tiny_training import train

from slidesieve.training import tracking

LOST = {"loss", "lr"}


class Tracker(ModuleType):
    """A module that speaks as wandb and trackio do; runs of one id (wandb) or name (trackio) are one run."""

    def __init__(self, *, broken: str = ""):
        super().__init__("trackio")
        self.broken, self.inits, self.runs, self.finished = broken, [], {}, 0

    def init(self, project, name, group=None, config=None, resume="never", embed=True):
        return self._opened(name, {"project": project, "group": group, "config": config, "embed": embed}, resume)

    def _opened(self, key, told, resume):
        if self.broken == "init":
            raise ConnectionError("nobody\n\n  is there")
        self.inits.append({"key": key, **told})
        self.runs[key] = self.runs.get(key, []) if resume == "allow" else []
        return SimpleNamespace(log=lambda numbers, step=None: self._log(key, numbers, step), finish=self._finish)

    def _log(self, key, numbers, step):
        if self.broken == "log" and step == 3:
            raise RuntimeError("the disk is full")
        self.runs[key].append((step, numbers))

    def _finish(self):
        self.finished += 1
        if self.broken == "finish":
            raise RuntimeError("nothing was kept")


class Wandb(Tracker):
    def init(self, entity=None, project=None, id=None, name=None, resume=None, group=None, config=None):
        return self._opened(id, {"project": project, "group": group, "config": config}, resume)


@pytest.fixture
def stage():
    def made(digest: str = "c0ffee1234567890", out_dir: str = "runs/demo/50_tune_answers/sparselearn_k8_s0"):
        return SimpleNamespace(
            name="50_tune_answers", parameters={"steps": 11, "out_dir": out_dir}, recipe=SimpleNamespace(digest=digest)
        )

    yield made
    tracking.State.asked = tracking.State.run = None


@pytest.fixture
def given(monkeypatch):
    def made(tracker: Tracker) -> Tracker:
        monkeypatch.setitem(sys.modules, "trackio", tracker)
        return tracker

    return made


def test_a_run_holds_losses_rates_and_scores_at_their_steps(tmp_path, stage, given):
    tracker = given(Tracker())
    tracking.begin("trackio", stage())
    _, state = train(tmp_path / "checkpoint.pt", steps=11)
    tracking.end()
    ((name, told),) = tracker.runs.items()
    assert name == "demo/50_tune_answers/sparselearn_k8_s0 c0ffee12" and tracker.finished == 1
    (opened,) = tracker.inits
    assert (opened["project"], opened["group"], opened["embed"]) == ("slidesieve", "demo", False)
    assert opened["config"]["steps"] == 11 and opened["config"]["recipe"] == "c0ffee1234567890"
    history = state.history()
    losses = [(step, numbers) for step, numbers in told if numbers.keys() == LOST]
    assert losses == [(row.step, {"loss": row.loss, "lr": row.lr}) for row in history.itertuples()]
    scores = [(step, numbers) for step, numbers in told if numbers.keys() != LOST]
    judged = history.dropna(subset="score")
    assert scores == [(row.step, {"score": row.score, "mass": row.mass}) for row in judged.itertuples()]


@pytest.mark.parametrize("kind", [Tracker, Wandb])
def test_a_training_that_was_cut_off_goes_on_in_the_same_run(tmp_path, stage, given, kind):
    tracker = given(kind())
    for steps in (4, 11):  # two processes, as far as the tracker can tell
        tracking.begin("trackio", stage())
        train(tmp_path / "checkpoint.pt", steps=steps)
        tracking.end()
    ((_, told),) = tracker.runs.items()
    assert [step for step, numbers in told if "loss" in numbers] == list(range(11)) and len(tracker.inits) == 2
    tracking.begin("trackio", stage(digest="another"))
    train(tmp_path / "other" / "checkpoint.pt", steps=2)
    tracking.begin("trackio", stage(out_dir="runs/other/50_tune_answers/sparselearn_k8_s0"))
    train(tmp_path / "third" / "checkpoint.pt", steps=2)
    assert len(tracker.runs) == 3


def test_several_trainings_of_a_stage_are_runs_of_their_own(tmp_path, stage, given):
    tracker = given(Tracker())
    tracking.begin("trackio", stage())
    for name in ("tcssa_s0_1", "gated_abmil_s0_1"):
        train(tmp_path / f"{name}.pt", steps=3)
    tracking.tell("trackio", stage(), pd.Series({("auroc", "tcssa"): 0.75, ("auroc", "gated_abmil"): 0.5}))
    first, second, own = tracker.runs
    assert first.endswith(" c0ffee12/tcssa_s0_1") and second.endswith(" c0ffee12/gated_abmil_s0_1")
    assert tracker.runs[own] == [(None, {"auroc/tcssa": 0.75, "auroc/gated_abmil": 0.5})] and tracker.finished == 3


@pytest.mark.parametrize("broken", ["init", "log", "finish", "misspelt"])
def test_a_tracker_that_fails_is_told_in_a_line_and_the_training_is_the_same(tmp_path, stage, given, capsys, broken):
    tracker = given(Tracker(broken=broken))
    tracking.begin("trakio" if broken == "misspelt" else "trackio", stage())
    _, state = train(tmp_path / "told" / "checkpoint.pt", steps=11)
    tracking.end()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tracker ")]
    assert line.endswith("; it is told no more, the rest goes on")
    assert len(tracker.runs.get("demo/50_tune_answers/sparselearn_k8_s0 c0ffee12", [])) == {
        "init": 0, "misspelt": 0, "log": 4, "finish": 16,
    }[broken]  # fmt: skip
    tracking.begin("", stage())
    _, untold = train(tmp_path / "untold" / "checkpoint.pt", steps=11)
    assert state.history().equals(untold.history())


def test_nobody_is_told_unasked_nor_by_another_process_than_the_first(tmp_path, stage, given, monkeypatch):
    tracker = given(Tracker())
    tracking.begin("", stage())
    train(tmp_path / "a" / "checkpoint.pt", steps=3)
    tracking.begin("trackio", stage())
    monkeypatch.setenv("RANK", "1")
    train(tmp_path / "b" / "checkpoint.pt", steps=3)
    assert not tracker.inits
