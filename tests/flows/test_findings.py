"""The report's sentences: who is best, by how much, where it loses, and what is too little to tell."""

import pytest

from flows.report.findings import findings
from flows.report.losses import losses
from flows.report.words import KINDS, kind_of
from slidesieve.answers.names import METHODS, called, does
from slidesieve.compressors.registry import COMPRESSORS


def score(method, accuracy, group="all", *, k="8", n="500", seeds="5", half=0.03, coverage="1.0") -> dict[str, str]:
    return {
        "method": method, "k": k, "group": group, "accuracy": f"{accuracy}", "ci_low": f"{accuracy - half}",
        "ci_high": f"{accuracy + half}", "n_questions": n, "n_slides": "100", "n_seeds": seeds, "coverage": coverage,
    }  # fmt: skip


def beside(method, other, difference, verdict, group="all", *, k="8", half=0.04) -> dict[str, str]:
    return {
        "method": method, "k": k, "other": other, "other_k": "8", "group": group, "matched_by": "k", "verdict": verdict,
        "difference": f"{difference}", "ci_low": f"{difference - half}", "ci_high": f"{difference + half}",
    }  # fmt: skip


SCORES = [
    score("kmeans", 0.82), score("sparselearn", 0.5), score("all", 0.84, k="0"), score("text_only", 0.32, k="0"),
    score("mean", 0.56), score("mean", 0.71, "composition"), score("sparselearn", 0.39, "composition"),
    score("kmeans", 0.73, "composition"), score("kmeans_wrong_slide", 0.9),
]  # fmt: skip
RIVALS = [beside("sparselearn", "kmeans", -0.32, "below")]
FLOORS = [
    beside("kmeans", "mean", 0.26, "above"), beside("sparselearn", "mean", -0.06, "not told apart"),
    beside("sparselearn", "mean", -0.32, "below", "composition"), beside("all", "mean", -0.3, "below", k="0"),
    beside("kmeans", "mean", 0.02, "not told apart", "composition"),
]  # fmt: skip


def test_the_best_its_lead_its_floor_and_who_loses():
    assert findings(SCORES, RIVALS, FLOORS) == [
        "k-means (k = 8) scored highest of the methods that choose or compress: 82.0 % (79.0 to 85.0) of 500 questions "
        "about 100 slides are answered correctly; all tiles answer 84.0 %.",
        "SparseLearn (k = 8), the best that has learnt, answers 50.0 %, and is 32.0 points (28.0 to 36.0) below "
        "k-means, the one rival that was run: told apart.",
        "k-means (k = 8) is 26.0 points (22.0 to 30.0) above its best floor, mean of tiles: told apart.",
        "On composition alone k-means (k = 8) answers 73.0 %, 2.0 points (-2.0 to 6.0) above mean of tiles, the best "
        "floor (the two are not told apart).",
        "On all questions SparseLearn (k = 8) loses: 50.0 %, 6.0 points (2.0 to 10.0) below mean of tiles (56.0 %), "
        "which is a floor, though the two are not told apart.",
    ]


def test_the_best_is_called_so_where_it_is_told_apart_from_the_next():
    scores = [score("sparselearn", 0.7002), score("tcssa", 0.7001), score("random", 0.3)]
    floors = [beside("sparselearn", "random", 0.4, "above")]
    for verdict in ("above", "not told apart"):
        duel = beside("sparselearn", "tcssa", 0.0001, verdict)
        first = findings(scores, [], floors, [duel])[0]
        assert ("is the best of" in first) == (verdict == "above") != ("scored highest of" in first)
    turned = beside("tcssa", "sparselearn", -0.0001, "below")
    assert "is the best of" in findings(scores, [], floors, [turned])[0]


def test_what_is_too_few_to_tell_is_no_verdict_in_any_sentence():
    few = "too few to tell"
    rivals = [beside("kmeans", "fps", 0.3, few), beside("kmeans", "fps", 0.9, few, "composition")]
    floors = [beside("kmeans", "mean", 0.3, few), beside("kmeans", "mean", 0.9, few, "composition")]
    told = findings(SCORES, rivals, floors)
    assert not any("(told apart)" in said or said.endswith(": told apart.") for said in told)
    assert any(said.endswith("(too few to tell).") for said in told)
    (lost,) = losses(SCORES, [beside("kmeans", "mean", -0.9, few)])
    assert lost.said.endswith("which is a floor, though these are too few to tell.")


