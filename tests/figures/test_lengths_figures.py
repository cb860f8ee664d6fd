"""Figures of lengths: each bin's count, accuracy and both intervals, the paper's beside ours, shortened slides."""

import pandas as pd
import pytest
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
    named,
    names,
    outside,
    points,
    rules,
    ticks,
    titles,
    upright,
    written,
)  # fmt: skip

from slidesieve.figures import lengths
from slidesieve.figures.style import BLUE, CYCLE, GREY

BINS = pd.DataFrame(
    [
        ("<64", 17, 0.71, 0.52, 0.88, 0.47, 0.87),
        ("64-128", 5, 0.4, 0.11, 0.77, 0.12, 0.78),
        (">128", 31, 0.83, 0.69, 0.91, 0.66, 0.93),
    ],
    columns=["bin", "n_questions", "accuracy", "ci_low", "ci_high", "binomial_low", "binomial_high"],
    index=[4, 2, 7],
)
PAPER = pd.DataFrame(
    [("<64", 65, 0.77, 0.765, 0.775), ("64-128", 94, 0.745, 0.742, 0.749), (">128", 1207, 0.673, 0.662, 0.681)],
    columns=["bin", "n_questions", "accuracy", "accuracy_low", "accuracy_high"],
)


def test_a_bars_height_is_its_bins_questions():
    ax = lengths.counts(fresh(), BINS)
    assert upright(ax) == [(0, 0, 17), (1, 0, 5), (2, 0, 31)] and names(ax.xaxis) == ["<64", "64-128", ">128"]
    assert [text for text, *_ in written(ax)] == ["17", "5", "31"]
    assert titles(ax)[1] == "questions" and outside(ax) == [] and ax.get_legend() is None


def test_the_papers_counts_stand_right_of_ours_and_hollow():
    ax = lengths.counts(fresh(), BINS, PAPER)
    assert upright(ax, "ours") == [(-0.2, 0, 17), (0.8, 0, 5), (1.8, 0, 31)]
    assert upright(ax, "SparseLearn paper") == [(0.2, 0, 65), (1.2, 0, 94), (2.2, 0, 1207)]
    assert [text for text, *_ in written(ax)] == ["17", "5", "31", "65", "94", "1207"]
    assert [container[0].get_facecolor()[3] for container in ax.containers] == [1, 0]
    assert legend(ax) == ["ours", "SparseLearn paper"] and outside(ax) == []


def accuracies(paper=None):
    return lengths.accuracy(fresh(), BINS, overall=0.617, paper=paper)


@pytest.mark.parametrize("paper", [None, PAPER])
def test_both_intervals_of_a_bin_stand_beside_its_accuracy(paper):
    ax = accuracies(paper)
    assert intervals(ax, "95 % binomial") == [(0.08, 47, 87), (1.08, 12, 78), (2.08, 66, 93)]
    assert intervals(ax, "95 % clustered by patient") == [(-0.08, 52, 88), (0.92, 11, 77), (1.92, 69, 91)]
    ours = [line for line in ax.lines if line.get_marker() == "o" and line.get_color() == BLUE]
    assert [points(line) for line in ours] == [[(-0.08, 71), (0.92, 40), (1.92, 83)]]
    assert names(ax.xaxis) == ["<64", "64-128", ">128"] and titles(ax) == ("tiles on the slide", "accuracy (%)")
    assert ax.get_ylim() == (0, 102) and outside(ax) == []


def test_the_clustered_interval_is_the_thick_one():
    width = {c.get_label(): c.lines[2][0].get_linewidth().item() for c in accuracies().containers}
    assert width["95 % clustered by patient"] > width["95 % binomial"]


def test_all_lengths_together_are_a_level_line():
    ax = accuracies()
    assert rules(ax, "y") == [("all lengths", 61.7)]
    assert sorted(legend(ax)) == ["95 % binomial", "95 % clustered by patient", "all lengths"]


