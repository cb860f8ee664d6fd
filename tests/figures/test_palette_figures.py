"""One colour and one mark a method, told apart by colour-blind eyes and on grey paper."""

from itertools import combinations

import pytest
from sight import EYES, apart, ciede2000, on_white

from slidesieve.answers.palette import DARK, METHODS, OTHER, STROKES, ink_of
from slidesieve.compressors.registry import COMPRESSORS, FLOORS
from slidesieve.evaluation.floors import WITHOUT_A_MODEL
from slidesieve.figures import cost
from slidesieve.figures.style import method_looks

NO_FLOOR = [name for name in METHODS if name not in FLOORS and name not in WITHOUT_A_MODEL]
PAPERS = ("sparselearn", "tcssa", "locpath", "all")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # of the paper's table 1
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
        ((50.0, 2.49, -0.0010), (50.0, -2.49, 0.0011), 7.2195),
    ],
)
def test_the_distance_is_that_of_the_published_pairs(one, other, expected):
    assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("eyes", EYES)
def test_methods_that_stand_beside_each_other_are_told_apart(eyes):
    found = {(a, b): apart(METHODS[a].colour, METHODS[b].colour, eyes) for a, b in combinations(NO_FLOOR, 2)}
    assert min(found.values()) > 11
    assert min(found[pair] for pair in combinations(PAPERS, 2)) > 15


def test_every_method_and_floor_has_a_row_and_a_mark_of_its_own():
    assert set(METHODS) == {*COMPRESSORS, *WITHOUT_A_MODEL}
    marks = [ink.mark for ink in METHODS.values()]
    assert len(set(marks)) == len(marks)
    assert {name for name in METHODS if METHODS[name].mark.style == STROKES} == {*FLOORS, *WITHOUT_A_MODEL}


def test_colours_stand_out_from_white_paper():
    assert {name: on_white(ink.colour) for name, ink in METHODS.items() if on_white(ink.colour) < 3} == {}
    assert on_white("#FFFFFF") == pytest.approx(1) and on_white("#000000") == pytest.approx(21)


def test_variants_and_controls_have_their_methods_ink_and_others_are_dark():
    for name in ("tcssa:k=16", "tcssa_soft", "tcssa_wrong_slide", "tcssa:gate=scale_wrong_slide"):
        assert ink_of(name) == METHODS["tcssa"]
    assert ink_of("text_only") == METHODS["text_only"] and ink_of("attention_topk_soft") == METHODS["attention_topk"]
    assert ink_of("abmil") == OTHER and OTHER.colour == DARK


def test_a_method_looks_the_same_in_every_figure():
    alone, among = method_looks(["tcssa"]), method_looks(["locpath", "tcssa:k=9", "tcssa"])
    assert alone["tcssa"] == among["tcssa"] != among["tcssa:k=9"] and among["tcssa:k=9"].colour == alone["tcssa"].colour
    assert {cost.STYLES[name][1] for name in ("sparselearn", "sparselearn_longnet")} == {METHODS["sparselearn"].colour}
    assert cost.STYLES["tcssa"][1:] == METHODS["tcssa"][:2]
