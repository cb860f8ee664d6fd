"""Figures of soft and hard selection: both paths in training, accuracies, differences, agreements, mass and leak."""

import numpy as np
import pandas as pd
import pytest
from hues import bar_hues
from read_back import (
    bands,
    centres,
    closed,
    curve,
    dots,
    fresh,
    hex_of,
    intervals,
    legend,
    names,
    outside,
    points,
    rules,
    segments,
    ticks,
    titles,
    written,
)

from slidesieve.figures import soft_hard
from slidesieve.figures.style import BLUE, GREY, ORANGE, RED

nan = np.nan
LOG = pd.DataFrame(
    [
        ("captions", 40, 0.31, 0.28, 0.57, 1.7),
        ("captions", 80, 0.37, 0.33, 0.61, 1.1),
        ("captions", 120, 0.41, 0.4, 0.66, 0.9),
        ("questions", 30, 0.62, 0.51, 0.71, 0.7),
        ("questions", 75, 0.69, 0.66, 0.83, 0.3),
    ],
    columns=["stage", "step", "soft", "hard", "mass", "tau"],
    index=[2, 5, 9, 11, 4],
)
SOFT, HARD = "soft: all tiles, gated", "hard: k tiles, as used"


def training(log: pd.DataFrame) -> np.ndarray:
    """The figure's axes, a column a stage."""
    drawn = closed(soft_hard.training_figure(log))
    return np.array(drawn.axes).reshape(-1, log["stage"].nunique()).T


def test_a_training_has_a_column_a_stage_and_a_row_a_number():
    captions, questions = training(LOG)
    assert points(curve(captions[0], SOFT)) == [(40, 31), (80, 37), (120, 41)]
    assert points(curve(captions[0], HARD)) == [(40, 28), (80, 33), (120, 40)]
    assert points(curve(questions[0], SOFT)) == [(30, 62), (75, 69)]
    assert points(curve(questions[0], HARD)) == [(30, 51), (75, 66)]
    assert dots(captions[1], "o") == [[(40, 57), (80, 61), (120, 66)]]
    assert dots(questions[1], "o") == [[(30, 71), (75, 83)]]
    assert dots(captions[2], "o") == [[(40, 1.7), (80, 1.1), (120, 0.9)]]
    assert dots(questions[2], "o") == [[(30, 0.7), (75, 0.3)]]


def test_each_panel_of_a_training_says_what_it_holds():
    captions, questions = training(LOG)
    assert [ax.get_title() for ax in (captions[0], questions[0])] == ["captions", "questions"]
    ylabels = ["weight on the\ntiles kept (%)", "temperature τ\n(no unit)"]
    assert [ax.get_ylabel() for ax in captions] == ["word probability (%)", *ylabels]
    assert [ax.get_ylabel() for ax in questions] == ["accuracy (%)", *ylabels]
    for column in (captions, questions):
        assert [ax.get_xlabel() for ax in column] == ["", "", "optimiser step"]
        assert [outside(ax) for ax in column] == [[], [], []]
        assert [ax.get_ylim() for ax in column] == [(0, 102), (0, 102), (0, pytest.approx(1.1 * 1.7))]


@pytest.mark.parametrize("unknown", [["tau"], ["mass", "tau"]])
def test_what_no_stage_recorded_has_no_row(unknown):
    columns = training(LOG.assign(**dict.fromkeys(unknown, nan)))
    assert columns.shape == (2, 3 - len(unknown))
    assert [column[-1].get_xlabel() for column in columns] == ["optimiser step"] * 2


def test_a_stage_that_recorded_nothing_says_so():
    log = LOG.assign(**{column: LOG[column].where(LOG["stage"] == "questions") for column in ("soft", "mass", "tau")})
    captions, questions = training(log)
    assert [text for text, *_ in written(captions[0])] == ["soft path not recorded"] and written(questions[0]) == []
    assert [[text for text, *_ in written(ax)] for ax in captions[1:]] == [["not recorded"], ["not recorded"]]
    assert legend(captions[0]) == [HARD] and legend(questions[0]) == [SOFT, HARD]
    assert points(curve(captions[0], HARD)) == [(40, 28), (80, 33), (120, 40)]


