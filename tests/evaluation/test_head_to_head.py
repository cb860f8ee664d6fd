"""Matched comparisons, from counts."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.datasets.questions import Question
from slidesieve.evaluation import verdicts
from slidesieve.evaluation.pairs import head_to_head, pairings, rivals, unmatched

QUESTIONS = [
    Question(f"q{i}", f"s{i % 7}", "evidence" if i % 2 else "composition", "x", "?", ("a", "b"), 0) for i in range(21)
]


def run(method: str, k: int, seed: int, right: set[int], *, covered: bool = True) -> pd.DataFrame:
    rows = [(method, k, seed, -1, q.id, q.slide_id, q.slide_id, i in right, covered) for i, q in enumerate(QUESTIONS)]
    return pd.DataFrame(rows, columns=["method", "k", "seed", "fold", "ID", "Slide", "case_id", "correct", "covered"])


def costs(**tflops: float) -> pd.DataFrame:
    rows = [(*name.rsplit("_", 1), value) for name, value in tflops.items()]
    return pd.DataFrame(rows, columns=["method", "k", "tflops"]).astype({"k": int})


def answers() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    runs = [("tcssa", 8), ("tcssa", 16), ("locpath", 8), ("all", 0), ("random", 8), ("tcssa:top=1", 8)]
    runs += [("tcssa_wrong_slide", 8)]
    return pd.concat(
        [run(m, k, seed, set(rng.choice(21, 12, replace=False))) for m, k in runs for seed in (0, 1)],
        ignore_index=True,
    )


COSTS = costs(tcssa_8=1.0, tcssa_16=2.0, locpath_8=1.95, all_0=9.0, random_8=0.9)


def test_rivals_are_the_methods_themselves():
    assert rivals(answers()) == ["tcssa", "locpath", "all"]
    more = [run(name, 0, 0, {1}) for name in ("all:slide_encoder=longnet", "majority")]
    assert rivals(pd.concat([answers(), *more])) == ["tcssa", "locpath", "all", "all:slide_encoder=longnet"]


def test_runs_are_paired_at_a_common_k_and_with_the_nearest_in_operations():
    found = [(p.matched_by, p.method, p.k, p.other, p.other_k, p.matched) for p in pairings(answers(), COSTS)]
    assert found == [
        ("k", "tcssa", 8, "locpath", 8, True),
        ("operations", "tcssa", 8, "locpath", 8, False),  # 1.95 times as much
        ("operations", "tcssa", 16, "locpath", 8, True),
        ("operations", "tcssa", 8, "all", 0, False),
        ("operations", "tcssa", 16, "all", 0, False),
        ("operations", "locpath", 8, "all", 0, False),
    ]


def test_the_ratio_is_the_others_over_the_methods():
    ratio = {
        (p.method, p.k, p.other): p.tflops_ratio for p in pairings(answers(), COSTS) if p.matched_by == "operations"
    }
    assert ratio["tcssa", 16, "locpath"] == pytest.approx(1.95 / 2)


def test_differences_are_those_of_the_counts_over_all_seeds():
    given = answers()
    table = head_to_head(given, QUESTIONS, COSTS, draws=400, seed=0)
    row = table[(table["matched_by"] == "k") & (table["group"] == "evidence")].iloc[0]
    right = given.set_index(["method", "k", "seed", "ID"])["correct"]
    ids = [q.id for q in QUESTIONS if q.kind == "evidence"]
    expected = np.mean([
        float(right["tcssa", 8, seed, i]) - float(right["locpath", 8, seed, i]) for seed in (0, 1) for i in ids
    ])  # fmt: skip
    assert row["difference"] == pytest.approx(expected)
    assert row["n_pairs"] == 2 * len(ids) and row["n_patients"] == 7 and row["n_seeds"] == 2 and row["seeds"] == "0+1"
    assert row["ci_low"] <= row["difference"] <= row["ci_high"]


def test_a_clear_difference_is_told_apart_and_a_hopeless_one_is_not(monkeypatch):
    every = set(range(21))
    given = pd.concat([run("tcssa", 8, 0, every), run("locpath", 8, 0, set()), run("sparselearn", 8, 0, every)])
    assert set(head_to_head(given, QUESTIONS, costs(), draws=400, seed=0)["verdict"]) == {"too few to tell"}
    for least in ("FEWEST_QUESTIONS", "FEWEST_PATIENTS"):
        monkeypatch.setattr(verdicts, least, 1)
    table = head_to_head(given, QUESTIONS, costs(), draws=400, seed=0)
    verdict = table[table["group"] == "all"].set_index(["method", "other"])["verdict"].to_dict()
    assert verdict == {
        ("tcssa", "locpath"): "above in these runs",
        ("tcssa", "sparselearn"): "not told apart in these runs",
        ("locpath", "sparselearn"): "below in these runs",
    }
    assert (table["matched_by"] == "k").all()  # no costs: nothing is matched by them
    assert table["tflops_ratio"].isna().all()


def test_what_cannot_be_compared_says_so_and_has_no_numbers():
    given = pd.concat([run("tcssa", 8, 0, {1}), run("locpath", 8, 0, {1}, covered=False), run("all", 0, 1, {1})])
    table = head_to_head(given, QUESTIONS, COSTS, draws=50, seed=0)
    alone = table[(table["other"] == "locpath") & (table["matched_by"] == "k")]
    assert set(alone["verdict"]) == {"not the same questions"} and alone["difference"].isna().all()
    assert set(table.loc[table["other"] == "all", "verdict"]) == {"no run of like operations"}
    told = "tcssa (k 8) and all (k 0), same operations: no run of like operations, 9.00 times as many"
    assert told in unmatched(table) and len(unmatched(table)) == 4


def test_p_is_corrected_over_the_pairings_of_a_group():
    table = head_to_head(answers(), QUESTIONS, COSTS, draws=400, seed=0)
    assert (table["p_holm"].dropna() >= table["p"].dropna()).all()
    one = table[(table["matched_by"] == "k")]
    assert np.array_equal(one["p"], one["p_holm"])  # a single pairing: nothing to correct
