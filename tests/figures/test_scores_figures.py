"""Figures of scores: every accuracy, interval, floor, control, recall and fold stands where the table has it."""

import pandas as pd
import pytest
from matplotlib.colors import same_color
from read_back import (
    centres,
    closed,
    curve,
    dots,
    fresh,
    hex_of,
    intervals,
    legend,
    lying,
    named,
    names,
    outside,
    points,
    rules,
    titles,
    upright,
    written,
)  # fmt: skip

from slidesieve.answers.names import run_name
from slidesieve.answers.palette import DARK, GREY, METHODS
from slidesieve.figures import scores
from slidesieve.figures.style import GREEN, PALE, RED

FLOORS = ("majority", "majority_option", "longest_option")
COLUMNS = ["method", "k", "seed", "accuracy", "ci_low", "ci_high"]
ROWS = [
    ("tcssa", 8, 0, 0.61, 0.52, 0.67),
    ("majority", 0, 0, 0.31, 0.11, 0.91),
    ("all", 0, 0, 0.73, 0.66, 0.79),
    ("tcssa_wrong_slide", 8, 0, 0.37, 0.21, 0.43),
    ("all", 0, 1, 0.7, 0.59, 0.88),
    ("tcssa", 16, 0, 0.64, 0.57, 0.69),
    ("longest_option", 0, 0, 0.29, 0.12, 0.92),
    ("tcssa", 8, 1, 0.58, 0.41, 0.63),
    ("all_wrong_slide", 0, 0, 0.34, 0.13, 0.93),
    ("tcssa_wrong_slide", 8, 1, 0.39, 0.14, 0.94),
    ("all", 0, 2, 0.71, 0.6, 0.74),
    ("majority_option", 0, 0, 0.47, 0.15, 0.95),
]
NAMES = ["TC-SSA (k = 8)", "all tiles", "TC-SSA (k = 16)"]


def table(rows=ROWS) -> pd.DataFrame:
    """Rows as of a group: numbered anew by nobody."""
    return pd.DataFrame(rows, columns=COLUMNS, index=range(5, 5 + 3 * len(rows), 3))


def scored(rows=ROWS, floors=FLOORS):
    return scores.method_scores(fresh(), table(rows), floors=floors, title="finding")


@pytest.mark.parametrize(
    ("method", "k", "name"),
    [
        ("tcssa", 8, "TC-SSA (k = 8)"),
        ("text_only", float("nan"), "text only"),
        ("sparselearn_soft", 16, "SparseLearn, soft (k = 16)"),
    ],
)
def test_a_run_is_named_by_its_method_and_its_k(method, k, name):
    assert run_name(method, k) == name


def test_a_methods_seeds_stand_on_its_row_in_per_cent():
    ax = scored()
    assert names(ax.yaxis) == NAMES
    tcssa, everything, more = [(61, -0.12), (58, 0.12)], [(73, 0.88), (70, 1), (71, 1.12)], [(64, 2)]
    assert centres(ax) == tcssa + everything + more
    assert titles(ax) == ("accuracy (%)", "") and ax.get_title() == "finding"


def test_an_interval_reaches_from_its_low_to_its_high():
    tcssa, everything = [(-0.12, 52, 67), (0.12, 41, 63)], [(0.88, 66, 79), (1, 59, 88), (1.12, 60, 74)]
    assert intervals(scored()) == tcssa + everything + [(2, 57, 69)]


def test_floors_are_lines_and_no_methods():
    ax = scored()
    floors = [("floor: majority letter", 31), ("floor: majority option", 47), ("floor: longest option", 29)]
    assert rules(ax, "x") == floors and rules(ax, "y") == []
    assert not {"majority", "majority option", "longest option"} & set(names(ax.yaxis))
    styles = {curve(ax, label).get_linestyle() for label, _ in floors}
    inks = [METHODS[name].colour for name in FLOORS]
    assert len(styles) == 3 and [curve(ax, label).get_color() for label, _ in floors] == inks


def test_floors_that_would_hide_each_other_share_the_height():
    near = [("majority", 0, 0, 0.31, 0, 1), ("longest_option", 0, 0, 0.305, 0, 1), ("majority_option", 0, 0, 0.4, 0, 1)]
    ax = scored([ROWS[0], *near])
    reach = {label: tuple(curve(ax, f"floor: {label}").get_ydata()) for label in ("majority letter", "longest option")}
    assert reach == {"majority letter": (0, 0.5), "longest option": (0.5, 1)}
    assert tuple(curve(ax, "floor: majority option").get_ydata()) == (0, 1)


def test_a_floor_of_several_seeds_is_their_median():
    more = [("majority", 0, seed, share, 0.1, 0.9) for seed, share in ((1, 0.44), (2, 0.33))]
    assert rules(scored([*ROWS, *more], ["majority"]), "x") == [("floor: majority letter", 33)]


