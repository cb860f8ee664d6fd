"""Forest plots of variants: a row each, pooled intervals, seeds and the paper's deltas in points."""

import numpy as np
import pandas as pd
import pytest
from hues import bar_hues
from read_back import (
    centres,
    curve,
    dots,
    fresh,
    intervals,
    legend,
    named,
    names,
    outside,
    points,
    rules,
    segments,
    ticks,
    titles,
)

from slidesieve.figures import variants
from slidesieve.figures.style import DARK, GREY, RED

TOLD, UNTOLD, PAPER = "95 %, told apart (Holm)", "95 %, not told apart", "paper, other benchmark"
GATE, HEADS, NONE = "sparselearn:gate=scale", "sparselearn:scorer_heads=1:tau=0.3", "sparselearn:denoise=none"
METHODS = ["sparselearn", GATE, HEADS, NONE]
PAIRED = pd.DataFrame(
    [
        (GATE, True, -0.031, -0.052, -0.013, "below", -0.041),
        (GATE, False, -0.027, -0.9, 0.9, "", -0.041),
        (GATE, False, -0.035, -0.9, 0.9, "", -0.041),
        (HEADS, True, 0.017, -0.004, 0.033, "not told apart", np.nan),
        (HEADS, False, 0.021, -0.9, 0.9, "", np.nan),
        (NONE, True, 0.043, 0.011, 0.061, "above", 0.007),
        (HEADS, False, 0.013, -0.9, 0.9, "", np.nan),
        (NONE, False, 0.043, -0.9, 0.9, "", 0.007),
    ],
    columns=["method", "pooled", "difference", "ci_low", "ci_high", "verdict", "paper_delta"],
    index=[3, 14, 1, 9, 2, 6, 5, 8],
)
GAPS = pd.DataFrame(
    [
        ("sparselearn", True, 0.021, 0.012, 0.037, ""),
        ("sparselearn", False, 0.019, -0.9, 0.9, ""),
        (NONE, True, -0.047, -0.081, -0.023, "below"),
        (GATE, True, 0.014, -0.011, 0.029, "not told apart"),
        (NONE, False, -0.051, -0.9, 0.9, ""),
        (NONE, False, -0.044, -0.9, 0.9, ""),
    ],
    columns=["method", "pooled", "gap", "gap_low", "gap_high", "verdict"],
    index=[7, 2, 5, 1, 3, 12],
).assign(ci_low=-0.77, ci_high=0.77, difference=0.66)  # of the gap's difference: not drawn


def differences(paired=PAIRED):
    return variants.differences(fresh(), paired, reference="sparselearn", xlabel="accuracy minus (points)")


def gaps(table=GAPS):
    return variants.gaps(fresh(), table, METHODS, reference="sparselearn", xlabel="soft - hard (points)")


def test_a_row_is_named_by_what_differs():
    expected = ["sparselearn", "gate = scale", "scorer_heads = 1,\ntau = 0.3", "denoise = none"]
    assert variants.row_names(METHODS, reference="sparselearn") == expected
    assert names(differences().yaxis) == names(gaps().yaxis) == expected


def test_a_pooled_difference_and_its_interval_stand_on_their_row():
    ax = differences()
    assert centres(ax, TOLD) == [(-3.1, 1), (4.3, 3)] and centres(ax, UNTOLD) == [(1.7, 2)]
    assert intervals(ax, TOLD) == [(1, -5.2, -1.3), (3, 1.1, 6.1)] and intervals(ax, UNTOLD) == [(2, -0.4, 3.3)]
    assert titles(ax) == ("accuracy minus (points)", "") and outside(ax) == [] and ax.get_ylim() == (3.55, -0.55)


def test_the_reference_is_a_square_at_zero_in_the_first_row():
    ax = differences()
    assert rules(ax, "x") == [("", 0)] and dots(ax, "s") == [[(0, 0)]]


def test_a_seed_is_a_dot_above_its_variant():
    assert points(curve(differences(), "one seed")) == [
        (-2.7, 0.76), (-3.5, 0.76), (2.1, 1.76), (1.3, 1.76), (4.3, 2.76),
    ]  # fmt: skip


def test_the_papers_delta_is_hollow_below_each_variant_that_it_has():
    ax = differences()
    assert points(curve(ax, PAPER)) == [(-4.1, 1.28), (0.7, 3.28)]
    assert (curve(ax, PAPER).get_markerfacecolor(), curve(ax, PAPER).get_color()) == ("none", RED)
    assert named(ax) == ["one seed", PAPER, TOLD, UNTOLD]
    assert PAPER not in named(differences(PAIRED.assign(paper_delta=np.nan)))


