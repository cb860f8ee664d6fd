"""Scores with honest intervals: accuracy clustered by slide, paired differences, AUROC, and floors without an image.

A slide with many questions is one draw, not many: every bootstrap resamples whole slides.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import binomtest, norm

from lib.questions import Question

LEVEL = 0.95
Z = float(norm.ppf((1 + LEVEL) / 2))
DRAWS_AT_ONCE = 250


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Tested(NamedTuple):
    """A value with its 95 % interval, and p: the least level at which the percentile interval leaves zero out."""

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
    correct: Bool[np.ndarray, " q"], slide: Shaped[np.ndarray, " q"], *, draws: int, seed: int
) -> Estimate:
    """Return the share of correct answers with a percentile interval over `draws` resamplings of slides.

    Where every slide has the same share (all right, one slide only) resampling shows no spread; the interval is then
    Wilson's with the number of slides as n.
    """
    right, asked = _per_slide(correct.astype(float), slide)
    value = float(right.sum() / asked.sum())
    if np.ptp(right / asked) == 0:
        return wilson(value * len(asked), len(asked))
    return interval_of(value, _resampled_ratio(right, asked, draws=draws, seed=seed))


def paired_difference(
    a: Bool[np.ndarray, " q"],
    b: Bool[np.ndarray, " q"],
    slide: Shaped[np.ndarray, " q"],
    *,
    draws: int,
    seed: int,
) -> Paired:
    """Compare two methods answer by answer; the interval is clustered by slide, McNemar's test is not."""
    difference = clustered_mean(a.astype(float) - b.astype(float), slide, draws=draws, seed=seed).estimate
    return Paired(difference, *mcnemar(a, b))


def mcnemar(a: Bool[np.ndarray, " q"], b: Bool[np.ndarray, " q"]) -> tuple[int, int, float]:
    """Return how many answers only a, only b got right, and McNemar's exact two-sided p."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def clustered_mean(value: Float[np.ndarray, " q"], slide: Shaped[np.ndarray, " q"], *, draws: int, seed: int) -> Tested:
    """Return the mean over all rows, resampling slides with all their rows, and the two-sided p of a mean of zero.

    Raises ValueError without rows.
    """
    total, count = _per_slide(value, slide)
    return tested(float(total.sum() / count.sum()), _resampled_ratio(total, count, draws=draws, seed=seed))


def auroc(
    score: Float[np.ndarray, " s"], positive: Bool[np.ndarray, " s"], weight: Float[np.ndarray, "r s"]
) -> Float[np.ndarray, " r"]:
    """Return the area under the ROC curve for each row of slide weights; ties count half; nan without both classes."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    tied = np.add.reduceat(np.stack([weight * positive, weight * ~positive])[:, :, order], starts, axis=-1)
    negatives_below = np.cumsum(tied[1], axis=-1) - tied[1] / 2
    pairs = tied.sum(axis=-1).prod(axis=0)
    won = (tied[0] * negatives_below).sum(axis=-1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def one_vs_rest(
    probability: Float[np.ndarray, "s c"], label: Int[np.ndarray, " s"], weight: Float[np.ndarray, "r s"]
) -> Float[np.ndarray, " r"]:
    """Return AUROC averaged over classes for each row of weights, of two classes the usual one; nan without a class."""
    classes = range(1, 2) if probability.shape[1] == 2 else range(probability.shape[1])
    return np.mean([auroc(probability[:, c], label == c, weight) for c in classes], axis=0)


def macro_auroc(
    probability: Float[np.ndarray, "s c"], label: Int[np.ndarray, " s"], *, draws: int, seed: int
) -> Estimate:
    """Return the one-vs-rest AUROC averaged over classes (two classes: the usual AUROC) with a bootstrap interval.

    Raises ValueError where a class has no slide: the average would silently be over fewer classes.
    """
    absent = set(range(probability.shape[1])) - set(label.tolist())
    if absent:
        raise ValueError(f"AUROC: no slide of class {sorted(absent)}; expected every class; join folds or drop it")

    value = one_vs_rest(probability, label, np.ones((1, len(label))))[0]
    resampled = [
        one_vs_rest(probability, label, weight) for weight in resampled_weights(len(label), draws=draws, seed=seed)
    ]
    return interval_of(float(value), np.concatenate(resampled))


def majority_letter(train: Sequence[Question], asked: Sequence[Question]) -> list[int]:
    """Answer each question with the letter that is right most often in its kind's training key.

    A kind without training questions takes the letter of all kinds; a letter that is not offered counts as wrong.
    """
    counts = _letter_counts(train)
    return [int(np.argmax(counts.get(question.kind, counts[None]))) for question in asked]


def majority_option(train: Sequence[Question], asked: Sequence[Question]) -> list[int]:
    """Answer with the offered option whose words are right most often in its kind's training key (first if tied)."""
    counts: dict[tuple[str, str], int] = {}
    for question in train:
        key = (question.kind, question.options[question.answer])
        counts[key] = counts.get(key, 0) + 1
    return [int(np.argmax([counts.get((q.kind, option), 0) for option in q.options])) for q in asked]


def longest_option(asked: Sequence[Question]) -> list[int]:
    """Answer with the option of most characters, the first of equals."""
    return [int(np.argmax([len(option) for option in question.options])) for question in asked]


def _letter_counts(train: Sequence[Question]) -> dict[str | None, Int[np.ndarray, " 4"]]:
    counts: dict[str | None, Int[np.ndarray, " 4"]] = {None: np.zeros(4, dtype=int)}
    for question in train:
        counts.setdefault(question.kind, np.zeros(4, dtype=int))[question.answer] += 1
        counts[None][question.answer] += 1
    return counts


def _per_slide(
    value: Float[np.ndarray, " q"], slide: Shaped[np.ndarray, " q"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Sum the value over each slide's questions, and count them."""
    if len(value) == 0:
        raise ValueError("score: got no questions; expected at least one; check the group or the split")
    _, index = np.unique(slide, return_inverse=True)
    return np.bincount(index, value), np.bincount(index).astype(float)


def resampled_weights(s: int, *, draws: int, seed: int) -> Iterator[Float[np.ndarray, "r s"]]:
    """Yield how often each of s slides is drawn, a block of resamplings at a time (memory stays linear in s)."""
    generator = np.random.default_rng(seed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        yield generator.multinomial(s, np.full(s, 1 / s), size=size).astype(float)


def _resampled_ratio(
    numerator: Float[np.ndarray, " s"], denominator: Float[np.ndarray, " s"], *, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    blocks = resampled_weights(len(numerator), draws=draws, seed=seed)
    return np.concatenate([(weight @ numerator) / (weight @ denominator) for weight in blocks])


def tested(value: float, resampled: Float[np.ndarray, " draws"]) -> Tested:
    """Return a value with its interval and the two-sided p of zero, from its resamplings.

    p = 2 min(#(draw <= 0) + 1, #(draw >= 0) + 1) / (draws + 1), at most 1: never below 2 / (draws + 1).
    """
    fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return Tested(interval_of(value, resampled), min(1.0, float(2 * (fewer + 1) / (len(resampled) + 1))))


def interval_of(value: float, resampled: Float[np.ndarray, " draws"]) -> Estimate:
    """Return a value with the percentile interval of its resamplings; nan draws are left out."""
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
