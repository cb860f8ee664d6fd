"""Method against method by AUROC, where a question is asked of many slides with the same options."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from slidesieve.datasets.questions import Question
from slidesieve.evaluation.auroc import asked_alike, classified, one_vs_rest, scored
from slidesieve.evaluation.pairs import pairings
from slidesieve.evaluation.stats import resampled_weights, tested
from slidesieve.evaluation.verdicts import SEEDS, Runs, judged, over_seeds

COLUMNS = ["method", "other", "k", "group", "n_seeds", "n_patients", "auc", "other_auc", "difference"]
COLUMNS += ["ci_low", "ci_high", "p"]


def auc_pairs(
    answers: pd.DataFrame, questions: Sequence[Question], costs: pd.DataFrame, *, draws: int, seed: int
) -> pd.DataFrame:
    """Return a row for every two rivals at each k that both have, and each question asked alike.

    AUROC is the mean over seeds of the mean over folds; differences are tested as `verdicts` says. A slide without an
    answer counts as undecided, as in `auroc.auc_scores`.
    """
    rows = []
    for group, asked in asked_alike(questions, answers).items():
        own = answers[answers["ID"].isin([q.id for q in asked]) & answers["method"].isin(scored(answers))]
        patients = np.unique(own["case_id"].to_numpy(str))
        runs = {
            name: auc_runs(part, asked, patients, draws=draws, seed=seed)
            for name, part in own.groupby(["method", "k"], sort=False)
        }
        for pair in pairings(answers, costs):
            two = [runs.get((name, pair.k)) for name in (pair.method, pair.other)]
            if pair.matched_by == "k" and None not in two:
                found = _tested(two, n_patients=len(patients))
                counts = (min(len(one.value) for one in two), len(patients), *(one.value.mean() for one in two))
                rows.append((pair.method, pair.other, pair.k, group, *counts, *found.estimate, found.p))
    return judged(pd.DataFrame(rows, columns=COLUMNS), ["group"])


def auc_runs(part: pd.DataFrame, asked: Sequence[Question], patients: np.ndarray, *, draws: int, seed: int) -> Runs:
    """The AUROC of one method's seeds, and in each resampling of `patients`; nan where a class is not drawn."""
    by_seed = [[classified(fold, asked) for _, fold in own.groupby("fold")] for _, own in part.groupby("seed")]
    places = [[np.searchsorted(patients, patient) for _, _, patient in folds] for folds in by_seed]
    weights = [np.ones((1, len(patients))), *resampled_weights(len(patients), draws=draws, seed=seed)]
    scored = [
        np.stack(
            [
                np.mean([one_vs_rest(p, label, w[:, at]) for (p, label, _), at in zip(folds, own, strict=True)], axis=0)
                for folds, own in zip(by_seed, places, strict=True)
            ],
            axis=1,
        )
        for w in weights
    ]
    return Runs(scored[0][0], np.concatenate(scored[1:]))


def _tested(two: Sequence[Runs], *, n_patients: int):
    if min(len(runs.value) for runs in two) >= SEEDS:
        return over_seeds(two, (1, -1), n_patients=n_patients)
    value, drawn = ([one.mean(axis=-1) for one in both] for both in zip(*two, strict=True))
    return tested(float(value[0] - value[1]), drawn[0] - drawn[1], n_patients=n_patients)
