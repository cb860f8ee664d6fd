"""Runs are compared only on the same questions, beside floors, with numbers that can be counted by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from fake_runs import N_TILES, write_cohort, write_run

from slidesieve.answers.controls import is_control
from slidesieve.answers.tables import RUN, read_answers, read_selection
from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.splits import split_of
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation.auroc import auc_scores, common_options, mean_pool_baseline, option_probability
from slidesieve.evaluation.floors import WITHOUT_A_MODEL, floor_answers, heuristic_rows
from slidesieve.evaluation.pairs import paired
from slidesieve.evaluation.scores import (
    best_first,
    in_words,
    over_seeds,
    scores,
    seeing,
    seeing_nothing,
    selection_scores,
    soft_and_hard,
)
from slidesieve.features.bag_files import load_bags


@pytest.fixture
def cohort(tmp_path):
    write_cohort(tmp_path)
    return tmp_path


def read(cohort, *folders):
    questions = read_questions(cohort / "questions.csv")
    return read_answers(folders, questions_path=cohort / "questions.csv", questions=questions), questions


def splits(cohort, answers):
    manifest = read_manifest(cohort / "manifest.csv")
    return {fold: split_of(manifest, fold) for fold in answers["fold"].unique().tolist()}


def test_the_best_of_all_questions_comes_first_with_all_its_rows():
    rows = [("a", 8, 0, "all", 0.5), ("b", 8, 0, "all", 0.6), ("b", 4, 0, "all", 0.7), ("a", 8, 1, "all", 0.6)]
    rows += [("a", 8, 0, "rare", 0.9), ("b", 8, 0, "rare", 0.1), ("c", 0, 0, "all", 0.55), ("b", 4, 0, "rare", 0.2)]
    table = best_first(pd.DataFrame(rows, columns=["method", "k", "seed", "group", "accuracy"]))
    assert list(map(rows.index, table.itertuples(index=False, name=None))) == [2, 7, 1, 5, 0, 3, 4, 6]


def test_scores_are_shares_of_right_answers_in_each_group(cohort):
    run = write_run(cohort, "sparselearn", k=7, accuracy=0.8)
    answers, questions = read(cohort, run)
    table = scores(answers, questions, draws=50, seed=0).set_index(["method", "group"])
    own = answers[answers["method"] == "sparselearn"]
    n_test = own["Slide"].nunique()
    for group, rows in {
        "all": own,
        "evidence": own[own["broad"] == "Evidence"],
        "finding": own[own["narrow"] == "finding"],
        "tissue": own[own["narrow"] == "tissue"],
    }.items():
        row = table.loc[("sparselearn", group)]
        assert row["accuracy"] == pytest.approx(rows["correct"].mean())
        assert (row["n_questions"], row["n_slides"], row["coverage"]) == (len(rows), n_test, 1.0)
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
    assert set(table.index.get_level_values("method")) == {"sparselearn", "sparselearn_soft", "sparselearn_wrong_slide"}
    gaps = soft_and_hard(table.reset_index()).set_index("group")
    soft = answers[answers["method"] == "sparselearn_soft"]["correct"].mean()
    assert gaps.loc["all", "gap"] == pytest.approx(soft - own["correct"].mean())
    assert set(gaps["method"]) == {"sparselearn"} and len(gaps) == 6
    assert [is_control(m) for m in ("sparselearn", "sparselearn_soft", "text_only_wrong_slide")] == [False, True, True]


def test_a_slide_without_features_lowers_coverage_and_counts_as_wrong(cohort):
    full = write_run(cohort, "all", k=0, accuracy=1.0)
    partial = write_run(cohort, "random", k=7, accuracy=1.0, uncovered=("s002", "s003"))
    answers, questions = read(cohort, full, partial)
    table = scores(answers, questions, draws=50, seed=0).set_index(["method", "group"])
    n = table.loc[("random", "all"), "n_slides"]
    assert (
        table.loc[("random", "all"), "coverage"] == table.loc[("random", "all"), "accuracy"] == pytest.approx(1 - 2 / n)
    )
    pairs = paired(answers, questions, floor="random", draws=50, seed=0).set_index(["method", "group"])
    flagged = pairs.loc[("all", "all")]
    assert not flagged["comparable"] and np.isnan(flagged["difference"])


def test_floors_are_methods_with_the_training_keys_frequencies(cohort):
    answers, questions = read(cohort, write_run(cohort, "all", k=0, accuracy=0.9))
    floors = floor_answers(answers, questions, split=splits(cohort, answers))
    assert set(floors["method"]) == {*WITHOUT_A_MODEL} - {"best_letter"} and set(floors["k"]) == {0}
    train = splits(cohort, answers)[-1]
    yes = [q.answer for q in questions if q.kind == "presence" and train[q.slide_id] == "train"]
    expected = "AB"[int(np.mean(yes) > 0.5)]
    presence = floors[(floors["method"] == "majority") & (floors["narrow"] == "presence")]
    assert set(presence["predicted"]) == {expected}
    assert presence["correct"].mean() == (presence["answer"] == expected).mean()  # I48
    longest = floors[(floors["method"] == "longest_option") & (floors["narrow"] == "tissue")]
    assert set(longest["predicted"]) == {"B"}  # nerve, the first of the longest


def test_test_questions_alone_have_the_one_floor_that_needs_no_key(cohort):
    answers, questions = read(cohort, write_run(cohort, "all", k=0, accuracy=0.9))
    split = splits(cohort, answers)
    whole = floor_answers(answers, questions, split=split)
    tested = [q for q in questions if split[-1][q.slide_id] == "test"]
    alone = floor_answers(answers, tested, split=split)
    longest = alone[alone["method"] == "longest_option"]
    assert longest.equals(whole[whole["method"] == "longest_option"].reset_index(drop=True))
    best = alone[alone["method"] == "best_letter"]
    shares = {letter: (best["answer"] == letter).mean() for letter in "ABCD"}
    assert set(alone["method"]) == {"longest_option", "best_letter"} and best["predicted"].nunique() == 1
    assert best["correct"].mean() == max(shares.values()) > min(shares.values())


def test_paired_differences_are_against_the_same_seed_and_k(cohort):
    runs = [write_run(cohort, "sparselearn", k=k, seed=s, accuracy=0.9) for k in (7, 11) for s in (0, 1)]
    runs += [write_run(cohort, "random", k=k, seed=s, accuracy=0.4) for k in (7, 11) for s in (0, 1)]
    answers, questions = read(cohort, *runs)
    table = paired(answers, questions, floor="random", draws=50, seed=0)
    row = table[
        (table["method"] == "sparselearn") & (table["k"] == 11) & (table["seed"] == 1) & (table["group"] == "all")
    ]
    a, b = (
        answers.query("method == @m and k == 11 and seed == 1").set_index("ID")["correct"]
        for m in ("sparselearn", "random")
    )
    assert row["difference"].item() == pytest.approx(a.mean() - b.mean())
    assert row["only_method"].item() == (a & ~b).sum() and row["only_floor"].item() == (b & ~a).sum()
    assert row["mcnemar_p"].item() < 0.01 and row["ci_low"].item() > 0
    assert "random" not in set(table["method"])


def test_other_questions_are_refused(cohort):
    run = write_run(cohort, "all", k=0, accuracy=0.9)
    table = pd.read_csv(cohort / "questions.csv")
    table.loc[0, "Question"] += " "
    table.to_csv(cohort / "questions.csv", index=False)
    with pytest.raises(ValueError, match=r"answers question file \w{16}, expected \w{16}"):
        read(cohort, run)


def edit(folder, change):
    table = pd.read_csv(folder / "answers.csv", keep_default_na=False)
    change(table).to_csv(folder / "answers.csv", index=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(answer="D"), "IDs have another slide or key than the table"),
        (lambda t: t.iloc[3:], r"was asked \d+ questions, .* of them not the other's"),
        (lambda t: t.assign(correct=True), "column correct disagrees"),
        (lambda t: pd.concat([t, t[:1]]), "is answered 2 times"),
        (lambda t: t.drop(columns="covered"), "no column covered"),
    ],
)
def test_answers_that_cannot_be_compared_are_refused(cohort, change, message):
    runs = [write_run(cohort, "all", k=0, accuracy=0.9), write_run(cohort, "mean", k=7, accuracy=0.4)]
    edit(runs[1], change)
    with pytest.raises(ValueError, match=message):
        read(cohort, *runs)


def test_an_unfinished_run_is_refused(cohort):
    run = write_run(cohort, "all", k=0, accuracy=0.9)
    receipt = json.loads((run / "receipt.json").read_text())
    (run / "receipt.json").unlink()
    with pytest.raises(ValueError, match="no receipt"):
        read(cohort, run)
    receipt["recipe"]["inputs"] = {}
    (run / "receipt.json").write_text(json.dumps(receipt))
    with pytest.raises(ValueError, match="answers question file None"):
        read(cohort, run)


def test_selection_table_has_runs_and_heuristics_at_their_k(cohort):
    runs = [write_run(cohort, "sparselearn", k=7, accuracy=0.9), write_run(cohort, "all", k=0, accuracy=0.9)]
    selection = read_selection(runs)
    bags = load_bags(read_manifest(cohort / "manifest.csv"), None, selection["slide_id"].unique())
    truth = pd.read_csv(cohort / "truth.csv")
    both = pd.concat([selection, heuristic_rows(selection, bags, truth)])
    table = selection_scores(both).set_index("method")
    assert set(table.index) == {"sparselearn", "all", "norm", "outlier", "knn"}
    assert (table.drop(index="all")["k"] == 7).all()
    assert table.loc["all", ["recall", "chance"]].tolist() == [1.0, 1.0]
    assert table.loc["norm", "chance"] == pytest.approx(7 / N_TILES)
    assert 0.5 <= table.loc["norm", "recall"] < 0.75  # one of the two planted tiles is the longest of its slide
    own = selection[selection["method"] == "sparselearn"]
    assert table.loc["sparselearn", "recall"] == own["n_kept_planted"].sum() / (2 * len(own))


def test_classification_by_option_words_whatever_their_letters(tmp_path):
    write_cohort(tmp_path, same_question=True, folds=5)
    questions = read_questions(tmp_path / "questions.csv")
    assert common_options(questions) == ("fat", "gland", "nerve")
    assert common_options([*questions, questions[0]._replace(text="Other?")]) == ()
    runs = [write_run(tmp_path, "mean", k=7, fold=fold, accuracy=0.9) for fold in range(5)]
    answers, _ = read(tmp_path, *runs)
    first = answers.iloc[[0]].assign(logp_A=np.log(0.2), logp_B=np.log(0.5), logp_C=np.log(0.3))
    np.testing.assert_allclose(option_probability(first, questions), [[0.2, 0.3, 0.5]])  # letters: fat, nerve, gland
    own = answers[~answers["method"].map(is_control)]
    table = auc_scores(own, questions, draws=100, seed=0)
    assert sorted(table["fold"]) == [0, 1, 2, 3, 4] and table["n_slides"].sum() == len(own) == len(questions)
    assert table["auc"].mean() > 0.85
    assert (table["ci_low"] <= table["auc"]).all() and (table["auc"] <= table["ci_high"]).all()


def test_the_mean_pool_baseline_learns_from_training_slides_only(tmp_path):
    write_cohort(tmp_path, n_slides=150, same_question=True, folds=5)
    manifest, questions = read_manifest(tmp_path / "manifest.csv"), read_questions(tmp_path / "questions.csv")
    runs = [write_run(tmp_path, "mean", k=7, fold=fold, accuracy=0.9) for fold in range(5)]
    answers, _ = read(tmp_path, *runs)
    bags = load_bags(manifest, None, manifest.table["slide_id"])
    split = splits(tmp_path, answers)
    table = mean_pool_baseline(answers, questions, bags, split=split, draws=100, seed=0)
    assert len(table) == 5 and table["auc"].mean() > 0.9
    right = {q.slide_id: q.options[q.answer] for q in questions}
    absent = sorted(set(right.values()))[1]  # a class in the middle, of which nothing is trained on
    some = {f: s.where(~((s == "train") & (s.index.map(right) == absent)), "val") for f, s in split.items()}
    without = mean_pool_baseline(answers, questions, bags, split=some, draws=10, seed=0)
    assert len(without) == 5 and 0.5 < without["auc"].mean() < table["auc"].mean()
    only = {f: s.where(~((s == "train") & (s.index.map(right) != absent)), "val") for f, s in split.items()}
    assert mean_pool_baseline(answers, questions, bags, split=only, draws=10, seed=0).empty
    shuffled = {fold: names.where(names != "train", "val") for fold, names in split.items()}
    with pytest.raises(ValueError, match="fold 0: no training slide"):
        mean_pool_baseline(answers, questions, bags, split=shuffled, draws=10, seed=0)


def test_floors_and_scores_pool_folds_so_that_each_question_counts_once(tmp_path):
    write_cohort(tmp_path, folds=5)
    runs = [write_run(tmp_path, "mean", k=7, fold=fold, accuracy=0.5) for fold in range(5)]
    answers, questions = read(tmp_path, *runs)
    joined = pd.concat([answers, floor_answers(answers, questions, split=splits(tmp_path, answers))])
    table = scores(joined, questions, draws=20, seed=0)
    assert (table.loc[table["group"] == "all", "n_questions"] == len(questions)).all()
    assert not table.duplicated([*RUN, "group"]).any()


def test_over_seeds_every_answer_counts_once(cohort):
    folders = [write_run(cohort, "sparselearn", k=7, seed=s, accuracy=a) for s, a in enumerate((0.9, 0.5, 0.7))]
    answers, questions = read(cohort, *folders)
    table = over_seeds(answers, questions, draws=50, seed=0).set_index(["method", "group"])
    own = answers[answers["method"] == "sparselearn"]
    row = table.loc[("sparselearn", "evidence")]
    part = own[own["broad"] == "Evidence"]
    assert row["accuracy"] == pytest.approx(part["correct"].mean())
    assert row["n_questions"] == part["ID"].nunique() == len(part) / 3
    assert row["seeds"] == "0+1+2" and row["n_seeds"] == 3 and row["k"] == 7
    assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
    told = in_words(table.reset_index()).loc[("sparselearn", 7), "evidence"]
    assert told == f"{100 * row['accuracy']:.1f} ({100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f})"


def test_what_saw_no_slide_is_told_from_what_did():
    named = ["tcssa", "majority", "text_only", "blank", "random", "tcssa_wrong_slide", "tcssa_soft", "best_letter"]
    table = pd.DataFrame({"method": named}, index=range(3, 11))
    assert seeing_nothing(table)["method"].tolist() == ["majority", "text_only", "blank", "best_letter"]
    assert seeing(table)["method"].tolist() == ["tcssa", "random"]