def test_the_papers_accuracies_are_grey_with_how_far_they_may_be_misread():
    ax = accuracies(PAPER)
    label = "SparseLearn paper, 1,366 questions,\nread off its Fig. 4 (±1.1)"
    places = [(0.22, 77), (1.22, 74.5), (2.22, 67.3)]
    assert label in legend(ax) and centres(ax, label) == places
    assert intervals(ax, label) == [(0.22, 76.5, 77.5), (1.22, 74.2, 74.9), (2.22, 66.2, 68.1)]
    (paper,) = [c for c in ax.containers if c.get_label() == label]
    assert hex_of(paper.lines[0].get_color()) == hex_of(paper.lines[2][0].get_edgecolor()) == GREY
    assert written(ax) == [(f"{y:.1f}", x, y) for x, y in places]


STABILITY = pd.DataFrame(
    [
        (64, 27, 0.61, 0.52, 0.73, 0.22, 0.11, 0.35, 0.71, 0.41),
        (512, 5, 0.68, 0.44, 0.86, 0.09, 0.03, 0.17, 0.74, 0.83),
        (128, 19, 0.66, 0.57, 0.71, 0.14, 0.08, 0.26, 0.72, 0.57),
    ],
    columns=[
        "size", "n_slides", "accuracy", "ci_low", "ci_high", "flips", "flips_low", "flips_high", "accuracy_full",
        "retained",
    ],
    index=[9, 4, 6],
)  # fmt: skip
CURVES = {
    "accuracy_full": "same slides, whole", "retained": "kept again", "accuracy": "subset", "flips": "another answer",
}  # fmt: skip


def against():
    return lengths.against_length(fresh(), STABILITY, CURVES, ylabel="questions (%)")


def test_each_column_is_a_curve_over_the_tiles_offered():
    ax = against()
    for column, label in CURVES.items():
        shares = [round(100 * value, 9) for value in STABILITY[column].tolist()]
        assert points(curve(ax, label)) == list(zip([64, 512, 128], shares, strict=True))
    assert points(curve(ax, "another answer")) == [(64, 22), (512, 9), (128, 14)]
    assert legend(ax) == list(CURVES.values()) == named(ax) and len(dots(ax, "o")) == 4
    assert titles(ax) == ("tiles offered (slides longer than that)", "questions (%)")
    assert ax.get_xscale() == "log" and ax.get_ylim() == (0, 102) and outside(ax) == []


def test_only_accuracy_and_flips_have_a_band_from_low_to_high():
    ax = against()
    assert bands(ax) == [[(64, 52, 73), (128, 57, 71), (512, 44, 86)], [(64, 11, 35), (128, 8, 26), (512, 3, 17)]]
    colours = [hex_of(band.get_facecolor()) for band in ax.collections]
    assert colours == [curve(ax, label).get_color() for label in ("subset", "another answer")] == list(CYCLE[2:4])


def test_a_figure_has_counts_over_accuracies():
    above, below = closed(lengths.by_length(BINS, overall=0.617, paper=PAPER)).axes
    assert above.get_ylabel() == "questions" and below.get_ylabel() == "accuracy (%)"
    assert rules(below, "y") == [("all lengths", 61.7)] and names(below.xaxis) == ["<64", "64-128", ">128"]


@pytest.mark.parametrize(("keeps", "panels"), [(True, 2), (False, 1)])
def test_a_method_that_keeps_no_tiles_has_no_panel_of_them(keeps, panels):
    more = {"retained_chance": 0.1, "jaccard": 0.2}
    table = STABILITY.assign(**more) if keeps else STABILITY.assign(**more, retained=float("nan"))
    drawn = closed(lengths.shortened(table)).axes
    assert [ax.get_ylabel() for ax in drawn] == ["questions (%)", "kept tiles (%)"][:panels]
    assert legend(drawn[0]) == list(lengths.OF_ANSWERS.values())


def test_below_a_size_stands_how_many_slides_are_longer():
    assert sorted(ticks(against().xaxis)) == [(64, "64\n(27)"), (128, "128\n(19)"), (512, "512\n(5)")]