def test_the_rival_of_the_same_k_comes_first_whatever_the_order_and_a_floor_has_its_own_k():
    scores = [score("sparselearn", 0.6, k="32"), score("kmeans", 0.5, k="32"), score("kmeans", 0.7, k="8")]
    same = beside("sparselearn", "kmeans", 0.1, "above", k="32") | {"other_k": "32"}
    fewer = beside("sparselearn", "kmeans", -0.1, "below", k="32") | {"matched_by": "operations"}
    leads = {next(s for s in findings(scores, rows, []) if "rival" in s) for rows in ([same, fewer], [fewer, same])}
    assert len(leads) == 1 and "10.0 points (6.0 to 14.0) above k-means" in leads.pop()
    alone = next(said for said in findings(scores, [fewer], []) if "rival" in said)
    assert "below k-means (k = 8), the one rival that was run for no more operations" in alone
    scores += [score("random", 0.278), score("random", 0.68, k="32")]
    lost = losses(scores, [beside("sparselearn", "random", -0.08, "below", k="32") | {"other_k": "32"}])
    assert "below random (68.0 %)" in lost[0].said


def test_every_floor_above_a_method_that_loses_is_named():
    floors = [score("random", 0.75, "composition"), score("text_only", 0.8, "composition", k="0")]
    floors += [score("random", 0.99, "composition", k="16"), score("blank", 0.7, "composition")]
    lost = losses([*SCORES, *floors], [beside("kmeans", "mean", -0.2, "below", "composition")])
    others = "text only (80.0 %) and random (75.0 %) scored no lower, untested."
    assert lost[0].said.endswith(f"below mean of tiles (71.0 %), which is a floor; {others}")


def test_where_the_best_loses_is_said_and_its_panel_is_told():
    floors = [beside("kmeans", "mean", 0.2, "above"), beside("kmeans", "mean", -0.2, "below", "composition")]
    said = (
        "On composition k-means (k = 8) loses: 73.0 %, 20.0 points (16.0 to 24.0) below mean of tiles (71.0 %), which "
    )
    said += "is a floor."
    assert said in findings(SCORES, RIVALS, floors)
    assert [(loss.group, loss.method, loss.said) for loss in losses(SCORES, floors)] == [
        ("composition", "kmeans", said)
    ]


def test_a_method_that_is_not_above_its_floor_shows_nothing():
    floors = [beside("sparselearn", "random", 0.01, "not told apart in these runs")]
    told = findings([score("sparselearn", 0.33, seeds="1")], [], floors)
    assert told[1] == "No rival was run beside it, so whether learning to choose pays here is not known."
    assert told[2].endswith(
        "above its best floor, random: the two are not told apart in these runs. So nothing here shows that it has "
        "learnt what to keep."
    )
    assert told[-1] == "One seed was trained: another training may say otherwise, and verdicts on methods need 5."


def test_a_rule_that_is_not_above_its_floor_chooses_no_better_than_nothing():
    floors = [beside("kmeans", "mean", 0.03, "not told apart")]
    told = findings([score("kmeans", 0.63)], [], floors)
    assert told[2].endswith("not told apart. So nothing here shows that it chooses better than nothing would.")


def test_beside_a_floor_without_the_slide_nothing_shows_a_look_at_it():
    floors = [beside("fps", "fps_wrong_slide", 0.01, "not told apart")]
    assert findings([score("fps", 0.33)], [], floors)[2].endswith("So nothing here shows that it looks at the slide.")


def test_a_loss_on_the_same_questions_under_two_names_is_told_once():
    scores = [*SCORES, score("mean", 0.71, "tissue"), score("kmeans", 0.73, "tissue")]
    floors = [beside("kmeans", "mean", -0.2, "below", group) for group in ("composition", "tissue")]
    told = [said for said in findings(scores, RIVALS, floors) if "k-means (k = 8) loses" in said]
    assert len(told) == 1 and told[0].startswith("On composition")


