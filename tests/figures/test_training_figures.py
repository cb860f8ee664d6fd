"""Figures of a training: losses and scores stand at their steps, counted from 1."""

import numpy as np
import pandas as pd
import pytest
from read_back import curve, dots, fresh, legend, outside, points, rules, titles

from slidesieve.figures.style import CYCLE
from slidesieve.figures.training import curves, training_curves

STEPS = [3, 11, 12, 40, 57]
LINES = {"loss": [2.7, 1.9, 1.3, 1.1, 0.7], "floor": [3.1, 2.9, 2.3, 2.2, 2.0], "best": [0.5, 0.4, 0.3, 0.2, 0.1]}


def history(n: int = 47, every: int = 9) -> pd.DataFrame:
    """Steps counted from 0, validated at the end of each ninth."""
    step = np.arange(n)
    score = [0.31 + 0.013 * i if i % every == every - 1 else np.nan for i in range(n)]
    return pd.DataFrame({"step": step, "loss": 3.1 - 0.7 * (step % 7) / (1 + step), "score": score})


def drawn(log: pd.DataFrame):
    axes = fresh(1, 2)
    training_curves(axes, log, score="validation accuracy")
    return axes


def test_every_named_line_is_drawn_over_its_x():
    ax = curves(fresh(), STEPS, LINES, xlabel="optimiser step", ylabel="loss (nats)")
    for label, y in LINES.items():
        assert points(curve(ax, label)) == list(zip(STEPS, y, strict=True))
    assert [line.get_color() for line in ax.lines] == list(CYCLE[:3]) and legend(ax) == list(LINES)
    assert titles(ax) == ("optimiser step", "loss (nats)") and outside(ax) == []


def test_one_line_needs_no_legend():
    ax = curves(fresh(), STEPS, {"loss": LINES["loss"]}, xlabel="step", ylabel="loss")
    assert ax.get_legend() is None and points(ax.lines[0]) == list(zip(STEPS, LINES["loss"], strict=True))


def test_every_steps_loss_is_drawn_and_counted_from_one():
    ax, _ = drawn(history())
    assert points(curve(ax, "each step")) == [
        (i + 1, round(loss, 9)) for i, loss in enumerate(history()["loss"].tolist())
    ]
    assert titles(ax) == ("optimiser step", "loss (nats per answer token)") and outside(ax) == []


def test_the_smooth_line_is_the_mean_of_the_last_twenty():
    ax, _ = drawn(history())
    loss = history()["loss"].tolist()
    means = [sum(loss[max(0, i - 19) : i + 1]) / len(loss[max(0, i - 19) : i + 1]) for i in range(len(loss))]
    x, y = curve(ax, "mean of 20 steps").get_data()
    assert list(x) == list(range(1, 48)) and list(y) == pytest.approx(means)
    assert legend(ax) == ["each step", "mean of 20 steps", "kept: step 45"]


def test_a_score_stands_only_where_it_was_taken():
    _, ax = drawn(history())
    assert dots(ax, "o") == [[(9, 0.414), (18, 0.531), (27, 0.648), (36, 0.765), (45, 0.882)]]
    assert titles(ax) == ("optimiser step", "validation accuracy")
    assert ax.get_ylim() == (0, 1.02) and outside(ax) == []


def test_a_training_without_validation_has_no_score():
    _, ax = drawn(history(every=99))
    assert dots(ax, "o") == [[]]


def test_the_first_of_the_best_scores_is_the_step_that_is_kept():
    log = history()
    log.loc[[26, 35, 44], "score"] = [0.9, 0.9, 0.7]
    axes = drawn(log)
    assert [rules(ax, "x") for ax in axes] == [[("kept: step 27", 27)]] * 2
    assert axes[0].figure.get_label().endswith("marked is step 27, whose weights are kept.")


def test_a_selectors_soft_path_stands_beside_and_the_learning_rate_below():
    log = history()
    log = log.assign(lr=1e-4 * (1 + log["step"]), soft_score=log["score"] - 0.1)
    left, right = drawn(log)
    assert [y for _, y in dots(right, "D")[0]] == pytest.approx([0.314, 0.431, 0.548, 0.665, 0.782])
    assert legend(right) == ["soft path", "as used", "kept: step 45"]
    (strip,) = left.child_axes
    assert points(strip.lines[0]) == [(i + 1, round(1e-4 * (i + 1), 9)) for i in range(47)]
    assert titles(strip) == ("optimiser step", "learning\nrate") and left.get_xlabel() == ""


def test_steps_of_a_log_that_went_on_keep_their_numbers():
    left, right = drawn(history().iloc[20:])
    assert points(curve(left, "each step"))[0][0] == 21 and [x for x, _ in dots(right, "o")[0]] == [27, 36, 45]
