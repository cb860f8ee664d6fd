"""How far an experiment is: the count, and an estimate that says what it does not know."""

from pathlib import Path

import pytest

from flows.plan.stages import Stage
from flows.run.board import Board, Outcome
from flows.run.progress import duration, progress


def stages(*names: str) -> list[Stage]:
    return [Stage(name, Path(f"{name.partition('/')[0]}.ipynb"), f"runs/{name}", {}) for name in names]


NAMES = ("10", "40/a", "40/b", "40/c", "50/a", "50/b")


def test_what_is_left_takes_as_long_as_its_notebooks_took_shared_by_the_workers():
    done = {"10": Outcome("skipped"), "40/a": Outcome("ran", seconds=100), "40/b": Outcome("ran", seconds=140)}
    done["50/a"] = Outcome("ran", seconds=60)
    found = progress(stages(*NAMES), set(NAMES) - {"10"}, done, workers=2)
    assert found == (4, 6, (120 + 60) / 2, 0) and found.percent == pytest.approx(66.67, abs=0.01)
    assert found.told() == "stage 4 of 6, about 2 min left"


def test_one_worker_does_one_thing_and_more_than_are_left_help_no_more():
    done = {name: Outcome("ran", seconds=50) for name in NAMES[:5]}
    assert progress(stages(*NAMES), NAMES, done, workers=7).seconds == 50


def test_a_kind_that_has_not_run_is_counted_and_not_guessed():
    done = {"10": Outcome("ran", seconds=30), "40/a": Outcome("ran", seconds=45)}
    found = progress(stages(*NAMES), NAMES, done, workers=1)
    assert (found.seconds, found.unknown) == (90, 2)
    assert found.told() == "stage 2 of 6, about 2 min left, and 2 of a kind that has not run"
    nothing = progress(stages(*NAMES), NAMES, {"10": Outcome("ran", seconds=30)}, workers=1)
    assert nothing.told() == "stage 1 of 6, nothing known yet of the time left"


def test_what_is_up_to_date_takes_no_time_and_a_failure_tells_none():
    done = {"40/a": Outcome("failed", seconds=3)}
    assert progress(stages(*NAMES), ["40/a"], done, workers=1) == (1, 6, 0, 0)
    whole = progress(stages("10"), ["10"], {"10": Outcome("ran", seconds=7)}, workers=1)
    assert whole.told() == "stage 1 of 1" and whole.percent == 100


@pytest.mark.parametrize(
    ("seconds", "said"), [(89, "89 s"), (91, "2 min"), (5300, "88 min"), (5400, "1 h 30 min"), (7500, "2 h 05 min")]
)
def test_a_time_in_words(seconds, said):
    assert duration(seconds) == said


def test_the_terminal_says_it_after_each_stage():
    said = []
    board = Board(say=said.append)
    board.expect(stages(*NAMES), NAMES, workers=1)
    board.record("10", Outcome("ran", seconds=30))
    board.record("40/a", Outcome("ran", seconds=20))
    board.record("40/b", Outcome("not run", error="40/a failed"))
    assert [line.split("] ")[1] for line in said] == [
        "10: done in 30 s (stage 1 of 6, nothing known yet of the time left)",
        "40/a: done in 20 s (stage 2 of 6, about 40 s left, and 2 of a kind that has not run)",
        "40/b: not run: 40/a failed",
    ]
