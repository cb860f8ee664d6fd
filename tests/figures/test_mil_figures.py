"""Figures of bag classification: folds, and their mean with its interval, on each model's row."""

import pandas as pd
import pytest
from hues import bar_hues
from read_back import centres, dots, fresh, intervals, legend, names, outside, points, rules, titles

from slidesieve.answers.palette import DARK, ink_of
from slidesieve.figures.scores import fold_scores

FOLDS = pd.DataFrame(
    [
        ("abmil", 0, 0.71, 0.61, 0.31),
        ("mean", 0, 0.82, 0.66, 0.37),
        ("abmil", 1, 0.77, 0.68, 0.42),
        ("linear", 0, 0.66, 0.52, 0.11),
        ("mean", 1, 0.85, 0.74, 0.49),
        ("abmil", 2, 0.64, 0.59, 0.27),
    ],
    columns=["model", "fold", "auroc", "balanced_accuracy", "kappa"],
    index=[3, 1, 8, 9, 2, 6],
)
SCORES = pd.DataFrame(
    [
        ("mean", "kappa", 0.43, 0.29, 0.53),
        ("mean", "auroc", 0.836, 0.79, 0.88),
        ("abmil", "auroc", 0.706, 0.64, 0.81),
        ("abmil", "kappa", 0.33, 0.21, 0.37),
        ("linear", "kappa", 0.12, 0.03, 0.19),
        ("linear", "auroc", 0.667, 0.61, 0.69),
    ],
    columns=["model", "metric", "value", "low", "high"],
    index=[5, 2, 9, 1, 7, 4],
)


@pytest.mark.parametrize(
    ("metric", "folds", "means", "ends"),
    [
        (
            "auroc",
            [[0.82, 0.85], [0.71, 0.77, 0.64], [0.66]],
            [0.836, 0.706, 0.667],
            [(0.79, 0.88), (0.64, 0.81), (0.61, 0.69)],
        ),
        (
            "kappa",
            [[0.37, 0.49], [0.31, 0.42, 0.27], [0.11]],
            [0.43, 0.33, 0.12],
            [(0.29, 0.53), (0.21, 0.37), (0.03, 0.19)],
        ),
    ],
)
def test_folds_mean_and_interval_stand_on_their_models_row(metric, folds, means, ends):
    ax = fold_scores(fresh(), FOLDS, SCORES, metric=metric)
    assert names(ax.yaxis) == ["mean", "abmil", "linear"]
    rows = [[-0.3, -0.14], [0.7, 0.78, 0.86], [1.78]]
    expected = [list(zip(x, y, strict=True)) for x, y in zip(folds, rows, strict=True)]
    assert dots(ax, "o") == [*expected, []]
    assert centres(ax) == [(mean, place + 0.1) for place, mean in enumerate(means)]
    assert intervals(ax) == [(place + 0.1, low, high) for place, (low, high) in enumerate(ends)]
    assert outside(ax) == [] and ax.get_ylim() == (2.6, -0.6)


@pytest.mark.parametrize(
    ("metric", "title"),
    [("auroc", "AUROC"), ("balanced_accuracy", "balanced accuracy"), ("kappa", "quadratic kappa")],
)
def test_the_axis_says_which_score(metric, title):
    scores = SCORES.assign(metric=metric).drop_duplicates("model")
    assert titles(fold_scores(fresh(), FOLDS, scores, metric=metric)) == (f"{title} on test slides", "")


def test_a_fold_is_told_from_the_mean_by_name_and_colour():
    ax = fold_scores(fresh(), FOLDS, SCORES, metric="auroc")
    assert legend(ax) == ["one training", "mean, 95 %"]
    folds = [line.get_color() for line in ax.lines if line.get_marker() == "o" and points(line)]
    assert folds == [ink_of(model).colour for model in dict.fromkeys(SCORES["model"])] and bar_hues(ax) == [DARK] * 3


@pytest.mark.parametrize(("lowest", "drawn"), [(0.61, []), (0.43, [("no information", 0.5)])])
def test_no_information_is_a_line_where_a_fold_comes_near_it(lowest, drawn):
    folds = pd.concat([FOLDS, FOLDS.iloc[:1].assign(auroc=lowest)])
    ax = fold_scores(fresh(), folds, SCORES, metric="auroc")
    assert rules(ax, "x") == drawn and outside(ax) == []
    assert rules(fold_scores(fresh(), folds, SCORES, metric="kappa"), "x") == []
