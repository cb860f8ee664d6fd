"""Figures of cost: operations, times, memory, parameters and savings as the tables have them, in the units named."""

import numpy as np
import pandas as pd
import pytest
from read_back import curve, fresh, legend, lying, named, outside, points, rules, ticks, titles, written

from slidesieve.cost.methods import COMPARED
from slidesieve.figures import cost

ALL, SPARSE, TCSSA = "all tiles", "SparseLearn", "TC-SSA"
OPERATIONS = pd.DataFrame(
    [
        ("sparselearn", 1000, "compressor", 0.11e12, 0.4e12),
        ("all", 1000, "compressor", 0.7e12, 0.02e12),
        ("all", 1000, "language model", 13.1e12, 1.3e12),
        ("all", 7300, "compressor", 1.9e12, 0.06e12),
        ("sparselearn", 1000, "language model", 2.2e12, 0.05e12),
        ("all", 7300, "language model", 91.7e12, 44.1e12),
        ("sparselearn", 7300, "compressor", 0.83e12, 6.1e12),
        ("sparselearn", 7300, "language model", 2.2e12, 0.05e12),
    ],
    columns=["method", "tiles", "part", "linear", "attention"],
    index=range(9, 33, 3),
)


def test_operations_are_the_sum_of_parts_in_teraflops():
    ax = cost.operations(fresh(), OPERATIONS, title="first token")
    assert points(curve(ax, ALL)) == [(1000, 15.12), (7300, 137.76)]
    assert points(curve(ax, SPARSE)) == [(1000, 2.76), (7300, 9.18)]
    assert titles(ax) == ("tiles on the slide", "operations (10¹² FLOPs)") and ax.get_title() == "first token"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log") and outside(ax) == []


def test_the_dashed_line_leaves_attention_out_in_its_methods_colour():
    ax = cost.operations(fresh(), OPERATIONS, title="")
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [points(line) for line in dashed] == [[(1000, 2.31), (7300, 3.03)], [(1000, 13.8), (7300, 93.6)]]
    assert [line.get_color() for line in dashed] == [curve(ax, label).get_color() for label in (SPARSE, ALL)]
    assert named(ax) == [SPARSE, ALL]


def test_the_two_kinds_of_lines_are_named_and_nothing_is_added():
    ax = cost.operations(fresh(), OPERATIONS, title="")
    cost.solid_and_dashed(ax)
    assert named(ax) == [SPARSE, ALL, "with attention", "without attention"]
    assert [(line.get_linestyle(), points(line)) for line in ax.lines[-2:]] == [("-", []), ("--", [])]


MEASURED = pd.DataFrame(
    [
        ("sparselearn", 3000, 0, "ok", 41.3, 1536.0),
        ("all", 3000, 3000, "ok", 377.9, 7168.0),
        ("all", 75000, 75000, "out of memory", np.nan, np.nan),
        ("sparselearn", 75000, 0, "ok", 733.1, 2304.0),
        ("all", 9000, 9000, "ok", 1213.7, 21504.0),
        ("tcssa", 9000, 0, "failed", 5.5, 55.0),
        ("sparselearn", 9000, 0, "ok", 91.7, 1792.0),
    ],
    columns=["method", "n", "tokens", "status", "ms", "peak_mib"],
    index=[5, 1, 9, 2, 7, 4, 8],
)


def test_a_time_is_drawn_as_it_was_measured_and_only_if_it_was():
    ax = cost.times(fresh(), MEASURED, column="ms", ylabel="training step (ms)")
    assert points(curve(ax, SPARSE)) == [(3000, 41.3), (75000, 733.1), (9000, 91.7)]
    assert points(curve(ax, ALL)) == [(3000, 377.9), (9000, 1213.7)] and named(ax) == [SPARSE, ALL]
    assert titles(ax) == ("tiles on the slide", "training step (ms)") and outside(ax) == []
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert {50: "50", 200: "200", 1000: "1,000"}.items() <= dict(ticks(ax.yaxis)).items()


