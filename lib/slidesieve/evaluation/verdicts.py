"""Do two methods differ? A run is what it is by its seed and by the patients asked about: verdicts count both.

A method's score is the mean of y_s over its S seeds. With y_s(w) the same scores in a resampling w of the P patients,
one w for all runs of both methods,

    V_seeds    = var_s(y_s) / S                                      what a seed does, also to single patients
    V_both     = sum_s var_w(y_s(w) - mean_s y_s(w)) / (S (S - 1))   the latter alone, which patients hold too
    V_patients = max(0, var_w(difference of the methods) - V_both of each)
    V          = V_seeds of each + V_patients

The interval is difference +- t V^0.5, with Satterthwaite's degrees of freedom: S - 1 for each method's seeds, P - 1 for
the patients. Where V = 0 though patients differ (all seeds score the same, each on patients of its own) it is what
resampling shows, V_both left in; where nothing differs at all, that is no certainty: `stats.unspread`. Seeds of two
methods are independent runs; where variants of one method share seeds, start and order of slides, their differences by
seed are one sample. A bootstrap of both ways at once is too narrow where five seeds differ much, and too wide where
single answers do (Owen and Eckles 2012); so this is our own choice, held by simulation in the tests. Fewer than five
seeds tell of these runs only: patients are resampled, seeds are not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from slidesieve.evaluation.stats import (
    LEVEL,
    Estimate,
    Tested,
    clustered_accuracy,
    clustered_mean,
    resampled_weights,
    signs,
    unspread,
    wilson,
)

SEEDS = 5  # fewer say nothing of a method
FEWEST_QUESTIONS, FEWEST_PATIENTS = 30, 10  # fewer of either tell nothing, whatever an interval says
TOO_FEW = "too few to tell"
SAME = 1e-12  # a difference below it is rounding
UNTOLD, THESE_RUNS = "not told apart", " in these runs"


class Runs(NamedTuple):
    """The scores of one method's runs, a value a seed, and the same in each resampling of the patients."""

    value: Float[np.ndarray, " s"]
    resampled: Float[np.ndarray, "r s"]


def mean_runs(part: pd.DataFrame, value: pd.Series, *, draws: int, seed: int) -> Runs:
    """Means of a value over the rows of each seed; `part` has `seed` and `case_id` of these rows."""
    by_run = [value.index[part["seed"] == s] for s in sorted(part["seed"].unique())]
    cases = np.unique(part["case_id"].to_numpy(str))
    place = pd.Series(np.searchsorted(cases, part["case_id"].to_numpy(str)), index=part.index)
    of = [(place[rows].to_numpy(), value[rows].to_numpy(float)) for rows in by_run]
    total = np.stack([np.bincount(at, v, len(cases)) for at, v in of], axis=1)
    count = np.stack([np.bincount(at, minlength=len(cases)) for at, _ in of], axis=1).astype(float)
    blocks = [(w @ total) / (w @ count) for w in resampled_weights(len(cases), draws=draws, seed=seed)]
    return Runs(total.sum(0) / count.sum(0), np.concatenate(blocks))


def over_seeds(methods: Sequence[Runs], added: Sequence[int], *, n_patients: int) -> Tested:
    """Test the sum of the methods' mean scores, each +1 or -1 times as `added` says, against zero.

    Seeds of two methods are independent. Undefined (nan, no p) without two seeds of each and two patients, or where a
    score is.
    """
    value = float(sum(sign * runs.value.mean() for sign, runs in zip(added, methods, strict=True)))
    if np.isnan(value) or n_patients < 2 or min(len(runs.value) for runs in methods) < 2:
        return Tested(Estimate(value, np.nan, np.nan), np.nan)
    seeds, both = [], 0.0
    for runs in methods:
        s = len(runs.value)
        apart = runs.resampled - runs.resampled.mean(axis=1, keepdims=True)
        both += float(np.nanvar(apart, axis=0, ddof=1).sum()) / (s * (s - 1))
        seeds.append((float(runs.value.var(ddof=1)) / s, s - 1))
    together = sum(sign * runs.resampled.mean(axis=1) for sign, runs in zip(added, methods, strict=True))
    spread = float(np.nanvar(together, ddof=1))
    if spread < SAME**2 and all(v < SAME**2 for v, _ in seeds):
        return Tested(unspread(value, n_patients), signs(n_patients) if abs(value) > SAME else 1.0)
    parts = [*seeds, (max(0.0, spread - both), n_patients - 1)]
    if sum(v for v, _ in parts) < SAME**2:  # all seeds score the same, on patients of their own each
        parts = [(spread, n_patients - 1)]
    variance = sum(v for v, _ in parts)
    freedom = variance**2 / sum(v**2 / df for v, df in parts)
    error = float(np.sqrt(variance))
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    return Tested(Estimate(value, value - half, value + half), float(2 * student.sf(abs(value) / error, freedom)))


