"""Scores of the runs at hand with honest intervals: accuracy clustered by patient, paired differences, the bootstrap.

A patient with many questions, or many slides, is one draw, not many: every bootstrap resamples whole patients. What a
training seed does is in none of these; `verdicts` speaks of methods.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from scipy.stats import binomtest, norm

LEVEL = 0.95
Z = float(norm.ppf((1 + LEVEL) / 2))
DRAWS_AT_ONCE = 250
KEPT = 2**25  # bytes of weights of one resampling that are kept; of at most 16 at once


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Tested(NamedTuple):
    """A value with its 95 % interval, and p: the least level at which the interval leaves zero out; nan: undefined."""

    estimate: Estimate
    p: float


class Paired(NamedTuple):
    """How method a differs from method b on the same questions: accuracy a - b, and McNemar's exact p."""

    difference: Estimate
    only_a: int
    only_b: int
    p: float


def wilson(successes: int | float, n: int) -> Estimate:
    """Return the share successes / n with Wilson's binomial interval; n > 0."""
    share, scale = successes / n, 1 + Z**2 / n
    centre = (share + Z**2 / (2 * n)) / scale
    half = Z / scale * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Estimate(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def clustered_accuracy(
    correct: Bool[np.ndarray, " q"], patient: Shaped[np.ndarray, " q"], *, draws: int, seed: int
) -> Estimate:
    """Return the share of correct answers with a percentile interval over `draws` resamplings of patients.

    Where every patient has the same share (all right, one patient only) resampling shows no spread; the interval is
    then Wilson's with the number of patients as n.
    """
    right, asked = _per_patient(correct.astype(float), patient)
    value = float(right.sum() / asked.sum())
    if np.ptp(right / asked) == 0:
        return wilson(value * len(asked), len(asked))
    return interval_of(value, _resampled_ratio(right, asked, draws=draws, seed=seed))


def paired_difference(
    a: Bool[np.ndarray, " q"],
    b: Bool[np.ndarray, " q"],
    patient: Shaped[np.ndarray, " q"],
    *,
    draws: int,
    seed: int,
) -> Paired:
    """Compare two methods answer by answer; the interval is clustered by patient, McNemar's test is not."""
    how = {"draws": draws, "seed": seed, "least": -1.0, "most": 1.0}
    difference = clustered_mean(a.astype(float) - b.astype(float), patient, **how).estimate
    return Paired(difference, *mcnemar(a, b))


def mcnemar(a: Bool[np.ndarray, " q"], b: Bool[np.ndarray, " q"]) -> tuple[int, int, float]:
    """Return how many answers only a, only b got right, and McNemar's exact two-sided p."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def clustered_mean(
    value: Float[np.ndarray, " q"],
    patient: Shaped[np.ndarray, " q"],
    *,
    draws: int,
    seed: int,
    least: float = -np.inf,
    most: float = np.inf,
) -> Tested:
    """Return the mean over all rows, resampling patients with all their rows, and the two-sided p of a mean of zero.

    Of a single patient there is nothing to resample: no interval and no p. Where all patients have the same mean, and
    `least` and `most` say what a value can be at all, the interval is `unspread`. Raises ValueError without rows.
    """
    total, count = _per_patient(value, patient)
    if len(total) == 1:
        return Tested(Estimate(float(total[0] / count[0]), np.nan, np.nan), np.nan)
    mean = float(total.sum() / count.sum())
    found = tested(mean, _resampled_ratio(total, count, draws=draws, seed=seed), n_patients=len(total))
    if np.ptp(total / count) == 0 and np.isfinite(most - least):
        return found._replace(estimate=unspread(mean, len(total), least=least, most=most))
    return found


def unspread(value: float, n_patients: int, *, least: float = -1.0, most: float = 1.0) -> Estimate:
    """Return a mean with the interval that is left where all patients have the same, and resampling shows no spread.

    As Wilson's interval of a share of 1, it allows for z^2 / (P + z^2) of the patients to be otherwise, at the worst.
    """
    share = Z**2 / (n_patients + Z**2)
    return Estimate(value, value - (value - least) * share, value + (most - value) * share)


def signs(n_patients: int) -> float:
    """The least that a two-sided test of the signs of P patients can say: 2^(1 - P)."""
    return 2.0 ** (1 - n_patients)


def clustered_ratio(
    part: Float[np.ndarray, " r"],
    whole: Float[np.ndarray, " r"],
    patient: Shaped[np.ndarray, " r"],
    *,
    draws: int,
    seed: int,
) -> Estimate:
    """Return sum(part) / sum(whole) with its interval over resamplings of patients with all their rows.

    Of a single patient there is no interval, and of a whole of 0 no value. Raises ValueError without rows.
    """
    (of_part, _), (of_whole, _) = _per_patient(part, patient), _per_patient(whole, patient)
    if not of_whole.sum():
        return Estimate(np.nan, np.nan, np.nan)
    value = float(of_part.sum() / of_whole.sum())
    if len(of_whole) == 1:
        return Estimate(value, np.nan, np.nan)
    with np.errstate(invalid="ignore"):  # a draw of patients in whom nothing is planted
        return interval_of(value, _resampled_ratio(of_part, of_whole, draws=draws, seed=seed))


def _per_patient(
    value: Float[np.ndarray, " q"], patient: Shaped[np.ndarray, " q"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Sum the value over each patient's questions, and count them."""
    if len(value) == 0:
        raise ValueError("score: got no questions; expected at least one; check the group or the split")
    _, index = np.unique(patient, return_inverse=True)
    return np.bincount(index, value), np.bincount(index).astype(float)


def resampled_weights(n: int, *, draws: int, seed: int) -> Iterator[Float[np.ndarray, "r n"]]:
    """Yield how often each of n patients is drawn, a block of resamplings at a time (memory stays linear in n).

    Blocks are kept, a byte a weight, as a table asks for the same ones thousands of times.
    """
    if n * draws > KEPT:
        return _weights(n, draws, seed)
    return (block.astype(float) for block in _kept_weights(n, draws, seed))


@lru_cache(maxsize=16)
def _kept_weights(n: int, draws: int, seed: int) -> tuple[UInt8[np.ndarray, "r n"], ...]:
    return tuple(block.astype(np.uint8) for block in _weights(n, draws, seed))


def _weights(n: int, draws: int, seed: int) -> Iterator[Float[np.ndarray, "r n"]]:
    generator = np.random.default_rng(seed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        yield generator.multinomial(n, np.full(n, 1 / n), size=size).astype(float)


def _resampled_ratio(
    numerator: Float[np.ndarray, " p"], denominator: Float[np.ndarray, " p"], *, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    blocks = resampled_weights(len(numerator), draws=draws, seed=seed)
    return np.concatenate([(weight @ numerator) / (weight @ denominator) for weight in blocks])


def tested(value: float, resampled: Float[np.ndarray, " draws"], *, n_patients: int) -> Tested:
    """Return a value with its interval and the two-sided p of zero, from its resamplings.

    p = 2 min(#(draw <= 0) + 1, #(draw >= 0) + 1) / (draws + 1), at most 1. Where no draw reaches zero that is only how
    finely so many draws can tell, and no correction for many comparisons would leave anything of it: p is then what a
    normal distribution of the draws' spread has beyond zero, if that is less, but not below `signs`. Draws in which the
    score is undefined (nan) are left out; where the value is undefined, or no draw is left, so is p.
    """
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or len(known) == 0:
        return Tested(Estimate(value, np.nan, np.nan), np.nan)
    fewer = min((known <= 0).sum(), (known >= 0).sum())
    p = min(1.0, float(2 * (fewer + 1) / (len(known) + 1)))
    if fewer == 0:
        spread = float(known.std())
        tail = 2 * float(norm.sf(abs(value) / spread)) if spread else 0.0
        p = min(p, max(tail, signs(n_patients)))
    return Tested(interval_of(value, known), p)


def interval_of(value: float, resampled: Float[np.ndarray, " draws"]) -> Estimate:
    """Return a value with the percentile interval of its resamplings; nan draws are left out."""
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