@pytest.mark.parametrize("draw", [differences, gaps])
def test_colour_says_what_is_told_apart(draw):
    ax = draw()
    assert named(ax)[-2:] == [TOLD, UNTOLD] and bar_hues(ax) == [DARK, GREY]


def test_a_gap_stands_in_the_row_that_its_method_has_among_the_differences():
    ax = gaps()
    assert centres(ax, TOLD) == [(-4.7, 3)] and intervals(ax, TOLD) == [(3, -8.1, -2.3)]
    assert centres(ax, UNTOLD) == [(2.1, 0), (1.4, 1)] and intervals(ax, UNTOLD) == [(0, 1.2, 3.7), (1, -1.1, 2.9)]
    assert points(curve(ax, "one seed")) == [(1.9, -0.24), (-5.1, 2.76), (-4.4, 2.76)]
    assert rules(ax, "x") == [("", 0)] and titles(ax) == ("soft - hard (points)", "")
    assert outside(ax) == [] and ax.get_ylim() == (3.55, -0.55) and named(ax) == ["one seed", TOLD, UNTOLD]


@pytest.mark.parametrize("draw", [differences, gaps])
def test_small_differences_have_a_plain_axis(draw):
    assert draw().get_xscale() == "linear"


@pytest.mark.parametrize(("sign", "far"), [(-1, [-50, -20, -10, -5, 0, 5]), (1, [-5, 0, 5, 10, 20, 50])])
def test_a_large_difference_makes_the_axis_logarithmic_and_the_axis_says_so(sign, far):
    far_off = (NONE, True, sign * 0.521, sign * 0.521 - 0.03, sign * 0.521 + 0.02, "above", np.nan)
    rows = pd.concat([PAIRED[PAIRED["method"] != NONE], pd.DataFrame([far_off], columns=PAIRED.columns)])
    ax = differences(rows)
    assert ax.get_xscale() == "symlog"
    assert titles(ax)[0] == "accuracy minus (points)\nlogarithmic beyond 10 points"
    assert ticks(ax.xaxis) == [(tick, str(tick)) for tick in far]
    low, high = sorted((sign * 52.1 - 3, sign * 52.1 + 2))
    assert (3, round(low, 9), round(high, 9)) in intervals(ax, TOLD) and outside(ax) == []


PAIRS = pd.DataFrame(
    [
        ("finding", 0, 0.83, 0.71),
        ("tissue", 0, 0.66, 0.69),
        ("finding", 1, 0.81, 0.74),
        ("finding", 2, 0.87, 0.77),
        ("all", 0, 0.76, 0.72),
        ("tissue", 1, 0.63, 0.63),
    ],
    columns=["group", "seed", "soft", "hard"],
    index=[8, 2, 5, 1, 3, 4],
).assign(soft_low=0.6, soft_high=0.8, hard_low=0.55, hard_high=0.79)


def test_soft_and_hard_of_a_seed_are_joined():
    ax = variants.soft_and_hard(fresh(), PAIRS)
    assert names(ax.yaxis) == ["finding", "tissue", "all"]
    soft = [[(83, -0.15), (81, 0), (87, 0.15)], [(66, 0.85), (63, 1.15)], [(76, 2)]]
    hard = [[(71, -0.15), (74, 0), (77, 0.15)], [(69, 0.85), (63, 1.15)], [(72, 2)]]
    assert dots(ax, "D") == soft and dots(ax, "o") == hard
    ends = [pair for group in zip(soft, hard, strict=True) for pair in zip(*group, strict=True)]
    assert [segment for segment in segments(ax) if segment in ends] == ends and outside(ax) == []
    assert titles(ax) == ("accuracy (%)", "") and (ax.get_xlim(), ax.get_ylim()) == ((0, 102), (2.5, -0.5))


def test_of_one_seed_soft_and_hard_have_their_intervals():
    ax = variants.soft_and_hard(fresh(), PAIRS)
    bars = [segment for box in ax.containers for segment in box.lines[2][0].get_segments()]
    assert [(round(a[1], 2), round(a[0]), round(b[0])) for a, b in bars] == [(1.76, 60, 80), (2.24, 55, 79)]


def test_soft_is_told_from_hard_by_name_and_fill():
    ax = variants.soft_and_hard(fresh(), PAIRS)
    assert legend(ax) == ["soft: all tiles, gated", "hard: k tiles, as used"]
    assert curve(ax, "soft: all tiles, gated").get_markerfacecolor() == "white"
    assert curve(ax, "hard: k tiles, as used").get_markerfacecolor() == DARK
