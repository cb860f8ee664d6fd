"""Scores of bag classification beside scikit-learn's on repeated slides; intervals and differences over patients."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from slidesieve.mil.scores import (
    Predictions,
    confusion,
    difference,
    paired_table,
    read_predictions,
    score,
    score_table,
    weighted_auroc,
    weighted_balanced_accuracy,
    weighted_kappa,
)


def predictions(fold: int = 0, *, n: int = 61, classes: int = 3, skill: float = 1.0, run: int = 0) -> Predictions:
    rng = np.random.default_rng([run, fold])
    label = np.arange(n) % classes
    odds = np.exp(rng.standard_normal((n, classes)) + skill * np.eye(classes)[label])
    cases = np.array([f"case-{i // 2 + 1000 * fold}" for i in range(n)])
    return Predictions(run, fold, cases, label, odds / odds.sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_a_weight_is_a_slide_repeated_so_often(classes):
    part = predictions(classes=classes)
    weight = np.random.default_rng(1).integers(0, 4, size=(5, 61)).astype(float)
    for row, auc, accuracy, kappa in zip(
        weight,
        weighted_auroc(part, weight),
        weighted_balanced_accuracy(part, weight),
        weighted_kappa(part, weight),
        strict=True,
    ):
        y, p = np.repeat(part.label, row.astype(int)), np.repeat(part.probability, row.astype(int), axis=0)
        expected = roc_auc_score(y, p[:, 1]) if classes == 2 else roc_auc_score(y, p, multi_class="ovr")
        assert auc == pytest.approx(expected)
        assert accuracy == pytest.approx(balanced_accuracy_score(y, p.argmax(1)))
        assert kappa == pytest.approx(cohen_kappa_score(y, p.argmax(1), weights="quadratic"))


def test_confusion_counts_by_class_and_by_answer():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    part = Predictions(0, 0, np.array(list("abcd")), np.array([0, 0, 1, 1]), p)
    assert confusion(part, np.array([[1.0, 2.0, 3.0, 4.0]]))[0].tolist() == [[1, 2], [4, 3]]


def test_a_score_is_the_mean_over_folds_and_its_interval_resamples_patients_in_all_folds_at_once():
    parts = [predictions(fold) for fold in range(3)]
    estimate = score(parts, "auroc", draws=400, seed=0)
    assert estimate.value == pytest.approx(
        np.mean([roc_auc_score(p.label, p.probability, multi_class="ovr") for p in parts])
    )
    assert estimate.low < estimate.value < estimate.high
    same = [part._replace(fold=i) for i, part in enumerate([parts[0]] * 3)]  # the very same patients three times
    thrice, once = (score(x, "auroc", draws=400, seed=0) for x in (same, parts[:1]))
    assert thrice == once


def test_a_difference_is_paired():
    better, worse = ([predictions(f, skill=s, n=200) for f in range(2)] for s in (1.5, 0.2))
    told = difference(better, worse, "auroc", draws=500, seed=0)
    expected = score(better, "auroc", draws=2, seed=0).value - score(worse, "auroc", draws=2, seed=0).value
    assert told.estimate.value == pytest.approx(expected) and told.estimate.low > 0 and told.p < 0.05
    none = difference(better, better, "kappa", draws=100, seed=0)
    assert none.estimate == (0, 0, 0) and none.p == 1
    with pytest.raises(ValueError, match="not tested on the same slides"):
        difference(better, [part._replace(label=part.label[::-1]) for part in better], "auroc", draws=10, seed=0)


def test_a_class_that_a_draw_misses_is_left_out_of_it():
    label = np.array([0] * 20 + [1])
    part = Predictions(0, 0, np.arange(21).astype(str), label, np.stack([1 - label * 0.9, label * 0.9], 1))
    assert np.isfinite(score([part], "auroc", draws=200, seed=0)).all()


def test_a_table_becomes_predictions_fold_by_fold():
    rows = [("m", r, f, f"s{i}", f"c{i}", i % 2, 0.4, 0.6) for r in (3, 2) for f in (1, 0) for i in (2, 1, 0)]
    table = pd.DataFrame(rows, columns=["model", "seed", "fold", "slide_id", "case_id", "label", "p_LUAD", "p_LUSC"])
    (parts,) = read_predictions(table).values()
    assert [part[:2] for part in parts] == [(2, 0), (2, 1), (3, 0), (3, 1)] and parts[0].case_id.tolist() == [
        "c0",
        "c1",
        "c2",
    ]
    assert parts[0].label.tolist() == [0, 1, 0] and parts[0].probability.shape == (3, 2)


def table_of(skills: dict[str, float], *, seeds: int, noise: float = 0.0) -> pd.DataFrame:
    """Answers of some models to the same slides; `noise` is what a seed adds to a model's skill."""
    rng, rows = np.random.default_rng(5), []
    for model, skill in skills.items():
        for seed in range(seeds):
            part = predictions(n=300, classes=2, skill=skill + noise * rng.standard_normal(), run=seed)
            rows += [
                (model, seed, 0, f"s{i:03}", case, y, *p)
                for i, (case, y, p) in enumerate(zip(part.case_id, part.label, part.probability, strict=True))
            ]
    columns = ["model", "seed", "fold", "slide_id", "case_id", "label", "p_a", "p_b"]
    return pd.DataFrame(rows, columns=columns)


def test_seeds_are_averaged_and_five_of_them_widen_the_interval():
    table = table_of({"m": 0.5}, seeds=5, noise=0.3)
    found = score_table(table, draws=400, seed=0).set_index("metric").loc["auroc"]
    each = [roc_auc_score(part["label"], part["p_b"]) for _, part in table.groupby("seed")]
    assert found["value"] == pytest.approx(np.mean(each)) and (found["seeds"], found["folds"]) == (5, 1)
    spread = np.std(each, ddof=1) / np.sqrt(5)
    assert found["high"] < 1 and found["high"] - found["low"] > 2 * 1.96 * spread
    four = score_table(table[table["seed"] < 4], draws=400, seed=0).set_index("metric").loc["auroc"]
    assert (
        four["value"] == pytest.approx(np.mean(each[:4])) and four["high"] - four["low"] < found["high"] - found["low"]
    )


def test_a_verdict_on_models_needs_five_seeds():
    skills = {"good": 1.5, "poor": 0.2, "same": 1.5}
    few, many = (
        paired_table(table_of(skills, seeds=s, noise=0.05), model="good", draws=400, seed=0).set_index(
            ["baseline", "metric"]
        )
        for s in (3, 5)
    )
    assert few.loc[("poor", "auroc"), "verdict"] == "above in these runs"
    assert (
        many.loc[("poor", "auroc"), "verdict"] == "above" and many.loc[("same", "auroc"), "verdict"] == "not told apart"
    )
    assert (many["n_seeds"] == 5).all() and many.loc[("poor", "auroc"), "above"] == 5
