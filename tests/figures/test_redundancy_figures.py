"""Figures of redundancy: the median over five slides, and the second and fourth of them, in per cent where said so."""

import warnings

import pandas as pd
import pytest
from hues import cloud_hues
from matplotlib.colors import to_hex
from read_back import (
    bands,
    clouds,
    curve,
    fresh,
    hex_of,
    legend,
    names,
    outside,
    points,
    rules,
    segments,
    ticks,
    titles,
    upright,
    written,
)

from slidesieve.figures import redundancy
from slidesieve.figures.style import BLUE, GREY, ORANGE

FIVE = [0.07, 0.31, -0.05, 0.11, 0.02]  # the second, third and fourth of them: 0.02, 0.07, 0.11


def five(**columns) -> pd.DataFrame:
    """A row a slide, each named value with FIVE added; others as they are."""
    rows = [
        {name: value + more if isinstance(value, float) else value for name, value in columns.items()} for more in FIVE
    ]
    return pd.DataFrame(rows).assign(slide_id=list("abcde"))


def several(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables).iloc[::-1].set_axis(range(7, 7 + sum(map(len, tables))))


SPECTRA = several(
    five(rank=1, explained=0.3, explained_permuted=0.1),
    five(rank=4, explained=0.5, explained_permuted=0.2),
    five(rank=32, explained=0.6, explained_permuted=0.4),
)


def test_a_spectrum_is_the_median_slides_and_the_middle_half():
    ax = redundancy.spectrum(fresh(), SPECTRA)
    assert points(curve(ax, "features")) == [(1, 37), (4, 57), (32, 67)]
    assert points(curve(ax, "columns permuted")) == [(1, 17), (4, 27), (32, 47)]
    assert bands(ax) == [[(1, 32, 41), (4, 52, 61), (32, 62, 71)], [(1, 12, 21), (4, 22, 31), (32, 42, 51)]]
    assert [hex_of(band.get_facecolor()) for band in ax.collections] == [BLUE, GREY]
    assert titles(ax) == ("principal axes of the slide", "variance held (%)") and outside(ax) == []
    assert legend(ax) == ["features", "columns permuted"] and ax.get_xscale() == "log" and ax.get_ylim() == (0, 102)
    assert {1: "1", 10: "10"}.items() <= dict(ticks(ax.xaxis)).items()


RANKS = pd.DataFrame(
    {"bound": [74, 33, 51], "entropy_rank": [21.7, 9.1, 13.3], "entropy_rank_permuted": [68.9, 31.2, 47.1]},
    index=[4, 9, 1],
)


@pytest.mark.parametrize("index", ["entropy_rank", "participation_ratio"])
def test_a_slides_axes_in_use_stand_over_what_its_tiles_allow(index):
    named = {f"entropy_rank{end}": f"{index}{end}" for end in ("", "_permuted")}
    ax = redundancy.axes_in_use(fresh(), RANKS.rename(columns=named), index)
    assert clouds(ax) == {
        "features": [(74, 21.7), (33, 9.1), (51, 13.3)],
        "columns permuted": [(74, 68.9), (33, 31.2), (51, 47.1)],
    }
    assert cloud_hues(ax) == {"features": BLUE, "columns permuted": GREY}
    assert points(curve(ax, "all axes alike")) == [(0, 0), (77.7, 77.7)] and outside(ax) == []
    assert titles(ax) == ("most the slide allows: min(tiles - 1, width)", f"{index.replace('_', ' ')} (axes)")


NEAR = several(
    five(distance=1, cosine=0.6, random=0.4, centred=0.3, random_centred=-0.2),
    five(distance=2, cosine=0.5, random=0.41, centred=0.2, random_centred=-0.1),
    five(distance=8, cosine=0.45, random=0.42, centred=0.1, random_centred=0.0),
)


@pytest.mark.parametrize(
    ("centred", "near", "chance", "title"),
    [
        (False, [(1, 0.67), (2, 0.57), (8, 0.52)], [(1, 0.47), (2, 0.48), (8, 0.49)], "features as they are"),
        (True, [(1, 0.37), (2, 0.27), (8, 0.17)], [(1, -0.13), (2, -0.03), (8, 0.07)], "centred on the cohort's mean"),
    ],
)
def test_cosines_stand_at_their_distance_beside_random_pairs(centred, near, chance, title):
    ax = redundancy.cosines(fresh(), NEAR, centred=centred)
    assert points(curve(ax, "tiles in a row or column")) == near and ax.get_title() == title
    assert points(curve(ax, "random pairs of the slide")) == chance
    for drawn, middle in zip(bands(ax), (near, chance), strict=True):
        assert drawn == [(x, round(y - 0.05, 9), round(y + 0.04, 9)) for x, y in middle]
    assert ticks(ax.xaxis) == [(1, "1"), (2, "2"), (8, "8")]
    assert titles(ax) == ("distance (grid steps)", "mean cosine (no unit)") and outside(ax) == []
    assert ax.get_ylim()[0] <= 0 and ax.get_ylim()[1] == 1.02


REBUILT = several(
    five(method="k_means", side=0, m=4, r2=0.3, n_tiles=75),
    five(method="random_tiles", side=0, m=4, r2=-0.1, n_tiles=75),
    five(method="k_means_permuted", side=0, m=4, r2=0.1, n_tiles=75),
    five(method="k_means", side=0, m=16, r2=0.6, n_tiles=75).iloc[:3],
    five(method="random_tiles", side=0, m=16, r2=0.2, n_tiles=75).iloc[:3],
    five(method="k_means_permuted", side=0, m=16, r2=0.25, n_tiles=75).iloc[:3],
    five(method="k_means", side=2, m=21, r2=0.5, n_tiles=75),
    five(method="window_mean", side=2, m=21, r2=0.4, n_tiles=75),
    five(method="random_groups", side=2, m=21, r2=0.2, n_tiles=75),
    five(method="k_means", side=4, m=6, r2=0.33, n_tiles=75),
    five(method="window_mean", side=4, m=6, r2=0.23, n_tiles=75),
    five(method="random_groups", side=4, m=6, r2=0.05, n_tiles=75),
)


