"""The published numbers agree with each other: per cents are counts of questions, deltas are differences."""

import pytest

from slidesieve.analyses.lengths import BIN_NAMES
from slidesieve.evaluation import published

ASKED = published.BENCHMARKS[published.COMPRESSED]
SCORES = {(s.method, s.group): s for s in published.LIKE_FOR_LIKE}
METHODS = list(dict.fromkeys(s.method for s in published.LIKE_FOR_LIKE))
CATEGORIES = ("microscopy", "diagnosis", "clinical")


def test_categories_sum_to_the_benchmark():
    known = [b for b in published.BENCHMARKS.values() if b.microscopy]
    assert [b.microscopy + b.diagnosis + b.clinical for b in known] == [b.n_questions for b in known] == [1494, 1473]
    assert all(f"{b.n_questions:,}" in b.name for b in published.BENCHMARKS.values())


@pytest.mark.parametrize("score", published.LIKE_FOR_LIKE, ids=lambda s: f"{s.method}-{s.group}")
def test_every_per_cent_is_a_count_of_the_masked_questions(score):
    asked = ASKED.n_questions if score.group == "all" else getattr(ASKED, score.group)
    assert round(100 * score.correct / asked, 2) == score.percent


@pytest.mark.parametrize("method", METHODS)
def test_categories_sum_to_the_overall_count(method):
    assert sum(SCORES[method, group].correct for group in CATEGORIES) == SCORES[method, "all"].correct


def test_like_for_like_differences():
    base = SCORES["SlideChat", "all"].percent
    assert SCORES["SparseLearn", "all"].percent - base == pytest.approx(-1.49)
    assert SCORES["TC-SSA", "all"].percent - base == pytest.approx(3.53)


def test_ablation_deltas_are_differences_and_counts_of_questions():
    full, *variants = published.ABLATION
    assert full.percent == SCORES["SparseLearn", "all"].percent
    for row in variants:
        assert row.percent - full.percent == pytest.approx(row.delta_points)
        correct = round(row.percent * 14.73)
        assert round(100 * correct / 1473, 2) == row.percent
    assert [1080 - round(row.percent * 14.73) for row in variants] == [43, 25]
    table = published.ablation().set_index("method")
    assert table.loc["sparselearn:denoiser=global", "paper_delta"] == pytest.approx(-0.017)


def test_costs_repeat_the_scores_of_their_benchmark():
    table = published.costs()
    assert set(table["benchmark"]) <= published.BENCHMARKS.keys()
    masked = table[table["benchmark"] == published.COMPRESSED].set_index("method")["accuracy"]
    assert masked.to_dict() == {m: SCORES[m, "all"].percent / 100 for m in METHODS}
    budget = table.set_index(["method", "benchmark"])["tokens"]
    share = 100 * budget["SparseLearn", published.COMPRESSED] / budget["SlideChat", published.COMPRESSED]
    assert round(share, 2) == 0.78
    assert set(table.loc[table["tokens"] == 17_200, "tokens_basis"]) == {published.DERIVED}


def test_lengths_sum_to_the_benchmark_and_their_mean_is_the_headline():
    table = published.by_length()
    assert tuple(table["bin"]) == BIN_NAMES and table["n_questions"].sum() == ASKED.n_questions
    mean = (table["n_questions"] * table["accuracy"]).sum() / table["n_questions"].sum()
    assert 100 * mean == pytest.approx(SCORES["SparseLearn", "all"].percent, abs=published.READ_OFF_POINTS)
    assert table.set_index("bin")["accuracy"].idxmin() == "1024-2048"
    assert (100 * (table["accuracy_high"] - table["accuracy_low"])).tolist() == pytest.approx([1.0] * 8)


def test_the_like_for_like_block_has_intervals_of_its_own_counts():
    table = published.like_for_like().set_index(["method", "group"])
    tcssa = table.loc[("TC-SSA", "all")]
    assert (tcssa["correct"], tcssa["n_questions"]) == (1154, 1473)
    assert 100 * tcssa["correct"] / tcssa["n_questions"] == pytest.approx(tcssa["percent"], abs=0.005)
    z, n, share = 1.959964, 1473, 1154 / 1473
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (tcssa["ci_low"], tcssa["ci_high"]) == pytest.approx((middle - half, middle + half), abs=1e-6)
