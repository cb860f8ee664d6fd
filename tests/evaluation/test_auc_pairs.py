"""Differences of AUROC between methods, from scikit-learn's and from the same resamplings by loops."""

import numpy as np
import pandas as pd
import pytest
from fake_runs import write_cohort, write_run
from sklearn.metrics import roc_auc_score

from slidesieve.answers.controls import is_control
from slidesieve.answers.tables import read_answers
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation import auroc, verdicts
from slidesieve.evaluation.auc_pairs import auc_pairs, auc_runs

COSTS = pd.DataFrame(columns=["method", "k", "tflops"])
HOW = {"draws": 60, "seed": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_slides=61, same_question=True, folds=3)
    return folder


@pytest.fixture(scope="module")
def asked(folder):
    return read_questions(folder / "questions.csv")


def given(folder, asked, seeds, **quality):
    each = [(method, share, seed, fold) for method, share in quality.items() for seed in seeds for fold in range(3)]
    runs = [write_run(folder, method, k=7, accuracy=share, seed=seed, fold=fold) for method, share, seed, fold in each]
    return read_answers(runs, questions_path=folder / "questions.csv", questions=asked)


def test_a_difference_of_five_seeds_is_of_the_methods(folder, asked):
    answers = given(folder, asked, range(5), tcssa=0.9, locpath=0.4)
    # two slides a patient: what is resampled is patients
    answers = answers.assign(case_id=answers["Slide"].str[1:].astype(int).floordiv(2).astype(str))
    row = auc_pairs(answers, asked, COSTS, **HOW).iloc[0]
    means, runs = [], []
    for method in ("tcssa", "locpath"):
        own = answers[answers["method"] == method]
        by_seed = []
        for _, part in own.groupby("seed"):
            folds = []
            for _, fold in part.groupby("fold"):
                probability, label, _ = auroc.classified(fold, asked)
                folds.append(roc_auc_score(label, probability, multi_class="ovr"))
            by_seed.append(np.mean(folds))
        means.append(np.mean(by_seed))
        runs.append(auc_runs(own, asked, np.unique(answers["case_id"]), **HOW))
        assert runs[-1].value == pytest.approx(by_seed)
        assert runs[-1].resampled.shape == (60, 5)
    assert row[["auc", "other_auc", "difference"]].tolist() == pytest.approx([*means, means[0] - means[1]])
    told = verdicts.over_seeds(runs, (1, -1), n_patients=answers["case_id"].nunique())
    assert row[["ci_low", "ci_high", "p"]].tolist() == pytest.approx([*told.estimate[1:], told.p])
    assert (row["verdict"], row["n_seeds"], row["group"]) == ("above", 5, "kind")
    assert row["n_patients"] == answers["case_id"].nunique() == 31


def test_a_slide_without_an_answer_is_undecided_for_the_method_that_gave_none(folder, asked):
    answers = given(folder, asked, (17, 18), tcssa=0.95, locpath=0.95)
    lost = (answers["method"] == "locpath") & answers["Slide"].str[-1].isin(list("02468"))
    answers.loc[lost, [c for c in answers if c.startswith("logp_")]] = np.nan
    row = auc_pairs(answers, asked, COSTS, **HOW).iloc[0]
    alone = auroc.auc_scores(answers, asked, draws=10, seed=0).groupby("method")["auc"].mean()
    assert row[["auc", "other_auc"]].tolist() == pytest.approx(alone[["tcssa", "locpath"]].tolist())
    assert row["other_auc"] < row["auc"] - 0.05 and row["n_patients"] == answers["case_id"].nunique()


def test_two_seeds_tell_of_these_runs_and_a_class_never_asked_about_has_no_score(folder, asked):
    answers = given(folder, asked, (7, 8), tcssa=0.95, locpath=0.3)
    assert auc_pairs(answers, asked, COSTS, **HOW)["verdict"].tolist() == ["above in these runs"]
    assert not answers["method"].map(is_control).all()
    other = [q._replace(kind="other", id=f"o{i}") for i, q in enumerate(asked) if q.options[q.answer] != "fat"]
    same = answers[answers["ID"].isin([asked[0].id])].assign(ID=other[0].id)
    assert list(auroc.asked_alike([*asked, *other], pd.concat([answers, same]))) == ["kind"]