def test_memory_is_in_gibibytes_from_zero():
    ax = cost.memory(fresh(), MEASURED, column="peak_mib", ylabel="peak memory (GiB)")
    assert points(curve(ax, SPARSE)) == [(3000, 1.5), (75000, 2.25), (9000, 1.75)]
    assert points(curve(ax, ALL)) == [(3000, 7), (9000, 21)]
    assert titles(ax) == ("tiles on the slide", "peak memory (GiB)") and outside(ax) == []
    assert ax.get_ylim()[0] == 0 and (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


@pytest.mark.parametrize(
    ("tiles", "texts"),
    [([3000, 9000, 75000], ["3,000", "9,000", "75,000"]), ([100, 150, 160, 250, 257], ["100", "160", "257"])],
)
def test_the_axis_names_the_values_that_are_there_and_have_room(tiles, texts):
    table = pd.DataFrame({"method": "all", "n": tiles, "status": "ok", "ms": 7.0})
    ax = cost.times(fresh(), table, column="ms", ylabel="ms")
    assert ticks(ax.xaxis) == [(int(text.replace(",", "")), text) for text in texts]


TOKENS = pd.DataFrame(
    [
        ("locpath", 128, "ok", 61.3),
        ("linspace", 32, "ok", 31.1),
        ("locpath_prefix", 128, "ok", 77.7),
        ("linspace", 2048, "out of memory", np.nan),
        ("locpath", 512, "ok", 66.9),
        ("linspace", 512, "ok", 143.2),
    ],
    columns=["method", "tokens", "status", "ms"],
    index=[3, 8, 1, 4, 9, 2],
)


def test_ways_of_reading_are_drawn_against_their_tokens():
    ax = cost.against_tokens(fresh(), TOKENS, column="ms", ylabel="prefill (ms)")
    assert points(curve(ax, "latents by adapters")) == [(128, 61.3), (512, 66.9)]
    assert points(curve(ax, "tiles as prefix")) == [(32, 31.1), (512, 143.2)]
    assert points(curve(ax, "latents as prefix")) == [(128, 77.7)]
    assert named(ax) == ["latents by adapters", "tiles as prefix", "latents as prefix"]
    assert titles(ax) == ("visual tokens", "prefill (ms)") and ax.get_ylim()[0] == 0 and outside(ax) == []
    assert ticks(ax.xaxis) == [(32, "32"), (128, "128"), (512, "512")] and ax.get_xscale() == "log"


PARTS = pd.DataFrame(
    {"slide encoder": [np.nan, 86.3e6, np.nan], "compressor": [0, 2.7e6, 11.1e6], "projector": [4.4e6, 4.4e6, np.nan]},
    index=["all", "sparselearn_longnet", "tcssa"],
)


def test_parts_are_stacked_in_millions_and_their_sum_is_written():
    ax = cost.parameters(fresh(), PARTS)
    encoder, compressor, projector = (lying(ax, part) for part in PARTS)
    assert encoder[1] == (1, 0, 86.3) and [np.isnan(encoder[i][2]) for i in (0, 2)] == [True, True]
    assert compressor == [(0, 0, 0), (1, 86.3, 2.7), (2, 0, 11.1)]
    assert projector[:2] == [(0, 0, 4.4), (1, 89, 4.4)] and np.isnan(projector[2][2])
    rows = [ALL, "LongNet + SparseLearn", TCSSA]
    assert [text for _, text in ticks(ax.yaxis)] == rows and ax.yaxis_inverted()
    assert [(text.get_text(), *text.get_position()) for text in ax.texts] == [
        (f" {total}", total, row) for total, row in zip((4.4, 93.4, 11.1), rows, strict=True)
    ]
    assert named(ax) == list(PARTS) and titles(ax) == ("parameters (millions)", "") and outside(ax) == []
    assert ax.get_xlim() == pytest.approx((0, 1.12 * 93.4))  # room for the written sum, and no more


SAVED = pd.DataFrame(
    {
        "tiles": [500, 2000, 9000],
        "answer_linear": [0.13, 0.52, 0.87],
        "step_bytes": [0.07, 0.31, 0.66],
        "step_linear": [0.11, 0.44, 0.77],
    },
    index=[4, 9, 2],
)


def test_what_is_saved_is_in_per_cent_beside_the_claim():
    ax = cost.savings(fresh(), SAVED, ["step_linear", "answer_linear"], claim=0.62, title="operations")
    assert points(curve(ax, "answer linear")) == [(500, 13), (2000, 52), (9000, 87)]
    assert points(curve(ax, "step linear")) == [(500, 11), (2000, 44), (9000, 77)]
    assert rules(ax, "y") == [("claimed: 62%", 62)] and written(ax) == []
    assert legend(ax) == ["step linear", "answer linear", "claimed: 62%"] and ax.get_title() == "operations"
    assert titles(ax) == ("tiles on the slide", "saved (%)") and ax.get_ylim() == (0, 102) and outside(ax) == []


def test_no_two_compared_methods_look_alike():
    looks = {cost.STYLES[method] for method in COMPARED}
    assert len({label for label, *_ in looks}) == len({look[1:] for look in looks}) == len(COMPARED)