def between_methods(part: pd.DataFrame, one: pd.Series, other: pd.Series, *, draws: int, seed: int) -> Tested:
    """Test `one` minus `other`, values of two methods in the same rows of `seed` and `case_id`."""
    if not of_methods(part):
        how = {"draws": draws, "seed": seed, "least": -1.0, "most": 1.0}
        return clustered_mean((one - other).to_numpy(float), part["case_id"].to_numpy(str), **how)
    runs = [mean_runs(part, value, draws=draws, seed=seed) for value in (one, other)]
    return over_seeds(runs, (1, -1), n_patients=part["case_id"].nunique())


def between_variants(part: pd.DataFrame, difference: pd.Series, *, draws: int, seed: int) -> Tested:
    """Test the mean of a difference, seed by seed of variants that share their start and order of slides."""
    if not of_methods(part):
        how = {"draws": draws, "seed": seed, "least": -1.0, "most": 1.0}
        return clustered_mean(difference.to_numpy(float), part["case_id"].to_numpy(str), **how)
    runs = [mean_runs(part, difference, draws=draws, seed=seed)]
    return over_seeds(runs, (1,), n_patients=part["case_id"].nunique())


def accuracy_of_runs(part: pd.DataFrame, *, draws: int, seed: int) -> Estimate:
    """Share of right answers over all seeds; the interval counts the seeds where there are enough."""
    if not of_methods(part):
        return clustered_accuracy(part["correct"].to_numpy(bool), part["case_id"].to_numpy(str), draws=draws, seed=seed)
    runs = mean_runs(part, part["correct"].astype(float), draws=draws, seed=seed)
    n_patients = part["case_id"].nunique()
    value, low, high = over_seeds([runs], (1,), n_patients=n_patients).estimate
    if max(np.ptp(runs.value), np.ptp(runs.resampled)) < SAME:
        return wilson(value * n_patients, n_patients)
    return Estimate(value, max(0.0, low), min(1.0, high))


def of_methods(part: pd.DataFrame) -> bool:
    """Say whether these rows are of seeds enough for a verdict on a method."""
    return part["seed"].nunique() >= SEEDS


def judged(table: pd.DataFrame, families: Sequence[str]) -> pd.DataFrame:
    """Add `p_holm`, corrected over the rows of a family, and `verdict`: above, below or not told apart.

    `families` are columns; the table has `difference`, `p`, `n_seeds` and, where they are known, `n_patients` and
    `n_pairs` (questions, over all seeds). Fewer than five seeds are worded "in these runs"; of too few questions or
    patients it is said that they are. A row without p has no verdict.
    """
    p_holm = pd.Series(np.nan, index=table.index, dtype=float)
    for _, part in table[table["p"].notna()].groupby([*families]):
        p_holm[part.index] = holm(part["p"].to_numpy(float))
    words = np.where(p_holm < 1 - LEVEL, np.where(table["difference"] < 0, "below", "above"), UNTOLD)
    few = np.where(table["n_seeds"] < SEEDS, THESE_RUNS, "")
    verdict = np.where(_too_few_rows(table), TOO_FEW, np.char.add(words.astype(str), few.astype(str)))
    return table.assign(p_holm=p_holm, verdict=np.where(table["p"].notna(), verdict, ""))


def too_few(n_questions: int, n_patients: int) -> bool:
    """Say whether so few questions, or patients, were asked about that no verdict should be read."""
    return n_questions < FEWEST_QUESTIONS or n_patients < FEWEST_PATIENTS


def _too_few_rows(table: pd.DataFrame) -> list[bool]:
    enough = pd.Series(np.inf, index=table.index)
    questions = table["n_pairs"] // table["n_seeds"].clip(lower=1) if "n_pairs" in table else enough
    return [too_few(*n) for n in zip(questions, table.get("n_patients", enough), strict=True)]


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return Holm's adjusted p: the i-th smallest of m times m - i + 1, not below a smaller one's, at most 1."""
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted
