"""One run looked at closely, on answers that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.datasets.questions import Question
from slidesieve.evaluation import one_run

NAN = float("nan")
LOGP = {
    "q0": (np.log(0.7), np.log(0.2), np.log(0.1), NAN),
    "q1": (np.log(0.1), np.log(0.3), NAN, NAN),  # a quarter and three
    "q2": (np.log(0.02), np.log(0.02), np.log(0.02), np.log(0.34)),
    "q3": (-900.0, -899.0, NAN, NAN),
}
KEY = dict(zip(LOGP, "ABAB", strict=True))
QUESTIONS = [
    Question(
        i, f"S{n}", f"kind{n % 2}", "Evidence", f"what is {i}?", ("u", "v", "w", "x")[: 4 - sum(map(np.isnan, p))], 0
    )
    for n, (i, p) in enumerate(LOGP.items())
]
QUESTIONS = [q._replace(answer="ABCD".index(KEY[q.id])) for q in QUESTIONS]


def answers(method: str = "m", right: str | None = None, k: float = 7) -> pd.DataFrame:
    """Answers as stage 60 writes them: the likeliest, or all right ("y") or wrong ("n") in turn."""
    rows = []
    for n, (i, p) in enumerate(LOGP.items()):
        predicted = "ABCD"[int(np.nanargmax(p))]
        if right:
            predicted = KEY[i] if right[n] == "y" else "A" if KEY[i] == "B" else "B"
        rows.append((method, i, f"S{n}", f"P{n % 3}", "Evidence", f"kind{n % 2}", KEY[i], predicted, *p, k, 0, -1))
    names = [
        "method",
        "ID",
        "Slide",
        "case_id",
        "broad",
        "narrow",
        "answer",
        "predicted",
        *[f"logp_{x}" for x in "ABCD"],
    ]
    table = pd.DataFrame(rows, columns=[*names, "k", "seed", "fold"])
    return table.assign(correct=table["predicted"] == table["answer"], covered=True, per_token="", letters="")


def test_shares_are_of_the_options_offered_and_add_up_to_one():
    shares = one_run.shares(answers())
    assert shares.sum(1) == pytest.approx(np.ones(4))
    assert shares[1].tolist() == pytest.approx([0.25, 0.75, 0, 0])
    assert shares[3].tolist() == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e), 0, 0])


def test_the_first_right_and_the_first_wrong_question_of_each_kind_are_set_out_option_by_option():
    table = one_run.options_of(answers(), QUESTIONS, most=4)
    assert table["ID"].unique().tolist() == ["q0", "q1", "q2"]
    table = table[table["ID"] != "q2"]
    assert table["ID"].tolist() == ["q0"] * 3 + ["q1"] * 2 and table["letter"].tolist() == [*"ABC", *"AB"]
    assert table["is_key"].tolist() == [True, False, False, False, True]
    assert table["is_chosen"].tolist() == [True, False, False, False, True]
    assert table["share"].tolist() == pytest.approx([0.7, 0.2, 0.1, 0.25, 0.75])
    assert one_run.options_of(answers(), QUESTIONS, most=1)["ID"].unique().tolist() == ["q0"]


def test_answers_fall_into_bins_by_the_share_of_what_was_chosen():
    table = one_run.calibration(answers(), bins=5, draws=50, seed=0).set_index("low")
    assert table["n"].to_dict() == {0.6: 3, 0.8: 1}
    assert table.loc[0.6, "confidence"] == pytest.approx((0.7 + 0.75 + np.e / (1 + np.e)) / 3)
    assert table["accuracy"].to_dict() == {0.6: 1.0, 0.8: 0.0}
    gaps = 3 * (1 - table.loc[0.6, "confidence"]) + 0.85
    assert one_run.calibration_error(table) == pytest.approx(gaps / 4)


def test_a_share_of_one_is_in_the_last_bin():
    sure = answers().assign(logp_A=0.0, logp_B=-np.inf, logp_C=NAN, logp_D=NAN)
    assert one_run.calibration(sure, bins=10, draws=9, seed=0)[["low", "high"]].values.tolist() == [[0.9, 1.0]]


def test_the_other_slide_is_compared_question_by_question():
    told = pd.concat([answers("m", "yyyn"), answers("m_wrong_slide", "nyny").sample(frac=1, random_state=3)])
    gap = one_run.against_another_slide(told, "m", draws=50, seed=0)
    assert gap.difference.value == pytest.approx(0.25) and (gap.only_a, gap.only_b) == (2, 1)
    assert one_run.against_another_slide(answers("m"), "m", draws=50, seed=0) is None


def test_a_run_stands_beside_its_controls_and_floors_also_without_a_k():
    told = pd.concat([answers("all", "yyyn", k=NAN), answers("all_wrong_slide", "nnny", k=NAN)])
    split = pd.Series("test", index=["S0", "S1", "S2", "S3"])
    table = one_run.beside_floors(told, QUESTIONS, split, draws=20, seed=0)
    whole = table[table["group"] == "all"].set_index("method")
    assert whole["accuracy"].to_dict() == {
        "all": 0.75,
        "all_wrong_slide": 0.25,
        "longest_option": 0.5,
        "best_letter": 0.5,
    }
    taught = [q._replace(id=f"t{q.id}", slide_id="T", answer=1) for q in QUESTIONS]
    split = pd.concat([split, pd.Series({"T": "train"})])
    table = one_run.beside_floors(told, [*QUESTIONS, *taught], split, draws=20, seed=0)
    whole = table[table["group"] == "all"].set_index("method")
    assert whole.loc["majority", "accuracy"] == 0.5 and "best_letter" not in whole.index