def test_centroids_explain_what_the_table_says_and_windows_are_left_out():
    ax = redundancy.centroid_curves(fresh(), REBUILT)
    assert points(curve(ax, "k-means")) == [(4, 37), (16, 67)]
    assert points(curve(ax, "nearest of M random tiles")) == [(4, -3), (16, 27)]
    assert points(curve(ax, "k-means, columns permuted")) == [(4, 17), (16, 32)]
    assert bands(ax) == [  # of the three slides at 16: -0.05, 0.07, 0.31
        [(4, 32, 41), (16, 61, 79)], [(4, -8, 1), (16, 21, 39)], [(4, 12, 21), (16, 26, 44)],
    ]  # fmt: skip
    assert titles(ax) == ("vectors M (slides with more tiles than that)", "variance of the slide explained (%)")
    assert ax.get_ylim() == (-25, 102) and outside(ax) == [] and rules(ax, "y") == [("", 0)]
    assert ticks(ax.xaxis) == [(4, "4\n(5)"), (16, "16\n(3)")]
    assert legend(ax) == ["k-means", "nearest of M random tiles", "k-means, columns permuted"]


def test_windows_stand_beside_as_many_centroids_and_random_groups():
    ax = redundancy.window_bars(fresh(), REBUILT)
    assert upright(ax, "k-means") == [(-0.25, 0, 57), (0.75, 0, 40)]
    assert upright(ax, "mean of the window") == [(0, 0, 47), (1, 0, 30)]
    assert upright(ax, "as many random groups") == [(0.25, 0, 27), (1.25, 0, 12)]
    middles = [(x, height) for x, _, height in upright(ax)]
    assert segments(ax) == [((x, y - 5), (x, y + 4)) for x, y in middles]
    assert names(ax.xaxis) == ["2 x 2\n(28 % of tiles)", "4 x 4\n(8 % of tiles)"]
    assert titles(ax) == ("window of tiles", "variance of the slide explained (%)")
    assert ax.get_ylim() == (0, 102) and outside(ax) == []
    assert legend(ax) == ["k-means", "mean of the window", "as many random groups"]


def shares() -> pd.DataFrame:
    long = [0.32, 0.03, 0.13, 0.17, 0.21]  # its quartiles: 0.13, 0.17, 0.21; 0.32 is within 1.5 boxes
    here = pd.DataFrame({"source": "attention", "share_50": long, "share_80": [x + 0.4 for x in long]})
    other = pd.DataFrame({"source": "a text prompt", "share_50": [0.41, 0.44, 0.36], "share_80": [0.71, 0.74, 0.68]})
    return pd.concat([here, other]).set_axis(range(3, 11))


def test_the_box_of_a_source_holds_the_middle_half_of_its_slides():
    ax = redundancy.relevance_shares(fresh(), shares(), sources=["a text prompt", "attention"])
    found = {colour: [b for b in ax.patches if hex_of(b.get_facecolor()) == colour] for colour in (BLUE, ORANGE)}
    ends = {
        colour: [b.get_path().get_extents().get_points().round(9).tolist() for b in found[colour]] for colour in found
    }
    assert ends[BLUE] == [[[38.5, -0.3], [42.5, 0]], [[13, 0.7], [21, 1]]]
    assert ends[ORANGE] == [[[69.5, 0], [72.5, 0.3]], [[53, 1], [61, 1.3]]]
    pairs = [(start, end) for start, end in (points(line) for line in ax.lines if len(line.get_xdata()) == 2)]
    middles = [start[0] for start, end in pairs if round(end[1] - start[1], 9) == 0.3]
    whiskers = [end[0] for start, end in pairs if end[1] == start[1]]
    assert middles == [41, 17, 71, 57] and whiskers == [36, 44, 3, 32, 68, 74, 43, 72]
    assert names(ax.yaxis) == ["a text prompt", "attention"] and ax.get_ylim() == (1.5, -0.5)
    assert titles(ax) == ("tiles that hold it (% of the slide; dashed: all tiles alike)", "") and outside(ax) == []


def test_boxes_are_drawn_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        redundancy.relevance_shares(fresh(), shares(), sources=["a text prompt", "attention"])


def test_equal_tiles_are_a_dashed_line_in_the_colour_of_their_share():
    ax = redundancy.relevance_shares(fresh(), shares(), sources=["a text prompt", "attention"])
    assert rules(ax, "x") == [("", 50), ("", 80)] and ax.get_xlim() == (0, 100)
    dashed = [to_hex(line.get_color()).upper() for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [BLUE, ORANGE] and legend(ax) == ["50 % of the relevance", "80 % of the relevance"]


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda ax: redundancy.cosines(ax, NEAR.iloc[:0], centred=True), "no coordinates in these features"),
        (lambda ax: redundancy.window_bars(ax, REBUILT[REBUILT["side"] == 0]), "no coordinates in these features"),
        (
            lambda ax: redundancy.relevance_shares(ax, shares().iloc[:0], sources=[]),
            "neither labels nor a text encoder were given",
        ),
    ],
)
def test_an_empty_panel_says_why(draw, text):
    ax = draw(fresh())
    assert [said for said, *_ in written(ax)] == [f"not shown:\n{text}"]
    assert [*ax.lines, *ax.patches, *ax.collections, *ticks(ax.xaxis), *ticks(ax.yaxis)] == []
