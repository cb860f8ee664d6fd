"""The ledger: what a score was measured on, and which scores never meet."""

import json

import numpy as np
import pandas as pd
import pytest
from fake_runs import write_cohort, write_run

from slidesieve.answers.tables import PROMPT, read_answers
from slidesieve.datasets.questions import read_questions
from slidesieve.datasets.versions import UNKNOWN
from slidesieve.evaluation.ledger import COLUMNS, NO_MODEL, OURS, difference, ledger, papers, why_not
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
    assert difference(tcssa, sparse).score == pytest.approx(0.0502) and tcssa["tokens_out"] == 32
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
    table = ledger(scores(answers, questions, draws=20, seed=0), answers, folders, path)
    own = table[table["source"] == OURS]
    assert set(own["version"]) == {UNKNOWN}
    assert set(own["benchmark"]) == {hash_file(path)} and set(own["method"]) >= {"kmeans", "kmeans_wrong_slide", "mean"}
    kmeans, mean = (own[(own["method"] == m) & (own["group"] == "all")].iloc[0] for m in ("kmeans", "mean"))
    assert (kmeans["tiles_in"], kmeans["tokens_out"]) > (0, 0) and np.isfinite(kmeans["ci_low"])
    assert "they cover 1.000 and 0." in why_not(kmeans, mean)
    wrong = own[(own["method"] == "kmeans_wrong_slide") & (own["group"] == "all")].iloc[0]
    assert difference(kmeans, wrong).score == pytest.approx(kmeans["score"] - wrong["score"])
    assert "file " in why_not(kmeans, papers().iloc[0])


ASKED = "<|im_start|>user\n<visual>\n{question}\nA. {first option}"


def run_asked(folder, method: str, prompt: str, **parameters):
    """A run whose receipt and prompt.txt say how it was asked; no prompt.txt for ""."""
    out = write_run(folder, method, k=8, accuracy=0.7)
    receipt = json.loads((out / "receipt.json").read_text())
    receipt["recipe"]["parameters"] = parameters
    (out / "receipt.json").write_text(json.dumps(receipt))
    if prompt:
        (out / PROMPT).write_text(prompt)
    return out


def test_other_words_or_another_head_are_noted_and_compared(tmp_path):
    write_cohort(tmp_path)
    likewise = {"answer_form": "text", "rotations": 1}
    folders = [
        run_asked(tmp_path, "kmeans", ASKED, **likewise),
        run_asked(tmp_path, "fps", ASKED, **likewise),
        run_asked(tmp_path, "tome", ASKED.replace("user", "system"), **likewise),
        run_asked(tmp_path, "dpp", ASKED, answer_form="letter", rotations=4),
        run_asked(tmp_path, "grid", "", **likewise),
    ]
    path = tmp_path / "questions.csv"
    questions = read_questions(path)
    answers = read_answers(folders, questions_path=path, questions=questions)
    given = pd.concat([answers, answers[answers["method"] == "fps"].assign(method="majority", k=0)])
    table = ledger(scores(given, questions, draws=20, seed=0), answers, folders, path)
    whole = table[(table["group"] == "all") & (table["source"] == OURS)].set_index("method", drop=False)
    assert whole.loc["kmeans", "prompt"] == "<|im_start|>user\\n<visual>\\n{question}\\nA. {first option}"
    assert whole.loc["kmeans_wrong_slide", "head"] == "log-likelihood of the option's text"
    assert whole.loc["dpp", "head"] == "log-likelihood of the option's letter, mean of 4 rotations"
    assert whole.loc["majority", ["prompt", "head"]].tolist() == [NO_MODEL, NO_MODEL]
    notes = {
        name: difference(whole.loc["kmeans"], whole.loc[name]) for name in ("fps", "tome", "dpp", "grid", "majority")
    }
    assert notes["fps"].note == notes["majority"].note == "" and notes["grid"].note == "prompt: not known of both"
    assert (
        notes["tome"].note.startswith('prompt: "<|im_start|>user') and '" and "<|im_start|>system' in notes["tome"].note
    )
    assert notes["dpp"].note == (
        'head: "log-likelihood of the option\'s text" and "log-likelihood of the option\'s letter, mean of 4 rotations"'
    )
    for name, found in notes.items():
        assert found.score == pytest.approx(whole.loc["kmeans", "score"] - whole.loc[name, "score"])


def test_papers_do_not_tell_how_they_asked(tmp_path):
    papers().to_csv(tmp_path / "ledger.csv", index=False)
    for table in (papers(), pd.read_csv(tmp_path / "ledger.csv")):
        tcssa, sparse = table.query("group == 'all' and method in ('TC-SSA', 'SparseLearn')").iloc[:2].iloc
        assert difference(tcssa, sparse).note == "prompt: not known of both; head: not known of both"


def test_a_run_of_the_published_file_says_so(tmp_path):
    write_cohort(tmp_path)
    folders = [write_run(tmp_path, "kmeans", k=8, accuracy=0.7)]
    path = tmp_path / "questions.csv"
    questions = read_questions(path)
    answers = read_answers(folders, questions_path=path, questions=questions)
    asked = pd.DataFrame({"ID": range(7_274), "Slide": [i % 1_058 for i in range(7_274)]})
    table = ledger(scores(answers, questions, draws=20, seed=0), asked, folders, path)
    name = "rows and slides as in SlideBench-VQA-BCNB, SlideChat 975a735; another file"
    assert set(table.loc[table["source"] == OURS, "version"]) == {name}
    assert name in why_not(table.iloc[0], papers().iloc[0])
