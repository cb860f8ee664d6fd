"""Learned methods against the best of what needs no training, from counts."""

import pandas as pd
import pytest

from slidesieve.evaluation.best_rival import against_best, candidates
from tests.evaluation.test_head_to_head import QUESTIONS, costs, run

COSTS = costs(tcssa_8=1.0, kmeans_8=0.5, kmeans_32=1.05, fps_8=0.5, fps_32=1.2, random_8=0.4, all_0=0.9)


def answers(seeds=(0, 1, 2, 3, 4)) -> pd.DataFrame:
    right = {("tcssa", 8): 12, ("kmeans", 8): 9, ("fps", 8): 6, ("kmeans", 32): 15, ("fps", 32): 21, ("random", 8): 20}
    runs = [run(m, k, s, {(i + s) % 21 for i in range(n)}) for (m, k), n in right.items() for s in seeds]
    return pd.concat([*runs, run("all", 0, 0, {1})], ignore_index=True)


def test_rivals_are_of_the_same_k_or_of_no_more_operations():
    found = {key: {(p.other, p.other_k) for p in pairings} for key, pairings in candidates(answers(), COSTS).items()}
    assert found == {
        ("k", "tcssa", 8): {("kmeans", 8), ("fps", 8)},
        ("operations", "tcssa", 8): {("kmeans", 8), ("fps", 8), ("kmeans", 32)},  # 5 % more is called the same
    }


def test_the_best_is_the_one_with_most_right_answers():
    table = against_best(answers(), QUESTIONS, COSTS, draws=200, seed=0)
    row = table[table["group"] == "all"].set_index("matched_by")
    assert row.loc["k", ["other", "other_k", "n_rivals", "n_seeds"]].to_list() == ["kmeans", 8, 2, 5]
    assert row.loc["k", "difference"] == pytest.approx(3 / 21)
    assert row.loc["operations", ["other", "other_k", "n_rivals"]].to_list() == ["kmeans", 32, 3]
    assert row.loc["operations", "difference"] == pytest.approx(-3 / 21)


def test_p_is_the_largest_above_and_counts_the_rivals_below():
    table = against_best(answers(), QUESTIONS, COSTS, draws=200, seed=0)
    alone = answers()
    alone = alone[alone["method"].isin(["tcssa", "kmeans"])]
    single = against_best(alone, QUESTIONS, COSTS, draws=200, seed=0)
    p, q = (t[t["group"] == "all"].set_index("matched_by")["p"] for t in (table, single))
    assert p["k"] >= q["k"]  # above both
    assert p["operations"] == pytest.approx(min(1, q["operations"] * 3 / 2))


def test_of_rivals_with_other_seeds_the_one_it_is_least_ahead_of_is_the_best():
    """On the seeds that both have farthest points are above, though k-means has more right answers on its own."""
    given = answers()
    of = {"kmeans": 4, "fps": 0}
    given = given[given["seed"] == given["method"].map(of).fillna(given["seed"])]
    given.loc[(given["method"] == "tcssa") & (given["seed"] == 0), "correct"] = False
    row = against_best(given, QUESTIONS, COSTS, draws=50, seed=0).query("group == 'all' and matched_by == 'k'").iloc[0]
    assert (row["other"], row["seeds"]) == ("fps", "0") and row["difference"] == pytest.approx(-6 / 21)


def test_another_coverage_is_no_rival():
    given = answers()
    given.loc[(given["method"] == "kmeans") & (given["ID"] == "q3"), "covered"] = False
    table = against_best(given, QUESTIONS, COSTS, draws=50, seed=0)
    assert set(table["other"]) == {"fps"}


def test_without_rivals_there_is_no_row():
    given = answers()
    table = against_best(given[given["method"].isin(["tcssa", "random"])], QUESTIONS, COSTS, draws=50, seed=0)
    assert table.empty and "verdict" in table