def test_soft_is_told_from_hard_by_colour():
    ax = soft_hard.both_paths(fresh(), LOG.iloc[:3], "captions")
    assert (curve(ax, SOFT).get_color(), curve(ax, HARD).get_color()) == (ORANGE, BLUE)


PATHS = pd.DataFrame(
    [
        ("hard", "", 0.713, 0.66, 0.78, 0.713, 0.713),
        ("soft", "hard", -0.052, -0.09, 0.03, -0.07, -0.04),
        ("hard_denoised", "", 0.69, 0.63, 0.74, 0.69, 0.69),
        ("soft", "", 0.661, 0.6, 0.71, 0.652, 0.677),
        ("hard_denoised", "hard", -0.023, -0.03, -0.011, -0.023, -0.023),
        ("soft_bypassed", "", 0.702, 0.61, 0.75, 0.695, 0.72),
        ("soft", "soft_bypassed", 0.041, 0.017, 0.083, 0.03, 0.05),
    ],
    columns=["path", "minus", "value", "ci_low", "ci_high", "lowest", "highest"],
)


def test_a_paths_accuracy_stands_with_its_interval_and_is_written():
    ax = soft_hard.path_accuracies(fresh(), PATHS[PATHS["minus"] == ""])
    assert names(ax.yaxis) == [
        soft_hard.PATH_NAMES[path] for path in ("hard", "hard_denoised", "soft", "soft_bypassed")
    ]
    assert centres(ax) == [(71.3, 0), (69, 1), (66.1, 2), (70.2, 3)]
    assert intervals(ax) == [(0, 66, 78), (1, 63, 74), (2, 60, 71), (3, 61, 75)]
    assert written(ax) == [("71.3", 71.3, 0), ("69.0", 69, 1), ("66.1", 66.1, 2), ("70.2", 70.2, 3)]
    assert bar_hues(ax) == [BLUE, BLUE, ORANGE, ORANGE]
    assert titles(ax) == ("accuracy (%), 95 % interval over patients", "")
    assert outside(ax) == [] and ax.get_ylim() == (3.6, -0.6)


def test_the_range_over_draws_of_noise_is_a_bar_below_the_paths_that_have_one():
    ax = soft_hard.path_accuracies(fresh(), PATHS[PATHS["minus"] == ""])
    assert segments(ax) == [((65.2, 2.22), (67.7, 2.22)), ((69.5, 3.22), (72, 3.22))]
    assert legend(ax) == ["range over draws of noise"]
    still = soft_hard.path_accuracies(fresh(), PATHS.iloc[[0, 2]])
    assert segments(still) == [] and still.get_legend() is None


def test_a_difference_of_paths_stands_in_points_around_zero():
    ax = soft_hard.path_differences(fresh(), PATHS[PATHS["minus"] != ""])
    expected = ["soft\nminus hard", "hard, denoised\nminus hard", "soft\nminus soft, not denoised"]
    assert names(ax.yaxis) == expected and rules(ax, "x") == [("", 0)]
    assert centres(ax) == [(-5.2, 0), (-2.3, 1), (4.1, 2)]
    assert intervals(ax) == [(0, -9, 3), (1, -3, -1.1), (2, 1.7, 8.3)]
    assert written(ax) == [("-5.2", -5.2, 0), ("-2.3", -2.3, 1), ("+4.1", 4.1, 2)]
    assert titles(ax) == ("difference in accuracy (points), paired", "")
    assert outside(ax) == [] and ax.get_ylim() == (2.6, -0.6)


AGREED = pd.DataFrame(
    [
        ("soft and hard", 0.837, 0.79, 0.88, "answers", nan),
        ("two draws of noise", 0.97, 0.93, 0.99, "answers", nan),
        ("training seeds", 0.413, 0.36, 0.47, "kept tiles", 0.052),
    ],
    columns=["compared", "value", "ci_low", "ci_high", "of", "chance"],
    index=[1, 5, 3],
)


def test_an_agreement_stands_with_its_interval_and_its_chance():
    ax = soft_hard.agreements(fresh(), AGREED)
    assert centres(ax) == [(83.7, 0), (97, 1), (41.3, 2)]
    assert intervals(ax) == [(0, 79, 88), (1, 93, 99), (2, 36, 47)]
    assert segments(ax) == [((5.2, 1.75), (5.2, 2.25))] and legend(ax) == ["by chance"]
    assert written(ax) == [("83.7", 83.7, 0), ("97.0", 97, 1), ("41.3", 41.3, 2)]
    assert titles(ax) == ("agreement (%)", "") and outside(ax) == []
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 104), (2.6, -0.6))


def test_an_agreement_says_of_what_and_how():
    expected = ["answers\nsoft and hard", "answers\ntwo draws of noise", "kept tiles\ntraining seeds (Jaccard)"]
    assert names(soft_hard.agreements(fresh(), AGREED).yaxis) == [f"same {text}" for text in expected]


def test_agreement_without_a_known_chance_or_interval_is_a_bare_value():
    ax = soft_hard.agreements(fresh(), AGREED.iloc[:2].assign(ci_low=nan, ci_high=nan))
    assert centres(ax) == [(83.7, 0), (97, 1)] and intervals(ax) == [(0, 83.7, 83.7), (1, 97, 97)]
    assert segments(ax) == [] and ax.get_legend() is None


MASS = pd.DataFrame(
    [(3.0, 0.21, 0.13, 0.34, 0.11), (0.1, 0.97, 0.88, 0.99, 0.11), (0.5, 0.63, 0.41, 0.77, 0.11)],
    columns=["tau", "mass", "low", "high", "chance"],
    index=[8, 3, 5],
)


def test_mass_is_drawn_against_a_temperature_that_cools_to_the_right():
    ax = soft_hard.mass_curve(fresh(), MASS, tau=0.7)
    assert points(curve(ax, "mean and 5 to 95 % of slides")) == [(0.1, 97), (0.5, 63), (3, 21)]
    assert bands(ax) == [[(0.1, 88, 99), (0.5, 41, 77), (3, 13, 34)]]
    assert rules(ax, "y") == [("spread evenly", 11)] and rules(ax, "x") == [("this model, τ = 0.7", 0.7)]
    assert sorted(ticks(ax.xaxis)) == [(0.1, "0.1"), (0.5, "0.5"), (3, "3")]
    assert ax.xaxis_inverted() and ax.get_xscale() == "log" and ax.get_ylim() == (0, 102)
    assert titles(ax) == ("temperature τ of the gate (no unit)", "weight on the tiles kept (%)") and outside(ax) == []


def test_the_four_panels_of_paths():
    drawn = closed(soft_hard.paths_figure(PATHS, AGREED, MASS, tau=0.7))
    accuracies, differences, agreed, mass = drawn.axes
    assert centres(accuracies) == [(71.3, 0), (69, 1), (66.1, 2), (70.2, 3)]
    assert centres(differences) == [(-5.2, 0), (-2.3, 1), (4.1, 2)] and centres(agreed)[2] == (41.3, 2)
    assert rules(mass, "x") == [("this model, τ = 0.7", 0.7)]


LEAK = pd.DataFrame(
    [
        ("probe", 64, 21.3, 0.1, 0.2, 0.44, 0.39, 0.52, 0.47, nan, nan),
        ("probe", 9, 5.6, 0.0, 0.2, 0.21, 0.13, 0.28, 0.19, nan, nan),
        ("probe", 64, 21.3, 0.0, 0.2, 0.23, 0.17, 0.31, 0.22, nan, nan),
        ("probe", 9, 5.6, 0.1, 0.2, 0.33, 0.29, 0.38, 0.36, nan, nan),
        ("identification", 64, 22.8, 1.0, 0.013, 0.91, 0.86, 0.95, 0.99, 0.93, 0.81),
        ("identification", 64, 22.8, 0.1, 0.013, 0.34, 0.27, 0.41, 0.71, 0.37, 0.29),
    ],
    columns=[
        "task", "d", "participation_ratio", "alpha", "chance", "share", "low", "high", "expected", "expected_own",
        "expected_rank",
    ],
    index=[4, 9, 2, 7, 5, 1],
)  # fmt: skip
MODEL = "this model: a tile left out, mean"


