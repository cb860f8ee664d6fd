"""The ledger: what a score was measured on, and which scores never meet."""

import numpy as np
import pandas as pd
import pytest
from fake_runs import write_cohort, write_run

from slidesieve.answers.tables import read_answers
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation.ledger import COLUMNS, OURS, difference, ledger, papers, why_not
from slidesieve.evaluation.scores import scores
from slidesieve.provenance.files import hash_file


def row_of(table: pd.DataFrame, method: str, score: float) -> pd.Series:
    (found,) = (row for _, row in table.iterrows() if row["method"] == method and row["score"] == pytest.approx(score))
    return found


def test_slidechats_two_scores_never_meet_and_those_of_one_version_do():
    table = papers()
    whole = table[table["group"] == "all"]
    small, large = row_of(whole, "SlideChat", 0.7481), row_of(whole, "SlideChat", 0.8117)
    assert "1,473 with features and SlideBench (TCGA) v0, 7,827 questions" in why_not(small, large)
    with pytest.raises(ValueError, match=r"SlideChat \(0.7481, .*\) and SlideChat \(0.8117, .*\) are not compared"):
        difference(small, large)
    tcssa, sparse = row_of(whole, "TC-SSA", 0.7834), row_of(whole, "SparseLearn", 0.7332)
    assert difference(tcssa, sparse) == pytest.approx(0.0502) and tcssa["tokens_out"] == 32
    assert len(whole[whole["method"] == "SlideChat"]) == 2 and list(table) == COLUMNS
    other = row_of(table[table["group"] == "clinical"], "TC-SSA", 0.7653)
    assert "other questions (all, 1473 questions and clinical, 98 questions)" in why_not(tcssa, other)


def test_each_score_of_a_run_has_its_benchmark_and_receipt(tmp_path):
    write_cohort(tmp_path)
    lost = {"uncovered": ("s002",)}
    folders = [write_run(tmp_path, "kmeans", k=8, accuracy=0.7), write_run(tmp_path, "mean", k=8, accuracy=0.5, **lost)]
    path = tmp_path / "questions.csv"
    questions = read_questions(path)
    answers = read_answers(folders, questions_path=path, questions=questions)
    table = ledger(scores(answers, questions, draws=20, seed=0), folders, path)
    own = table[table["source"] == OURS]
    assert set(own["benchmark"]) == {hash_file(path)} and set(own["method"]) >= {"kmeans", "kmeans_wrong_slide", "mean"}
    kmeans, mean = (own[(own["method"] == m) & (own["group"] == "all")].iloc[0] for m in ("kmeans", "mean"))
    assert (kmeans["tiles_in"], kmeans["tokens_out"]) > (0, 0) and np.isfinite(kmeans["ci_low"])
    assert "they cover 1.000 and 0." in why_not(kmeans, mean)
    wrong = own[(own["method"] == "kmeans_wrong_slide") & (own["group"] == "all")].iloc[0]
    assert difference(kmeans, wrong) == pytest.approx(kmeans["score"] - wrong["score"])
    assert "file " in why_not(kmeans, papers().iloc[0])
