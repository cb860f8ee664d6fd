"""Figures of methods side by side: matched differences in points, and accuracy at each run's operations."""

import numpy as np
import pandas as pd
import pytest
from hues import bar_hues
from read_back import (
    centres,
    closed,
    fresh,
    hex_of,
    intervals,
    named,
    names,
    outside,
    rounded,
    rules,
    ticks,
    titles,
    written,
)

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.figures import pairs
from slidesieve.figures.style import DARK, GREY

TOLD, UNTOLD = "95 %, told apart (Holm)", "95 %, not told apart"
COLUMNS = ["method", "k", "other", "other_k", "difference", "ci_low", "ci_high", "verdict"]
DUELS = pd.DataFrame(
    [
        ("tcssa", 8, "locpath", 16, 0.07, 0.02, 0.11, "above"),
        ("tcssa", 8, "all", 0, -0.03, -0.09, 0.04, "not told apart"),
        ("all", 0, "locpath", 16, -0.13, -0.21, -0.06, "below"),
        ("all", 0, "sparselearn", 32, 0.005, -0.01, 0.03, "not told apart"),
        ("locpath", 16, "sparselearn", 32, 0.19, 0.17, 0.28, "above"),
    ],
    columns=COLUMNS,
    index=[7, 3, 19, 4, 11],
)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (0, "TC-SSA (k = 8)\n− LoC-Path-style (k = 16)"),
        (1, "TC-SSA (k = 8)\n− all tiles"),
        (2, "all tiles\n− LoC-Path-style (k = 16)"),
    ],
)
def test_a_pairing_is_named_by_both_runs(row, name):
    assert pairs.pair_name([*DUELS.itertuples()][row]) == name


def test_a_difference_stands_on_its_pairings_row_in_points():
    ax = pairs.differences(fresh(), DUELS, title="finding, same k")
    assert names(ax.yaxis) == [pairs.pair_name(row) for row in DUELS.itertuples()]
    assert centres(ax, TOLD) == [(7, 0), (-13, 2), (19, 4)] and centres(ax, UNTOLD) == [(-3, 1), (0.5, 3)]
    assert intervals(ax, TOLD) == [(0, 2, 11), (2, -21, -6), (4, 17, 28)]
    assert intervals(ax, UNTOLD) == [(1, -9, 4), (3, -1, 3)]
    assert rules(ax, "x") == [("", 0)] and ax.get_title() == "finding, same k"
    assert titles(ax) == ("difference in accuracy (percentage points)", "")
    assert outside(ax) == [] and ax.get_ylim() == (4.5, -0.5)


def test_colour_says_what_is_told_apart():
    ax = pairs.differences(fresh(), DUELS, title="")
    assert named(ax) == [TOLD, UNTOLD] and bar_hues(ax) == [DARK, GREY]


@pytest.mark.parametrize(("verdict", "label", "other"), [("above", TOLD, UNTOLD), ("not told apart", UNTOLD, TOLD)])
def test_one_verdict_for_all_leaves_the_other_kind_empty(verdict, label, other):
    ax = pairs.differences(fresh(), DUELS.assign(verdict=verdict), title="")
    assert intervals(ax, label) == [(0, 2, 11), (1, -9, 4), (2, -21, -6), (3, -1, 3), (4, 17, 28)]
    assert intervals(ax, other) == [] and named(ax) == [TOLD, UNTOLD]


def test_what_is_apart_in_these_runs_alone_is_hollow():
    words = ["above in these runs", "not told apart in these runs", "below", "not told apart", "below in these runs"]
    ax, here = (
        pairs.differences(fresh(), DUELS.assign(verdict=words), title=""),
        "95 %, apart in these runs, too few seeds",
    )
    assert named(ax) == [TOLD, here, UNTOLD] and bar_hues(ax) == [DARK, DARK, GREY]
    assert [at for at, *_ in intervals(ax, here)] == [0, 4] and [at for at, *_ in intervals(ax, TOLD)] == [2]
    hollow = {box.get_label(): box.lines[0].get_markerfacecolor() for box in ax.containers}
    assert hollow[here] == "white" != hollow[TOLD]


def test_a_way_of_matching_without_a_pair_has_no_row():
    named = DUELS.assign(matched_by="k", group="evidence", verdict="not told apart")
    titles = {"k": "same k", "operations": "same operations"}
    drawn = closed(pairs.both_ways(named, ["evidence", "composition"], titles))
    assert [ax.get_title() for ax in drawn.axes] == ["evidence, same k", "composition, same k"]


def test_nothing_to_compare_is_said():
    ax = pairs.differences(fresh(), DUELS.iloc[:0], title="tissue, same k")
    assert [text for text, *_ in written(ax)] == ["no two runs to compare"] and not ax.axison
    assert not ax.containers and ax.get_title() == "tissue, same k"


SCORES = pd.DataFrame(
    [
        ("tcssa", 16, 0, 0.66),
        ("tcssa", 8, 0, 0.61),
        ("text_only", 0, 0, 0.37),
        ("tcssa", 8, 1, 0.57),
        ("tcssa", 8, 2, 0.58),
        ("never_costed", 8, 0, 0.99),
        ("text_only", 0, 1, 0.42),
    ],
    columns=["method", "k", "seed", "accuracy"],
    index=[5, 9, 2, 1, 7, 3, 4],
)
COSTS = pd.DataFrame(
    [
        ("text_only", 0, 0, 0.0013),
        ("tcssa", 8, 1, 0.0029),
        ("tcssa", 8, 0, 0.0023),
        ("tcssa", 16, 0, 0.0117),
        ("text_only", 0, 1, 0.0015),
        ("tcssa", 8, 2, 0.0041),
        ("all", 0, 0, 0.77),
    ],
    columns=["method", "k", "seed", "tflops"],
)


def test_accuracy_is_the_median_of_seeds_at_their_mean_operations():
    ax = pairs.accuracy_by_operations(fresh(), SCORES, COSTS, title="finding")
    assert named(ax) == ["TC-SSA", "text only"] and ax.get_title() == "finding"
    assert centres(ax, "TC-SSA") == [(3.1, 58), (11.7, 66)] and centres(ax, "text only") == [(1.4, 39.5)]
    assert titles(ax) == ("operations an answer (GFLOP)", "accuracy (%)")
    assert ax.get_xscale() == "log" and outside(ax) == []
    assert {2: "2", 5: "5", 10: "10"}.items() <= dict(ticks(ax.xaxis)).items()


def test_its_bar_is_the_range_of_seeds():
    ax = pairs.accuracy_by_operations(fresh(), SCORES, COSTS, title="")
    assert intervals(ax, "TC-SSA") == [(3.1, 57, 61), (11.7, 66, 66)] and intervals(ax, "text only") == [(1.4, 37, 42)]


def test_every_compressor_has_a_line_of_its_own():
    runs = pd.DataFrame({"method": list(COMPRESSORS), "k": 8, "seed": 0})
    shares, tflops = np.linspace(0.31, 0.77, len(runs)), np.geomspace(0.003, 2.9, len(runs))
    ax = pairs.accuracy_by_operations(fresh(), runs.assign(accuracy=shares), runs.assign(tflops=tflops), title="")
    looks = {(hex_of(c.lines[0].get_color()), c.lines[0].get_marker()) for c in ax.containers}
    assert len(looks) == len(COMPRESSORS) == 20
    expected = zip(rounded(1000 * tflops), rounded(100 * shares), strict=True)
    assert centres(ax) == list(expected) and outside(ax) == []