def test_the_wrong_slide_is_a_hollow_square_on_its_methods_row():
    ax = scored()
    assert dots(ax, "s") == [[(37, 0.28), (39, 0.28)], [(34, 1.28)], []]
    drawn = [line for line in ax.lines if line.get_marker() == "s"]
    looks = [(line.get_markerfacecolor(), line.get_color()) for line in drawn]
    assert looks == [("none", colour) for colour in (METHODS["tcssa"].colour, METHODS["all"].colour, DARK)]
    assert not any("wrong" in name for name in names(ax.yaxis))


def test_a_control_without_its_method_is_not_drawn():
    lone = [("mean_wrong_slide", 8, 0, 0.17, 0.1, 0.2), ("tcssa_wrong_slide", 32, 0, 0.18, 0.1, 0.2)]
    ax = scored([*ROWS, *lone])
    assert dots(ax, "s") == [[(37, 0.28), (39, 0.28)], [(34, 1.28)], []] and names(ax.yaxis) == NAMES


def test_methods_controls_and_floors_are_each_named_once():
    floors = ["floor: majority letter", "floor: majority option", "floor: longest option"]
    assert sorted(named(scored())) == sorted([*floors, "one seed, 95 % interval", "same model, another slide"])
    methods = [row for row in ROWS if "wrong" not in row[0]]
    assert "same model, another slide" not in named(scored(methods))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_method_is_cut_off(share):
    ax = scored([*ROWS, ("last", 0, 0, share, share, share), ("last_wrong_slide", 0, 0, share, share, share)])
    assert outside(ax) == [] and ax.get_xlim() == (0, 102) and ax.get_ylim() == (3.6, -0.6)


SELECTION = pd.DataFrame(
    [
        ("tcssa", 8, 0, 0.34, 0.11),
        ("all", 0, 0, 1.0, 1.0),
        ("tcssa", 8, 1, 0.39, 0.12),
        ("tcssa", 16, 0, 0.57, 0.23),
        ("tcssa", 8, 2, 0.31, 0.17),
        ("tcssa", 16, 1, 0.58, 0.24),
    ],
    columns=["method", "k", "seed", "recall", "chance"],
    index=[4, 1, 9, 7, 3, 2],
)
SELECTION = SELECTION.assign(ci_low=SELECTION["recall"] - 0.04, ci_high=(SELECTION["recall"] + 0.03).clip(upper=1))


def test_recall_is_a_bar_to_the_median_with_a_dot_and_an_interval_for_each_seed():
    ax = scores.selection_recall(fresh(), SELECTION)
    assert names(ax.yaxis) == ["TC-SSA (k = 8)", "all tiles", "TC-SSA (k = 16)"]
    assert lying(ax) == [(0, 0, 34), (1, 0, 100), (2, 0, 57.5)]
    assert dots(ax, "o") == [[(34, -0.18), (39, 0), (31, 0.18)], [(100, 1)], [(57, 1.82), (58, 2.18)]]
    low_high = [(30, 37), (35, 42), (27, 34), (96, 100), (53, 60), (54, 61)]
    assert [(low, high) for _, low, high in intervals(ax)] == low_high
    assert titles(ax) == ("recall of planted tiles (%)", "") and ax.yaxis_inverted()


def test_chance_is_a_tick_across_the_bar():
    ax = scores.selection_recall(fresh(), SELECTION)
    assert [points(line) for line in ax.lines if line.get_color() == RED] == [
        [(12, -0.38), (12, 0.38)],
        [(100, 0.62), (100, 1.38)],
        [(23.5, 1.62), (23.5, 2.38)],
    ]
    assert legend(ax) == ["as many tiles at random"] and outside(ax) == [] and ax.get_xlim() == (0, 102)


AUCS = pd.DataFrame(
    [
        ("tcssa", 8, 0, 0.71),
        ("all", 0, 0, 0.82),
        ("tcssa", 8, 1, 0.77),
        ("tcssa", 8, 2, 0.62),
        ("all", 0, 1, 0.85),
        ("mean", 4, 0, 0.43),
    ],
    columns=["method", "k", "fold", "auc"],
    index=[3, 1, 8, 9, 2, 6],
)


def test_every_fold_is_a_dot_and_their_mean_a_bar():
    ax = scores.fold_aucs(fresh(), AUCS)
    assert names(ax.yaxis) == ["all tiles", "TC-SSA (k = 8)", "mean of tiles (k = 4)"]
    folds = [[(0.82, -0.2), (0.85, 0.2)], [(0.71, 0.8), (0.77, 1), (0.62, 1.2)], [(0.43, 2)]]
    assert [part for name in ("all", "tcssa", "mean") for part in dots(ax, METHODS[name].mark)] == folds
    means = [[(0.835, -0.35), (0.835, 0.35)], [(0.7, 0.65), (0.7, 1.35)], [(0.43, 1.65), (0.43, 2.35)]]
    assert [points(line) for line in ax.lines if same_color(line.get_color(), RED)] == means


