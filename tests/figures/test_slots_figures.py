"""Figures of slots: loads by rank, numbers of each run of a sweep, and every tile in its own slot's colour."""

import numpy as np
import pandas as pd
import pytest
from read_back import (
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
    squares,
    titles,
    upright,
)

from slidesieve.figures import slots
from slidesieve.figures.style import BLUE, CYCLE, PALE, RED

LOADS = {
    "a": [0.11, 0.63, 0.26],
    "b": [0.5, 0.17, 0.33],
    "c": [0.21, 0.07, 0.72],
    "d": [0.38, 0.41, 0.21],
    "e": [0.03, 0.88, 0.09],
}
USAGE = pd.DataFrame(
    [(slide, slot, load) for slot in (2, 0, 1) for slide, loads in LOADS.items() for load in [loads[slot]]],
    columns=["slide_id", "slot", "load"],
    index=range(3, 33, 2),
)


def test_loads_are_ranked_within_each_slide_before_the_median():
    """Fullest of the five slides: 63, 50, 72, 41, 88 %; second: 26, 33, 21, 38, 9; last: 11, 17, 7, 21, 3."""
    ax = slots.load_by_rank(fresh(), USAGE)
    assert upright(ax) == [(1, 0, 63), (2, 0, 26), (3, 0, 11)]
    assert segments(ax) == [((1, 50), (1, 72)), ((2, 21), (2, 33)), ((3, 7), (3, 17))]
    assert titles(ax) == ("slot, fullest first", "share of routings (%)") and outside(ax) == []


def test_all_alike_is_a_level_line():
    ax = slots.load_by_rank(fresh(), USAGE)
    assert rules(ax, "y") == [("all alike", round(100 / 3, 9))]
    assert sorted(legend(ax)) == ["all alike", "median slide", "middle half of slides"]


RUNS = pd.DataFrame(
    [
        (0.3, 0, 16, 7.1, 0.42),
        (0.01, 0, 8, 5.3, 0.31),
        (0.3, 1, 16, 9.7, 0.22),
        (0.01, 1, 8, 6.9, 0.27),
        (1.0, 0, 32, 2.4, 0.71),
        (0.3, 2, 16, 8.2, 0.39),
    ],
    columns=["balance", "seed", "k", "effective_slots", "largest_first"],
    index=[5, 1, 9, 2, 7, 4],
)


def swept(column: str):
    return slots.sweep(fresh(), RUNS, option="balance", xlabel="weight of balance", column=column, ylabel="its name")


def test_every_run_of_a_sweep_is_a_dot_and_the_median_a_line():
    ax = swept("effective_slots")
    assert points(curve(ax, "one seed")) == [(1, 7.1), (0, 5.3), (1, 9.7), (0, 6.9), (2, 2.4), (1, 8.2)]
    assert points(curve(ax, "median")) == [(0, 6.1), (1, 8.2), (2, 2.4)]
    assert names(ax.xaxis) == ["0.01", "0.3", "1"] and titles(ax) == ("weight of balance", "its name")
    assert outside(ax) == [] and ax.get_ylim()[0] == 0


def test_effective_slots_are_at_most_as_many_as_there_are():
    ax = swept("effective_slots")
    assert points(curve(ax, "all slots alike")) == [(0, 8), (1, 16), (2, 32)] and rules(ax, "y") == []
    assert legend(ax) == ["one seed", "median", "all slots alike"]


def test_the_largest_share_is_in_per_cent_beside_the_papers_collapse():
    ax = swept("largest_first")
    assert points(curve(ax, "one seed")) == [(1, 42), (0, 31), (1, 22), (0, 27), (2, 71), (1, 39)]
    assert points(curve(ax, "median")) == [(0, 29), (1, 39), (2, 71)]
    assert rules(ax, "y") == [("collapse in the paper", 60)] and outside(ax) == []
    assert curve(ax, "collapse in the paper").get_color() == RED != BLUE == curve(ax, "median").get_color()


@pytest.mark.parametrize(("slot", "colour"), [(0, CYCLE[0]), (5, CYCLE[5]), (6, PALE), (31, PALE)])
def test_the_fullest_slots_have_colours_and_others_one(slot, colour):
    assert slots.colours(np.array([1, slot, 3])) == [CYCLE[1], colour, CYCLE[3]]


COORDS = np.array([[64, 320], [192, 64], [64, 64], [448, 192], [320, 512]])
SLOT = np.array([2, 0, 7, 1, 0])


def test_a_tile_lies_in_its_place_in_its_slots_colour():
    ax = slots.slot_map(fresh(), COORDS, SLOT, tile_px0=57.5)
    (tiles,) = ax.collections
    assert squares(tiles) == [(x, y, 57.5, 57.5) for x, y in COORDS.tolist()]
    assert [hex_of(colour) for colour in tiles.get_facecolor()] == [CYCLE[2], CYCLE[0], PALE, CYCLE[1], CYCLE[0]]
    assert ax.get_xlim() == (64, 505.5) and ax.get_ylim() == (569.5, 64) and ax.get_aspect() == 1
    assert titles(ax) == ("x (level-0 px)", "y (level-0 px)") and outside(ax) == []


PLACE = np.array([[0.1, 3.7], [5.2, 1.1], [2.3, 2.9], [4.4, 0.6], [1.5, 1.9], [3.6, 3.1], [0.7, 0.2], [2.9, 0.8]])
CLOUD = np.array([0, 3, 1, 0, 9, 0, 5, 6])


def test_an_embedded_tile_has_its_slots_colour_and_the_legend_its_share():
    ax = slots.slot_cloud(fresh(), PLACE, CLOUD)
    shares = {0: "38%", 1: "12%", 3: "12%", 5: "12%"}
    for number, share in shares.items():
        expected = [tuple(place) for place, slot in zip(PLACE.tolist(), CLOUD.tolist(), strict=True) if slot == number]
        assert clouds(ax)[f"slot {number + 1} ({share})"] == expected
    assert clouds(ax)["others (25%)"] == [(1.5, 1.9), (2.9, 0.8)]
    assert [hex_of(c.get_facecolor()) for c in ax.collections if len(c.get_offsets())] == [
        CYCLE[0], CYCLE[1], CYCLE[3], CYCLE[5], PALE,
    ]  # fmt: skip
    assert titles(ax) == ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)") and outside(ax) == []


@pytest.mark.parametrize(
    ("slot", "named"),
    [
        ([0, 1, 0, 2, 1, 0, 0, 2], ["slot 1 (50%)", "slot 2 (25%)", "slot 3 (25%)"]),
        ([0, 4, 0, 4, 0, 4, 0, 0], ["slot 1 (62%)", "slot 5 (38%)"]),
        ([0, 7, 0, 9, 0, 7, 0, 0], ["slot 1 (62%)", "others (38%)"]),
    ],
)
def test_a_slot_without_tiles_is_not_in_the_legend(slot, named):
    ax = slots.slot_cloud(fresh(), PLACE, np.array(slot))
    assert legend(ax) == named == list(clouds(ax)) and sum(map(len, clouds(ax).values())) == len(PLACE)


def test_there_are_no_others_where_every_slot_has_a_colour():
    ax = slots.slot_cloud(fresh(), PLACE, CLOUD % 6)
    assert not any("others" in text for text in legend(ax)) and sum(map(len, clouds(ax).values())) == len(PLACE)