def leaked(task: str, left_out: float = 0.037):
    return soft_hard.leak_curves(fresh(), LEAK[LEAK["task"] == task], left_out=left_out)


def test_a_width_is_a_curve_with_its_band_from_alpha_nought():
    ax = leaked("probe")
    assert points(curve(ax, "d = 9")) == [(0.001, 21), (0.1, 33)]
    assert points(curve(ax, "d = 64")) == [(0.001, 23), (0.1, 44)]
    assert bands(ax) == [[(0.001, 13, 28), (0.1, 29, 38)], [(0.001, 17, 31), (0.1, 39, 52)]]
    assert ticks(ax.xaxis) == [(0.001, "0"), (0.1, "0.1")] and ax.get_xscale() == "log"
    assert titles(ax) == ("α: share of a token's variance let through (0 to 1)", "read correctly (%)")
    assert ax.get_ylim() == (0, 102) and outside(ax) == []
    colours = [curve(ax, label).get_color() for label in ("d = 9", "d = 64")]
    assert [hex_of(band.get_facecolor()) for band in ax.collections] == [hex_of(colour) for colour in colours]
    assert len({hex_of(colour) for colour in colours}) == 2


def test_theory_is_of_the_widest_and_grey():
    ax = leaked("probe")
    theory = "Gaussian classes, d = 64"
    assert points(curve(ax, theory)) == [(0.001, 22), (0.1, 47)] and curve(ax, theory).get_color() == GREY
    assert legend(ax) == ["d = 9", "d = 64", theory, "guessing", MODEL]


def test_identity_has_three_theories():
    ax = leaked("identification")
    independent, correlated = "Gaussian, 64 independent dims", "Gaussian, correlated as these"
    assert points(curve(ax, "d = 64")) == [(0.1, 34), (1, 91)]
    assert points(curve(ax, independent)) == [(0.1, 71), (1, 99)]
    assert points(curve(ax, correlated)) == [(0.1, 37), (1, 93)]
    assert points(curve(ax, "Gaussian, 23 dims (participation ratio)")) == [(0.1, 29), (1, 81)]
    assert len({line.get_linestyle() for line in ax.lines if line.get_label().startswith("Gaussian")}) == 3


@pytest.mark.parametrize(("task", "chance"), [("probe", 20), ("identification", 1.3)])
@pytest.mark.parametrize(("left_out", "place"), [(0.037, 0.037), (0.0, 0.001)])
def test_guessing_and_the_model_are_lines(task, chance, left_out, place):
    ax = leaked(task, left_out)
    assert rules(ax, "y") == [("guessing", chance)] and rules(ax, "x") == [(MODEL, place)]
    assert curve(ax, MODEL).get_color() == RED and outside(ax) == []


def test_a_leak_has_a_panel_for_each_task_that_was_measured():
    said = {"probe": "which of 5 classes", "identification": "which of 75 tiles"}
    drawn = closed(soft_hard.leak_figure(LEAK, left_out=0.037, titles=said))
    assert [ax.get_title() for ax in drawn.axes] == list(said.values())
    assert [titles(ax)[1] for ax in drawn.axes] == ["read correctly (%)"] * 2
    assert points(curve(drawn.axes[1], "d = 64")) == [(0.1, 34), (1, 91)]
    (only,) = closed(soft_hard.leak_figure(LEAK.iloc[4:], left_out=0.037, titles=said)).axes
    assert titles(only)[1] == "read correctly (%)" and only.get_title() == "which of 75 tiles"