def test_no_information_is_a_line_at_one_half():
    ax = scores.fold_aucs(fresh(), AUCS)
    assert rules(ax, "x") == [("no information", 0.5)] and curve(ax, "no information").get_color() == GREY
    assert sorted(named(ax)) == ["mean", "no information", "one run"]
    assert titles(ax) == ("AUROC", "") and outside(ax) == [] and ax.get_ylim() == (2.6, -0.6)


def test_a_floor_that_is_not_in_the_table_is_not_in_the_legend():
    assert "floor: best letter" not in named(scored(floors=(*FLOORS, "best_letter")))


KINDS = pd.DataFrame(
    [
        ("all", 0, "evidence", 0.9, 0.85, 0.94),
        ("all", 0, "composition", 0.8, 0.7, 0.88),
        ("tcssa", 8, "evidence", 0.6, 0.5, 0.7),
        ("tcssa", 8, "composition", 0.7, 0.62, 0.77),
        ("tcssa", 8, "all", 0.65, 0.6, 0.7),
    ],
    columns=["method", "k", "group", "accuracy", "ci_low", "ci_high"],
)


def test_kinds_of_a_run_stand_in_its_row_each_with_its_interval():
    (ax,) = closed(scores.kinds(KINDS, ["evidence", "composition"])).axes
    assert names(ax.yaxis) == ["all tiles", "TC-SSA (k = 8)"] and ax.get_xlabel() == "accuracy (%)"
    assert intervals(ax, "evidence, 95 % interval") == [(-0.24, 85, 94), (0.76, 50, 70)]
    assert centres(ax, "composition, 95 % interval") == [(80, 0.24), (70, 1.24)]
    markers = {container.get_label(): container.lines[0].get_marker() for container in ax.containers}
    assert list(markers.values()) == ["o", "s"]
    assert {hex_of(box.lines[0].get_color()) for box in ax.containers} == {DARK.upper(), GREY.upper()}
    assert outside(ax) == []


def test_a_figure_of_scores_has_a_panel_a_group_and_one_legend():
    both = pd.concat([table().assign(group="all"), table().assign(group="finding")], ignore_index=True)
    drawn = closed(scores.all_scores(both, {"all": "all", "finding = x": "finding"}, floors=FLOORS, of="all seeds"))
    assert [ax.get_title() for ax in drawn.axes] == ["all", "finding = x"]
    assert "all seeds, 95 % interval" in legend(drawn) and drawn.axes[0].get_legend() is None


def test_options_are_bars_of_their_share_with_the_key_and_another_that_was_chosen_told_apart():
    options = pd.DataFrame(
        {"letter": list("ABC"), "option": ["u", "v" * 40, "w"], "question": "what is it?", "share": [0.2, 0.7, 0.1],
         "logp": [-3.114, -1.861, -3.807], "is_key": [True, False, False], "is_chosen": [False, True, False]}
    )  # fmt: skip
    ax = scores.option_shares(fresh(), options)
    assert lying(ax) == [(0, 0, 20), (1, 0, 70), (2, 0, 10)] and outside(ax) == []
    assert [hex_of(bar.get_facecolor()) for bar in ax.patches] == [hex_of(c) for c in (GREEN, RED, PALE)]
    assert names(ax.yaxis) == ["A u", "chosen: B " + "v" * 25 + "…", "C w"] and ax.get_title() == "what is it?"
    assert [text.get_text() for text in ax.texts] == ["-3.11", "-1.86", "-3.81"]


def test_a_bin_of_confidence_stands_at_its_mean_with_its_accuracy_and_how_many():
    bins = pd.DataFrame(
        {"confidence": [0.34, 0.91], "accuracy": [0.5, 0.83], "ci_low": [0.2, 0.7], "ci_high": [0.8, 0.9], "n": [7, 53]}
    )
    ax = scores.reliability(fresh(), bins)
    assert centres(ax) == [(34, 50), (91, 83)] and intervals(ax) == [(34, 20, 80), (91, 70, 90)]
    assert points(curve(ax, "calibrated")) == [(0, 0), (100, 100)]
    assert written(ax) == [("7", 34, 2), ("53", 91, 2)] and outside(ax) == []


def test_a_letter_has_a_bar_of_how_often_it_was_chosen_and_one_of_how_often_right():
    bias = pd.DataFrame({"letter": ["A", "B"], "chosen": [0.7, 0.3], "right": [0.45, 0.55]})
    ax = scores.letters(fresh(), bias)
    assert upright(ax, "chosen") == [(-0.2, 0, 70), (0.8, 0, 30)] and upright(ax, "right") == [
        (0.2, 0, 45),
        (1.2, 0, 55),
    ]
    assert names(ax.xaxis) == ["A", "B"] and outside(ax) == []
