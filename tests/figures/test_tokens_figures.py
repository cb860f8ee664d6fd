"""Figures against visual tokens: medians, seeds, intervals and chance at their tokens, a colour for each method."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hues import bar_hues, cloud_hues
from read_back import (
    closed,
    clouds,
    curve,
    dots,
    fresh,
    hex_of,
    intervals,
    legend,
    named,
    outside,
    points,
    rounded,
    rules,
    squares,
    ticks,
    titles,
    upright,
    written,
)  # fmt: skip

from slidesieve.analyses.token_maps import Picture, TokenMap
from slidesieve.answers import palette
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.evaluation import published
from slidesieve.figures import tokens
from slidesieve.figures.style import BLUE, GREY, ORANGE, PALE, Look, method_looks

COLUMNS = ["method", "tokens", "pooled", "median", "accuracy", "ci_low", "ci_high"]
TABLE = pd.DataFrame(
    [
        ("tcssa", 32, True, 0.61, 0.62, 0.55, 0.69),
        ("tcssa", 32, False, np.nan, 0.61, 0.1, 0.9),
        ("tcssa", 32, False, np.nan, 0.66, 0.2, 0.8),
        ("text_only", 0, True, 0.39, 0.4, 0.33, 0.45),
        ("text_only", 0, False, np.nan, 0.37, 0.3, 0.7),
        ("tcssa", 8, True, 0.53, 0.54, 0.5, 0.57),
        ("tcssa", 8, False, np.nan, 0.51, 0.1, 0.9),
        ("tcssa", 8, False, np.nan, 0.56, 0.2, 0.8),
        ("all", 243.5, True, 0.71, 0.72, 0.6, 0.77),
        ("all", 243.5, False, np.nan, 0.71, 0.1, 0.9),
    ],
    columns=COLUMNS,
    index=range(7, 37, 3),
)
LOOK = method_looks(TABLE["method"])
MARKS = [LOOK[method].marker for method in ("tcssa", "all")]
SIDE = {"tcssa": 1 / 1.05, "text_only": 1.0, "all": 1.05}  # three methods stand around their common place


def beside(method: str, *at: float) -> list[float]:
    return rounded(n * SIDE[method] for n in at)


def accuracies(table: pd.DataFrame = TABLE, *, look=LOOK):
    return tokens.accuracy(fresh(), table, look=look, title="finding questions")


RECALL = pd.DataFrame(
    [
        ("tcssa", 32, 0.61, 0.34),
        ("tcssa", 8, 0.31, 0.1),
        ("random", 8, 0.07, 0.1),
        ("tcssa", 8, 0.37, 0.1),
        ("random", 32, 0.36, 0.34),
        ("tcssa", 8, 0.39, 0.1),
        ("all", 75, 1.0, 1.0),
    ],
    columns=["method", "tokens", "recall", "chance"],
    index=[3, 9, 4, 1, 7, 2, 8],
)


def recalls(*, look=None):
    return tokens.recall(fresh(), RECALL, look=look or method_looks(RECALL["method"]))


def test_a_line_goes_through_the_medians_in_the_order_of_tokens():
    ax = accuracies()
    few, many = beside("tcssa", 8, 32)
    assert points(curve(ax, "tcssa")) == [(few, 53), (many, 61)]
    assert points(curve(ax, "all")) == [(*beside("all", 243.5), 71)]
    assert titles(ax) == ("visual tokens a slide", "accuracy (%)") and ax.get_title() == "finding questions"
    assert ax.get_ylim() == (0, 102)


def test_the_pooled_interval_reaches_from_its_low_to_its_high():
    few, many = beside("tcssa", 8, 32)
    assert intervals(accuracies()) == [(few, 50, 57), (many, 55, 69), (*beside("all", 243.5), 60, 77)]


def test_a_seed_is_a_dot():
    few, many = beside("tcssa", 8, 32)
    expected = [[(many, 61), (many, 66), (few, 51), (few, 56)], [(*beside("all", 243.5), 71)]]
    assert [part for mark in MARKS for part in dots(accuracies(), mark)] == expected


def test_a_method_without_tokens_is_a_level_line():
    ax = accuracies()
    assert (
        rules(ax, "y") == [("text only", 39)]
        and curve(ax, "text only").get_color() == palette.METHODS["text_only"].colour
    )
    assert sorted(named(ax)) == ["all", "tcssa", "text only"] and outside(ax) == []


def test_all_of_a_method_has_its_colour():
    ax = accuracies()
    marks = [line.get_color() for line in ax.lines if line.get_marker() in MARKS]
    expected = [LOOK[method].colour for method in ("tcssa", "all")]
    assert bar_hues(ax) == marks == expected == [curve(ax, m).get_color() for m in ("tcssa", "all")]
    assert len(set(expected)) == 2


@pytest.mark.parametrize("draw", [accuracies, recalls])
def test_what_is_drawn_has_the_look_that_is_handed_in(draw):
    look = {name: Look(f"#00000{i}", "-.", "^", None) for i, name in enumerate(("all", "tcssa", "random"))}
    own = [line for line in draw(look=look).lines if str(line.get_color()).startswith("#00000")]
    assert {line.get_linestyle() for line in own} == {"-.", "None"} and "^" in {line.get_marker() for line in own}


def test_every_compressor_has_a_colour_of_its_own():
    given = method_looks([name for name in COMPRESSORS if name != "text_only"])
    assert len({look.colour for look in given.values()}) == len(given)


def test_methods_of_one_budget_stand_side_by_side():
    moved = tokens.dodged(TABLE)
    assert rounded(moved["tokens"]) == rounded(TABLE["tokens"] * TABLE["method"].map(SIDE))
    assert moved.drop(columns="tokens").equals(TABLE.drop(columns="tokens"))


def test_recall_is_a_line_through_medians_and_a_dot_a_seed():
    ax = recalls()
    assert [part for name in ("tcssa", "random", "all") for part in dots(ax, palette.METHODS[name].mark)] == [
        [(32, 61), (8, 31), (8, 37), (8, 39)],
        [(8, 7), (32, 36)],
        [(75, 100)],
    ]
    medians = [points(line) for line in ax.lines if line.get_linestyle() == "-"]
    assert medians == [[(8, 37), (32, 61)], [(8, 7), (32, 36)], [(75, 100)]]
    assert titles(ax) == ("visual tokens a slide", "planted tiles kept (%)")
    assert ax.get_title() == "recall of planted tiles" and ax.get_ylim() == (0, 102) and outside(ax) == []


def test_chance_is_straight_in_tokens_on_the_logarithmic_axis():
    ax = recalls()
    x, y = curve(ax, "as many at random").get_data()
    assert (x[0], x[-1]) == (pytest.approx(8), pytest.approx(75)) and legend(ax) == ["as many at random"]
    for at, value in zip(x, y, strict=True):
        low = (8, 10) if at <= 32 else (32, 34)
        high = (32, 34) if at <= 32 else (75, 100)
        assert value == pytest.approx(low[1] + (high[1] - low[1]) * (at - low[0]) / (high[0] - low[0]))


COSTS = pd.DataFrame(
    [
        ("SparseLearn", 33.0, "v1", 0.7313),
        ("MedDr", 17210.0, "v0", 0.677),
        ("PathSelect", 44.86, "v1", 0.7407),
        ("SlideChat", 4099.0, "v0", 0.8117),
        ("GPT-4o", 17210.0, "v0", 0.5791),
    ],
    columns=["method", "tokens", "benchmark", "accuracy"],
    index=[5, 1, 8, 2, 3],
)


def test_a_published_point_stands_at_its_tokens_with_its_name_and_benchmark():
    ax = tokens.published(fresh(), COSTS, names={"v0": "the old, 7,827", "v1": "the new, 1,473"})
    assert points(curve(ax, "the new, 1,473")) == [(33, 73.13), (44.86, 74.07)]
    assert points(curve(ax, "the old, 7,827")) == [(17210, 67.7), (4099, 81.17), (17210, 57.91)]
    assert sorted(written(ax)) == sorted(
        (row.method, row.tokens, round(100 * row.accuracy, 9)) for row in COSTS.itertuples()
    )
    assert legend(ax) == ["the new, 1,473", "the old, 7,827"] and outside(ax) == []
    assert titles(ax) == ("visual tokens a slide", "accuracy, all questions (%)")
    assert ax.get_title() == "the papers, another benchmark"


def test_a_third_benchmark_has_no_marker_and_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        tokens.published(fresh(), COSTS.assign(benchmark=list("abcab")), names=dict.fromkeys("abc", ""))


def test_the_papers_own_points_all_lie_inside():
    benchmarks = {key: benchmark.name for key, benchmark in published.BENCHMARKS.items()}
    ax = tokens.published(fresh(), published.costs(), names=benchmarks)
    drawn = sorted(point for line in ax.lines for point in points(line))
    expected = zip(published.costs()["tokens"], 100 * published.costs()["accuracy"], strict=True)
    assert drawn == sorted(tuple(rounded(point)) for point in expected) and outside(ax) == []


@pytest.mark.parametrize(
    ("some", "texts"),
    [
        ([0, 9, 30], ["4", "8", "16", "32", "64"]),
        ([3, 1300], ["1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1,024", "2,048", "4,096"][::2]),
    ],
)
def test_tokens_are_named_in_powers_of_two(some, texts):
    ax = tokens.log_tokens(fresh(), pd.Series(some))
    assert ticks(ax.xaxis) == [(float(text.replace(",", "")), text) for text in texts]
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "visual tokens a slide"
    low, high = ax.get_xlim()
    assert low == float(texts[0]) <= min(n for n in some if n) / 1.6 and 1.6 * max(some) <= high < 3.2 * max(some)


def test_one_token_is_named_as_what_it_is():
    ax = tokens.log_tokens(fresh(), pd.Series([0, 1, 30]))
    assert [float(text) for _, text in ticks(ax.xaxis)] == [place for place, _ in ticks(ax.xaxis)]


LIKENESS = pd.DataFrame(
    {
        "slide_id": list("abcdefg"),
        "kept": [0.31, 0.337, 0.391, 0.428, 0.333, 0.574, 0.618],
        "random": [0.713, 0.722, 0.777, 0.794, 0.838, 0.861, 0.905],
    }
)


def steps(outline) -> list[tuple[float, float, float]]:
    """Left, right and height of each step of a filled histogram."""
    corners = outline.get_paths()[0].vertices
    top = corners[len(corners) // 2 + 1 : -1][::-1].tolist()  # the way back
    return [(x, right, y) for (x, y), (right, also) in pairwise(top) if y == also and x < right]


@pytest.mark.parametrize(("colour", "column"), [(ORANGE, "kept"), (GREY, "random")])
def test_a_step_is_as_high_as_there_are_slides_in_it(colour, column):
    ax = tokens.diversity(fresh(), LIKENESS)
    (outline,) = [c for c in ax.collections if hex_of(c.get_facecolor()) == colour]
    left, right, height = zip(*steps(outline), strict=True)
    assert left[1:] == right[:-1] and np.diff([left, right], axis=0) == pytest.approx(0.02, rel=0.05)
    assert list(height) == np.histogram(LIKENESS[column], [left[0], *right])[0].tolist() and sum(height) == 7
    (smooth,) = [line for line in ax.lines if hex_of(line.get_color()) == colour]
    peak = float(smooth.get_xdata()[smooth.get_ydata().argmax()])
    assert (peak < 0.65) is (column == "kept")


def test_kept_and_random_tiles_are_named():
    ax = tokens.diversity(fresh(), LIKENESS)
    assert legend(ax) == ["kept tiles", "random tiles"] and outside(ax) == []
    assert [hex_of(patch.get_facecolor()) for patch in ax.get_legend().get_patches()] == [ORANGE, GREY]
    assert titles(ax) == ("mean pairwise cosine of a slide's selection", "slides")


PLACE = np.array([[0.1, 3.7], [5.2, 1.1], [2.3, 2.9], [4.4, 0.6], [1.5, 1.9], [3.6, 3.1], [0.7, 0.2]])


def test_kept_tiles_are_told_from_those_left_out():
    ax = tokens.token_map(fresh(), PLACE, np.array([4, 1, 6]), title="TCGA-3C-AALI\n0.31 to 0.77")
    found = clouds(ax)
    assert found["kept"] == [tuple(PLACE[i]) for i in (4, 1, 6)]
    assert found["left out"] == [tuple(PLACE[i]) for i in (0, 2, 3, 5)]
    assert cloud_hues(ax) == {"left out": PALE, "kept": ORANGE}
    assert titles(ax) == ("UMAP 1 (no unit)", "UMAP 2 (no unit)") and outside(ax) == []
    assert legend(ax) == ["left out", "kept"] and ax.get_title() == "TCGA-3C-AALI\n0.31 to 0.77"


def test_planted_tiles_are_ringed_whether_they_were_kept_or_not():
    ax = tokens.token_map(fresh(), PLACE, np.array([4, 1]), title="s", planted=np.array([1, 3]))
    assert clouds(ax)["planted"] == [tuple(PLACE[i]) for i in (1, 3)] and legend(ax)[-1] == "planted"
    ring = ax.collections[-1]
    assert len(ring.get_facecolor()) == 0 and hex_of(ring.get_edgecolor()) == BLUE


def test_maps_stand_side_by_side_under_their_titles():
    maps = [TokenMap(name, PLACE, np.array([2]), np.array([], int)) for name in ("a", "b")]
    drawn = closed(tokens.token_maps(maps, {"a": "a\n0.1", "b": "b\n0.2"}))
    assert [ax.get_title() for ax in drawn.axes] == ["a\n0.1", "b\n0.2"]
    assert [clouds(ax)["kept"] for ax in drawn.axes] == [[tuple(PLACE[2])]] * 2


def test_a_long_name_is_cut_and_its_numbers_are_not():
    ax = tokens.token_map(fresh(), PLACE, np.array([0]), title=f"{'x' * 40}\n{'0.123 ' * 7}")
    assert ax.get_title() == f"{'x' * 25}…\n{'0.123 ' * 7}"


def test_a_histogram_counts_every_norm_once():
    norms = np.r_[np.linspace(3.1, 9.7, 75), 21.3, 21.3, 40.0]
    ax = tokens.norm_histogram(fresh(), norms)
    width = (40.0 - 3.1) / 60
    for i, (middle, foot, height) in enumerate(upright(ax)):
        low, high = 3.1 + i * width, 3.1 + (i + 1) * width
        assert (middle, foot) == (pytest.approx((low + high) / 2), 0)
        assert height == sum(low <= n < high or (i == 59 and n == high) for n in norms.tolist())
    assert len(upright(ax)) == 60 and sum(height for *_, height in upright(ax)) == 78
    assert titles(ax) == ("Euclidean norm of a tile's feature (no unit)", "tiles") and outside(ax) == []


def test_the_spectrum_adds_up_in_per_cent_from_the_first_axis():
    ax = tokens.spectrum_curve(fresh(), np.array([0.41, 0.27, 0.13, 0.11, 0.08]))
    assert points(ax.lines[0]) == [(1, 41), (2, 68), (3, 81), (4, 92), (5, 100)]
    assert titles(ax) == ("principal axes of the features", "variance held (%)")
    assert ax.get_ylim() == (0, 102) and outside(ax) == []


PLACES = pd.DataFrame(
    {
        "x_px0": [0, 64, 128],
        "y_px0": [0, 64, 0],
        "pc1": [-3.0, 0.0, 5.0],
        "pc2": [1.0, 1.0, 1.0],
        "pc3": [9.0, 7.0, 8.0],
    }
)


def test_a_tile_lies_at_its_place_in_a_colour_of_its_axes():
    drawn = closed(tokens.feature_map(None, PLACES, slide_id="S1"))
    (ax,) = drawn.axes
    (boxes,) = ax.collections
    assert squares(boxes) == [(0, 0, 64, 64), (64, 64, 64, 64), (128, 0, 64, 64)]
    colour = boxes.get_facecolor()
    assert colour[:, 0].tolist() == pytest.approx([0, 0.38, 1], abs=0.02) and (colour[:, 1] == 0).all()
    assert colour[:, 2].argsort().tolist() == [1, 2, 0] and "3 tiles" in drawn.get_label()
    picture = Picture(np.zeros((30, 50, 3), np.uint8), 500.0, 100.0, 0.5)
    left, right = closed(tokens.feature_map(picture, PLACES, slide_id="S1")).axes
    assert left.images[0].get_extent() == [0, 500, 300, 0] and left.get_xlim() == right.get_xlim() == (0, 500)
    assert squares(right.collections[0])[1] == (64, 64, 100, 100)


def test_a_tile_asked_about_comes_first_in_its_row():
    table = pd.DataFrame(
        {"query": [4, 4, 9, 9], "rank": [0, 1, 0, 1], "slide_id": ["S1", "S1", "S1", "S2"], "index": [4, 2, 9, 0],
         "cosine": [1, 0.83, 1, 0.4]}
    )  # fmt: skip
    drawn = closed(tokens.nearest_tiles(table, {1: np.full((8, 8, 3), 5, np.uint8)}, slide_id="S1"))
    assert [ax.get_title() for ax in drawn.axes] == ["tile 4", "0.83", "tile 9", "0.40, other slide"]
    assert [len(ax.images) for ax in drawn.axes] == [0, 1, 0, 0]
