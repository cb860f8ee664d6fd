"""Figures of cases: what was planted, owned and kept, where it lies, and in which order."""

import numpy as np
import pandas as pd
from hues import cloud_hues
from read_back import closed, hex_of, legend, outside, pairs, squares

from slidesieve.analyses.cases import CaseView, Crop
from slidesieve.analyses.token_maps import Picture
from slidesieve.figures import cases
from slidesieve.figures.style import BLUE, ORANGE, PALE, RED, SKY

COORDS = np.array([[17, 5], [290, 40], [640, 210], [33, 470], [512, 333]])


def case(*, picture, coords=COORDS) -> CaseView:
    crops = [Crop(0, 1, 2.5, np.zeros((8, 8, 3), np.uint8)), Crop(1, 4, float("nan"), None)]
    return CaseView(picture, coords, np.array([0, 1]), crops)


def test_a_case_shows_planted_and_kept_tiles_a_scale_bar_and_the_crops_by_rank():
    picture = Picture(np.zeros((30, 50, 3), np.uint8), 1000.0, 64.5, 0.5)
    whole, first, second = closed(cases.case_sheet(case(picture=picture))).axes
    _, planted, kept = whole.collections
    assert squares(planted) == [(x, y, 64.5, 64.5) for x, y in COORDS[[0, 1]].tolist()]
    inset = 0.12 * 64.5  # a kept tile's frame lies within that of a planted one
    within = [(round(x + inset, 2), round(y + inset, 2), *[round(64.5 - 2 * inset, 2)] * 2) for x, y in COORDS[[1, 4]]]
    assert squares(kept) == within
    assert (hex_of(planted.get_edgecolor()), hex_of(kept.get_edgecolor())) == (BLUE, ORANGE)
    (bar,) = whole.lines
    assert min(bar.get_ydata()) > 600 and whole.get_ylim() == (600, 0)  # below the picture, hiding nothing
    assert np.ptp(bar.get_xdata()) == 100 / 0.5 and [text.get_text() for text in whole.texts] == ["1", "2", "100 µm"]
    assert (first.get_title(), second.get_title()) == ("1: 2.50, planted", "2")
    assert hex_of([first.spines["top"].get_edgecolor()]) == ORANGE and second.texts[0].get_text() == "token\n4"


def test_what_was_planted_for_another_question_is_paler_and_named():
    picture = Picture(np.zeros((30, 50, 3), np.uint8), 1000.0, 64.5, 0.5)
    view = case(picture=picture)._replace(planted=np.array([0]), aside=np.array([1, 2]))
    for one, named in ((view, "1: 2.50, another's"), (view._replace(picture=None), "1: 2.50, another's")):
        whole, first, _ = closed(cases.case_sheet(one)).axes
        said = ["planted", "for another question", "kept, with its rank"]
        assert first.get_title() == named and {*said} <= {*legend(whole)}
    whole = closed(cases.case_sheet(view)).axes[0]
    pale, planted, _ = whole.collections
    assert squares(pale) == [(x, y, 64.5, 64.5) for x, y in COORDS[[1, 2]].tolist()]
    assert hex_of(pale.get_edgecolor()) == SKY and hex_of(planted.get_edgecolor()) == BLUE
    assert pale.get_linewidths()[0] < planted.get_linewidths()[0]


def test_cases_below_each_other_have_their_titles_and_say_what_frames_mean():
    picture = Picture(np.zeros((30, 50, 3), np.uint8), 1000.0, 64.5, 0.5)
    drawn = closed(cases.case_sheets({"one": case(picture=picture), "two": case(picture=picture)}))
    assert [part.get_suptitle() for part in drawn.subfigs] == ["one", "two"]
    assert [legend(part.axes[0]) for part in drawn.subfigs] == [["planted", "kept, with its rank"]] * 2
    assert [len(part.axes) for part in drawn.subfigs] == [3, 3]


def test_a_case_without_a_slide_is_a_map_of_tokens_or_a_row():
    placed = closed(cases.case_sheet(case(picture=None))).axes[0]
    assert pairs(placed.collections[0].get_offsets()) == pairs(COORDS)
    assert pairs(placed.collections[2].get_offsets()) == pairs(COORDS[[1, 4]])
    row = closed(cases.case_sheet(case(picture=None, coords=np.zeros((5, 2), int)))).axes[0]
    assert pairs(row.collections[0].get_offsets()) == [(i, 0) for i in range(5)]


RUNS = [(0, 4, "main", "LIHC"), (4, 9, "other", "STAD"), (9, 12, "rare", "SKCM"), (12, 17, "other", "BLCA")]
PIECES = pd.DataFrame(
    [(i, role, kind) for start, stop, role, kind in RUNS for i in range(start, stop)], columns=["index", "role", "kind"]
).assign(slide_id="m")


def test_a_mosaics_tokens_have_their_owners_colour_and_kept_ones_their_rank():
    crops = [Crop(0, 10, 0.9, None), Crop(1, 3, 0.4, None)]
    line = np.stack([np.arange(17), np.zeros(17, int)], 1)
    drawn = closed(cases.case_sheet(CaseView(None, line, np.array([9, 10, 11]), crops, PIECES)))
    whole, first, second = drawn.axes
    place = lambda *tokens: [(i % 10, i // 10) for i in tokens]  # noqa: E731
    hues = cloud_hues(whole)
    assert legend(whole) == ["main: LIHC", "other: STAD", "rare: SKCM", "other: BLCA", "planted", "kept, with its rank"]
    assert hues["main: LIHC"] == PALE and hues["rare: SKCM"] == RED and len({*list(hues.values())[:4]}) == 4
    of = {c.get_label(): pairs(c.get_offsets()) for c in whole.collections}
    assert of["other: STAD"] == place(*range(4, 9)) and of["planted"] == place(9, 10, 11)
    assert of["kept, with its rank"] == place(10, 3)
    assert [(text.get_text(), tuple(text.xy)) for text in whole.texts] == [("1", (0, 1)), ("2", (3, 0))]
    assert (first.texts[0].get_text(), second.texts[0].get_text()) == ("rare\nSKCM\n10", "main\nLIHC\n3")
    assert hex_of([first.get_facecolor()]) == RED and outside(whole) == []
