"""Intervals in all figures: from low to high, wherever the value lies."""

import numpy as np
import pandas as pd
import pytest
from read_back import centres, fresh, intervals, outside, pairs, points

from slidesieve.figures import lengths, scores, soft_hard, tokens, variants
from slidesieve.figures import pairs as pair_figures
from slidesieve.figures.style import interval, looks


def row(low: float, high: float) -> pd.DataFrame:
    """One row that every figure can read, its value one half."""
    of = {"method": "tcssa", "k": 8, "other": "all", "other_k": 0, "verdict": "above", "pooled": True, "tokens": 8}
    of |= {"bin": "<64", "n_questions": 17, "of": "answers", "compared": "seeds", "chance": np.nan, "fold": 0}
    of |= {"path": "hard", "minus": "soft", "paper_delta": np.nan, "model": "mean", "metric": "auroc", "auroc": 0.7}
    of |= dict.fromkeys(["accuracy", "median", "value", "difference", "gap", "lowest", "highest"], 0.5)
    of |= dict.fromkeys(["low", "ci_low", "gap_low", "binomial_low", "accuracy_low"], low)
    of |= dict.fromkeys(["high", "ci_high", "gap_high", "binomial_high", "accuracy_high"], high)
    return pd.DataFrame([of])


FIGURES = {
    "pairs": lambda ax, t: pair_figures.differences(ax, t, title=""),
    "variants": lambda ax, t: variants.differences(ax, t, reference="all", xlabel=""),
    "gaps": lambda ax, t: variants.gaps(ax, t, ["tcssa"], reference="tcssa", xlabel=""),
    "lengths": lambda ax, t: lengths.accuracy(ax, t, overall=0.5),
    "lengths of the paper": lambda ax, t: lengths.accuracy(ax, t, overall=0.5, paper=t),
    "paths": lambda ax, t: soft_hard.path_accuracies(ax, t),
    "differences of paths": lambda ax, t: soft_hard.path_differences(ax, t),
    "agreements": lambda ax, t: soft_hard.agreements(ax, t),
    "scores": lambda ax, t: scores.method_scores(ax, t, floors=[], title=""),
    "tokens": lambda ax, t: tokens.accuracy(ax, t, look=looks(t["method"]), title=""),
    "folds": lambda ax, t: scores.fold_scores(ax, t, t, metric="auroc"),
}


@pytest.mark.parametrize("name", list(FIGURES))
@pytest.mark.parametrize(("low", "high"), [(0.43, 0.56), (0.52, 0.97), (0.03, 0.41), (0.61, 0.61)])
def test_an_interval_is_drawn_where_it_is(name, low, high):
    ax = FIGURES[name](fresh(), row(low, high))
    scale = 1 if name == "folds" else 100
    drawn = {(start, end) for _, start, end in intervals(ax)}
    assert drawn == set(pairs([(scale * low, scale * high)]))
    assert any(scale * 0.5 in point for line in ax.lines for point in points(line)) and outside(ax) == []


@pytest.mark.parametrize("axis", ["x", "y"])
def test_values_stand_on_their_own_and_widen_the_axes(axis):
    ax = fresh()
    interval(ax, [3, 7, 9], [1, 5, 2], [4, 5, 6], value=[-8, 5, np.nan], axis=axis, capsize=3)
    assert intervals(ax) == [(3, 1, 4), (7, 5, 5), (9, 2, 6)]
    turn = slice(None) if axis == "x" else slice(None, None, -1)
    assert centres(ax)[:2] == [(-8, 3)[turn], (5, 7)[turn]] and outside(ax) == []
    (container,) = ax.containers
    assert [[point[turn] for point in points(cap)] for cap in container.lines[1]] == [
        [(1, 3), (5, 7), (2, 9)],
        [(4, 3), (5, 7), (6, 9)],
    ]


def test_an_interval_upside_down_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        interval(fresh(), [0], [0.6], [0.4], value=[0.5])
