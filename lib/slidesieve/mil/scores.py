"""Scores of bag classification: AUROC, balanced accuracy and quadratic kappa, with intervals and paired differences.

Every interval resamples patients with all their slides, in all folds at once: test sets of published folds overlap, so
the spread over folds is no standard error.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from slidesieve.evaluation.auroc import one_vs_rest
from slidesieve.evaluation.stats import Estimate, Tested, interval_of, resampled_weights, tested


class Predictions(NamedTuple):
    """One model's answers on the test slides of one fold."""

    fold: int
    case_id: np.ndarray
    label: Int[np.ndarray, " s"]
    probability: Float[np.ndarray, "s c"]


def score(parts: Sequence[Predictions], metric: str, *, draws: int, seed: int) -> Estimate:
    """The metric's mean over folds and its 95 % interval."""
    value, resampled = _over_folds(parts, METRICS[metric], draws=draws, seed=seed)
    return interval_of(value, resampled)


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: str, *, draws: int, seed: int) -> Tested:
    """Metric of a minus that of b, a mean over folds, on the same slides and the same resamplings of patients."""
    for left, right in zip(a, b, strict=True):
        if left.fold != right.fold or (left.case_id != right.case_id).any() or (left.label != right.label).any():
            raise ValueError(f"fold {left.fold}: the two models were not tested on the same slides; run both again")
    (value_a, draws_a), (value_b, draws_b) = (_over_folds(x, METRICS[metric], draws=draws, seed=seed) for x in (a, b))
    return tested(value_a - value_b, draws_a - draws_b)


def _over_folds(
    parts: Sequence[Predictions], metric: Callable, *, draws: int, seed: int
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """The metric's mean over folds, as it is and in each resampling; a fold without a class is left out of a draw."""
    cases = np.unique(np.concatenate([part.case_id for part in parts]))
    value = np.mean([metric(part, np.ones((1, len(part.label))))[0] for part in parts])
    resampled = []
    for weight in resampled_weights(len(cases), draws=draws, seed=seed):
        by_fold = np.stack([metric(part, weight[:, np.searchsorted(cases, part.case_id)]) for part in parts])
        scored = np.isfinite(by_fold).sum(axis=0)
        none = np.full(len(scored), np.nan)
        resampled.append(np.divide(np.nansum(by_fold, axis=0), scored, out=none, where=scored > 0))
    return float(value), np.concatenate(resampled)


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
    """A table of `model, fold, slide_id, case_id, label, p_<class> ...` as each model's folds."""
    columns = [name for name in table if name.startswith("p_")]
    return {
        model: [
            Predictions(int(fold), of["case_id"].to_numpy(str), of["label"].to_numpy(int), of[columns].to_numpy(float))
            for fold, of in part.sort_values("slide_id").groupby("fold")
        ]
        for model, part in table.groupby("model", sort=False)
    }


def of_fold(table: pd.DataFrame) -> dict[str, float]:
    """Every metric of one model on one fold."""
    ((part,),) = read_predictions(table).values()
    return {name: float(metric(part, np.ones((1, len(part.label))))[0]) for name, metric in METRICS.items()}


def fold_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows `model, fold, auroc, balanced_accuracy, kappa`."""
    groups = predictions.groupby(["model", "fold"], sort=False)
    return pd.DataFrame([{"model": model, "fold": fold, **of_fold(part)} for (model, fold), part in groups])


def score_table(predictions: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """Rows `model, metric, folds, value, low, high`: means over folds with their intervals."""
    rows = [
        (model, metric, len(parts), *score(parts, metric, draws=draws, seed=seed))
        for model, parts in read_predictions(predictions).items()
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "folds", *Estimate._fields])


def paired_table(predictions: pd.DataFrame, *, model: str, draws: int, seed: int) -> pd.DataFrame:
    """Rows `baseline, metric, folds, folds_above, difference, low, high, p`: `model` minus each other model."""
    parts, by_fold = read_predictions(predictions), fold_table(predictions).set_index(["model", "fold"])
    rows = []
    for baseline in [name for name in parts if name != model]:
        for metric in METRICS:
            told = difference(parts[model], parts[baseline], metric, draws=draws, seed=seed)
            above = int((by_fold.loc[model, metric] > by_fold.loc[baseline, metric]).sum())
            rows.append((baseline, metric, len(parts[model]), above, *told.estimate, told.p))
    columns = ["baseline", "metric", "folds", "folds_above", "difference", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns)


def readable(scores: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `shown`: value (low-high)."""
    return scores.assign(
        shown=[f"{value:.3f} ({low:.3f}-{high:.3f})" for value, low, high in scores[list(Estimate._fields)].to_numpy()]
    )
