"""Scores of bag classification: AUROC, balanced accuracy and quadratic kappa, with intervals and paired differences.

Every interval resamples patients with all their slides, in all folds at once: test sets of published folds overlap, so
the spread over folds is no standard error. Five seeds or more are counted too, as `evaluation.verdicts` does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from slidesieve.evaluation.auroc import one_vs_rest
from slidesieve.evaluation.stats import Estimate, Tested, interval_of, resampled_weights, tested
from slidesieve.evaluation.verdicts import SEEDS, Runs, judged, over_seeds


class Predictions(NamedTuple):
    """One training's answers on the test slides of one fold."""

    seed: int
    fold: int
    case_id: np.ndarray
    label: Int[np.ndarray, " s"]
    probability: Float[np.ndarray, "s c"]


def score(parts: Sequence[Predictions], metric: str, *, draws: int, seed: int) -> Estimate:
    """The metric's mean over folds and seeds, and its 95 % interval: over seeds too where they are enough."""
    runs, patients = _runs(parts, METRICS[metric], draws=draws, seed=seed)
    if len(runs.value) < SEEDS:
        return interval_of(float(runs.value.mean()), runs.resampled.mean(axis=1))
    value, low, high = over_seeds([runs], (1,), n_patients=patients).estimate
    return Estimate(value, low, min(1.0, high))


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: str, *, draws: int, seed: int) -> Tested:
    """Metric of a minus that of b, a mean over folds and seeds, on the same slides and resamplings of patients."""
    for left, right in zip(a, b, strict=True):
        if left[:2] != right[:2] or (left.case_id != right.case_id).any() or (left.label != right.label).any():
            raise ValueError(f"fold {left.fold}: the two models were not tested on the same slides; run both again")
    (one, patients), (other, _) = (_runs(x, METRICS[metric], draws=draws, seed=seed) for x in (a, b))
    if len(one.value) >= SEEDS:
        return over_seeds([one, other], (1, -1), n_patients=patients)
    apart = one.resampled.mean(axis=1) - other.resampled.mean(axis=1)
    return tested(float(one.value.mean() - other.value.mean()), apart, n_patients=patients)


def _runs(parts: Sequence[Predictions], metric: Callable, *, draws: int, seed: int) -> tuple[Runs, int]:
    """Each seed's mean over folds, as it is and in each resampling, and the number of patients.

    A fold without a class is left out of a draw.
    """
    cases = np.unique(np.concatenate([part.case_id for part in parts]))
    place = [np.searchsorted(cases, part.case_id) for part in parts]
    seeds = np.array([part.seed for part in parts])
    value = np.array([metric(part, np.ones((1, len(part.label))))[0] for part in parts])
    resampled = []
    for weight in resampled_weights(len(cases), draws=draws, seed=seed):
        by_part = np.stack([metric(part, weight[:, at]) for part, at in zip(parts, place, strict=True)], axis=1)
        resampled.append(np.stack([_mean(by_part[:, seeds == s]) for s in np.unique(seeds)], axis=1))
    means = np.array([value[seeds == s].mean() for s in np.unique(seeds)])
    return Runs(means, np.concatenate(resampled)), len(cases)


def _mean(by_fold: Float[np.ndarray, "r f"]) -> Float[np.ndarray, " r"]:
    """Mean over the folds where there is a score; nan where there is none."""
    scored = np.isfinite(by_fold).sum(axis=1)
    none = np.full(len(scored), np.nan)
    return np.divide(np.nansum(by_fold, axis=1), scored, out=none, where=scored > 0)


def weighted_auroc(part: Predictions, weight: Float[np.ndarray, "r s"]) -> Float[np.ndarray, " r"]:
    """One-vs-rest AUROC averaged over classes; nan where a class is absent."""
    return one_vs_rest(part.probability, part.label, weight)


def weighted_balanced_accuracy(part: Predictions, weight: Float[np.ndarray, "r s"]) -> Float[np.ndarray, " r"]:
    """Recall averaged over the classes that are present."""
    table = confusion(part, weight)
    of_class = table.sum(-1)
    recall = np.divide(
        np.diagonal(table, axis1=1, axis2=2), of_class, out=np.full(of_class.shape, np.nan), where=of_class > 0
    )
    return np.nanmean(recall, axis=-1)