def test_ten_questions_and_an_untrained_model_are_too_few_to_tell():
    scores = [score("sparselearn", 0.1, n="10", seeds="1", half=0.2), score("random", 0.9, n="10", seeds="1")]
    told = findings(scores, [], [beside("sparselearn", "random", -0.8, "not told apart in these runs", half=0.3)])
    assert any("80.0 points (50.0 to 110.0) below its best floor, random" in said for said in told)
    assert told[:2] == [
        "Too few to tell: of 10 questions about 100 slides, differences under 20 points could be chance.",
        "SparseLearn (k = 8) is the one method here: 10.0 % (-10.0 to 30.0) of 10 questions about 100 slides are "
        "answered correctly.",
    ]


def test_of_ten_questions_no_verdict_is_told_whatever_the_tables_say():
    scores = [
        score(name, value, n="10", half=0.2) for name, value in (("sparselearn", 0.9), ("fps", 0.2), ("mean", 0.1))
    ]
    rivals, floors = ([beside("sparselearn", other, 0.7, "above")] for other in ("fps", "mean"))
    told = findings(scores, rivals, floors)
    assert told[0].startswith("Too few to tell: of 10 questions") and "has the most right of the methods" in told[1]
    assert not [said for said in told if ": told apart" in said or "is the best" in said]


def test_wide_intervals_are_a_doubt_where_a_lead_is_told_apart_and_the_first_word_where_it_is_not():
    scores = [score("fps", 0.9, n="60", half=0.12), score("mean", 0.3, n="60")]
    doubt = "of 60 questions about 100 slides, differences under 12 points could be chance."
    told = findings(scores, [], [beside("fps", "mean", 0.6, "above")])
    assert told[-1] == f"Small differences cannot be told here: {doubt}" and told[0].startswith("farthest points")
    assert findings(scores, [], [beside("fps", "mean", 0.6, "not told apart")])[0] == f"Too few to tell: {doubt}"


def test_questions_without_features_are_said_to_count_as_wrong():
    told = findings([score("fps", 0.4, coverage="0.75")], [], [])
    assert told[-1] == "25.0 % of the questions are about slides without features, and count as wrong."
    assert "Nothing here has learnt what to keep." in told and any("No trained floor" in said for said in told)


def test_a_floor_that_no_verdict_names_is_told_where_it_stands_above_the_best():
    scores = [score("fps", 0.21, coverage="0.7"), score("majority", 0.46, k="0"), score("longest_option", 0.4, k="0")]
    above = "majority letter, a floor, stands above farthest points (k = 8) at 46.0 %, with answers to 100.0 % of the "
    above += "questions for 70.0 %, and was not compared question by question."
    told = findings(scores, [], [beside("fps", "random", 0.05, "above")])
    assert above in told and any("above its best floor that has as many answers, random" in said for said in told)
    paired = [beside("fps", name, -0.2, "below") for name in ("majority", "longest_option")]
    assert not [said for said in findings(scores, [], paired) if "was not compared" in said]
    assert not [said for said in findings([score("fps", 0.5), *scores[1:]], [], []) if "was not compared" in said]


def test_without_a_method_there_is_nothing_to_say():
    assert findings([score("all", 0.9, k="0"), score("mean", 0.4)], [], []) == []


def test_every_method_has_a_name_words_and_a_kind():
    assert set(COMPRESSORS) <= set(METHODS)
    assert {kind_of(name) for name in (*METHODS, "kmeans_soft")} == set(KINDS)
    assert called("sparselearn:gate=scale:alignment=off") == "SparseLearn gate=scale alignment=off"
    assert called("tcssa_wrong_slide") == "TC-SSA, another slide" and does("tcssa_wrong_slide").endswith("slide")
    assert called("all:coarse=4") == "all tiles coarse=4" and kind_of("all:coarse=4") == "everything"


@pytest.mark.parametrize("method", ["majority", "longest_option", "text_only", "linspace", "blank"])
def test_floors_are_floors(method):
    assert kind_of(method) == "floor"