def weighted_kappa(part: Predictions, weight: Float[np.ndarray, "r s"]) -> Float[np.ndarray, " r"]:
    """Cohen's kappa with quadratic weights: agreement beyond chance, errors by squared distance."""
    table = confusion(part, weight)
    far = np.subtract.outer(np.arange(table.shape[1]), np.arange(table.shape[1])) ** 2
    expected = table.sum(2)[:, :, None] * table.sum(1)[:, None, :] / table.sum((1, 2))[:, None, None]
    chance = (far * expected).sum((1, 2))
    return 1 - np.divide((far * table).sum((1, 2)), chance, out=np.full(len(table), np.nan), where=chance > 0)


def confusion(part: Predictions, weight: Float[np.ndarray, "r s"]) -> Float[np.ndarray, "r c c"]:
    """Weighted counts of slides by class and by most probable class, a table for each row of weights."""
    c = part.probability.shape[1]
    cell = part.label * c + part.probability.argmax(1)
    return (weight @ np.eye(c * c)[cell]).reshape(-1, c, c)


METRICS = {"auroc": weighted_auroc, "balanced_accuracy": weighted_balanced_accuracy, "kappa": weighted_kappa}


def read_predictions(table: pd.DataFrame) -> dict[str, list[Predictions]]:
    """A table of `model, seed, fold, slide_id, case_id, label, p_<class> ...` as each model's trainings."""
    columns = [name for name in table if name.startswith("p_")]
    return {
        model: [
            Predictions(*run, of["case_id"].to_numpy(str), of["label"].to_numpy(int), of[columns].to_numpy(float))
            for run, of in part.sort_values("slide_id").groupby(["seed", "fold"])
        ]
        for model, part in table.groupby("model", sort=False)
    }


def of_fold(table: pd.DataFrame) -> dict[str, float]:
    """Every metric of one model on one fold."""
    ((part,),) = read_predictions(table).values()
    return {name: float(metric(part, np.ones((1, len(part.label))))[0]) for name, metric in METRICS.items()}


def fold_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows `model, seed, fold, auroc, balanced_accuracy, kappa`."""
    groups = predictions.groupby(run := ["model", "seed", "fold"], sort=False)
    return pd.DataFrame([dict(zip(run, names, strict=True)) | of_fold(part) for names, part in groups])


def score_table(predictions: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """Rows `model, metric, seeds, folds, value, low, high`: means over folds and seeds with their intervals."""
    rows = [
        (model, metric, *_counts(parts), *score(parts, metric, draws=draws, seed=seed))
        for model, parts in read_predictions(predictions).items()
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "seeds", "folds", *Estimate._fields])


def paired_table(predictions: pd.DataFrame, *, model: str, draws: int, seed: int) -> pd.DataFrame:
    """Rows of `model` less another, by metric, with p corrected and verdict (`verdicts.judged`).

    `above` counts the folds and seeds in which it is higher; Holm's correction is over the baselines.
    """
    parts = read_predictions(predictions)
    each = fold_table(predictions).set_index(["model", "seed", "fold"]).sort_index()
    rows = []
    for baseline in [name for name in parts if name != model]:
        for metric in METRICS:
            told = difference(parts[model], parts[baseline], metric, draws=draws, seed=seed)
            above = int((each.loc[model, metric] > each.loc[baseline, metric]).sum())
            patients = len({case for part in parts[model] for case in part.case_id})
            rows.append((baseline, metric, *_counts(parts[model]), patients, above, *told.estimate, told.p))
    columns = ["baseline", "metric", "n_seeds", "folds", "n_patients", "above", "difference", "low", "high", "p"]
    return judged(pd.DataFrame(rows, columns=columns), ["metric"])


def _counts(parts: Sequence[Predictions]) -> tuple[int, int]:
    return len({part.seed for part in parts}), len({part.fold for part in parts})


def readable(scores: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `shown`: value (low-high)."""
    return scores.assign(
        shown=[f"{value:.3f} ({low:.3f}-{high:.3f})" for value, low, high in scores[list(Estimate._fields)].to_numpy()]
    )
