"""Does the answer depend on how many tiles a slide has? Accuracy by length, and the same slides at several lengths."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from slidesieve.analyses.sentences import intervals, set_out
from slidesieve.answers.answering import answer
from slidesieve.answers.select import select
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.evaluation.selection import jaccard, retained
from slidesieve.evaluation.stats import Estimate, clustered_accuracy, interval_of, resampled_weights, wilson
from slidesieve.evaluation.verdicts import too_few
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView, n_tiles
from slidesieve.models.vlm import VLM

BIN_STARTS = (64, 128, 256, 512, 1024, 2048, 4097)
ANSWERS = ["ID", "Slide", "correct", "correct_full", "flipped", "size", "draw"]
KEPT = ["slide_id", "jaccard", "retained", "retained_chance", "size", "draw"]
SUMMARY = ["size", "n_slides", "n_questions", "accuracy", "ci_low", "ci_high", "accuracy_full"]
SUMMARY += ["flips", "flips_low", "flips_high", "jaccard", "retained", "retained_chance", "few"]
BIN_NAMES = ("<64", "64-128", "128-256", "256-512", "512-1024", "1024-2048", "2048-4096", ">4096")


class Bins(NamedTuple):
    """Bins of slides by their number of tiles: where all but the first begin, and what each is called."""

    starts: tuple[int, ...]
    names: tuple[str, ...]


PAPER = Bins(BIN_STARTS, BIN_NAMES)


class Trend(NamedTuple):
    """What a doubling of tiles does to the share of right answers, and what that was seen on; `few`: too few to tell.

    `value` and its ends are nan where all slides are of one length.
    """

    value: float
    ci_low: float
    ci_high: float
    n_questions: int
    n_slides: int
    shortest: int
    longest: int
    few: bool


class Stability(NamedTuple):
    """`answers`: size, draw, ID, Slide, correct, correct_full, flipped; `kept`: size, draw, slide_id, overlaps."""

    answers: pd.DataFrame
    kept: pd.DataFrame


def length_bin(n_tiles: Int[np.ndarray, " q"], bins: Bins = PAPER) -> Int[np.ndarray, " q"]:
    """Return which bin n tiles fall in; of the eight published ones 64 opens the second, 4096 is in the seventh."""
    return np.digitize(n_tiles, bins.starts)


def quantile_bins(n_tiles: Int[np.ndarray, " s"], *, most: int, fewest: int) -> Bins:
    """Cut slides at the quantiles of their lengths into as many bins, at most `most`, as leave `fewest` slides in each.

    Slides of one length stay together. One bin is left where all are of one length, or slides are too few for two.
    """
    ordered = np.sort(n_tiles)
    for many in range(most, 0, -1):
        cuts = np.unique(ordered[[i * len(ordered) // many for i in range(1, many)]])
        starts = cuts[cuts > ordered[0]]
        inside = np.digitize(ordered, starts)
        if len(starts) == 0 or np.bincount(inside).min() >= fewest:
            break
    ends = [(part.min(), part.max()) for part in (ordered[inside == i] for i in range(len(starts) + 1))]
    names = [f"{low:,} to {high:,}" if low < high else f"{low:,}" for low, high in ends]
    return Bins(tuple(starts.tolist()), tuple(names))


def accuracy_by_length(answers: pd.DataFrame, bins: Bins = PAPER, *, draws: int, seed: int) -> pd.DataFrame:
    """Count the answers of `lengthy` in each bin, and their accuracy, with intervals over patients and binomial ones.

    Numbers of a bin without questions are nan.
    """
    rows, place = [], length_bin(answers["n_tiles"].to_numpy(), bins)
    for number, name in enumerate(bins.names):
        part = answers[place == number]
        right, asked = int(part["correct"].sum()), len(part)
        numbers = (np.nan,) * 5
        if asked:
            correct, patient = part["correct"].to_numpy(bool), part["case_id"].to_numpy(str)
            clustered = clustered_accuracy(correct, patient, draws=draws, seed=seed)
            numbers = (*clustered, *wilson(right, asked)[1:])
        rows.append((name, asked, part["Slide"].nunique(), *numbers))
    columns = ["bin", "n_questions", "n_slides", "accuracy", "ci_low", "ci_high", "binomial_low", "binomial_high"]
    return pd.DataFrame(rows, columns=columns)


def lengthy(
    answers: pd.DataFrame, questions: Sequence[Question], bags: Mapping[str, Bag], cases: Mapping[str, str]
) -> pd.DataFrame:
    """Put beside each answer whether it is right, of whom its slide is, and how many tiles that has."""
    key = {question.id: LETTERS[question.answer] for question in questions}
    slide = answers["Slide"]
    tiles = {slide_id: n_tiles(bags, slide_id) for slide_id in slide.unique()}
    right = answers["predicted"] == answers["ID"].map(key)
    return answers[["ID", "Slide"]].assign(correct=right, case_id=slide.map(cases), n_tiles=slide.map(tiles))


def trend(answers: pd.DataFrame, *, draws: int, seed: int) -> Trend:
    """Fit the share of right answers of `lengthy` by a line over log2 of the tiles; the interval resamples patients."""
    tiles, slides = answers["n_tiles"], answers["Slide"].nunique()
    patients, index = np.unique(answers["case_id"].to_numpy(str), return_inverse=True)
    about = (len(answers), slides, int(tiles.min()), int(tiles.max()), too_few(len(answers), len(patients)))
    if tiles.nunique() < 2:
        return Trend(np.nan, np.nan, np.nan, *about)
    x, y = np.log2(tiles.to_numpy(float)), answers["correct"].to_numpy(float)
    x = x - x.mean()
    sums = np.stack([np.bincount(index, column) for column in (np.ones_like(x), x, y, x * x, x * y)], axis=1)
    blocks = [_slope(weight @ sums) for weight in resampled_weights(len(patients), draws=draws, seed=seed)]
    found: Estimate = interval_of(float(_slope(sums.sum(0)[None])[0]), np.concatenate(blocks))
    return Trend(*found, *about)


def _slope(sums: Float[np.ndarray, "r 5"]) -> Float[np.ndarray, " r"]:
    """Least squares from the sums of 1, x, y, x^2 and x y; nan where no two x differ."""
    n, x, y, xx, xy = sums.T
    apart = n * xx - x * x
    return np.divide(n * xy - x * y, apart, out=np.full(len(n), np.nan), where=apart > 1e-9 * n * n)


def random_tiles(slide_id: str, n: int, *, size: int, draw: int, seed: int) -> Int[np.ndarray, " size"]:
    """Draw `size` of a slide's n tiles, ascending; the draw depends on the slide's name, not on its batch-mates."""
    if size > n:
        raise ValueError(f"{slide_id}: got {n} tiles, expected at least {size}; leave this slide or this size out")
    generator = np.random.default_rng([seed, size, draw, zlib.crc32(slide_id.encode())])
    return np.sort(generator.choice(n, size=size, replace=False))


def stability(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    full: pd.DataFrame,
    sizes: Sequence[int],
    draws: int,
    seed: int,
    answer_form: str,
    batch_tokens: int,
) -> Stability:
    """Answer the same questions from `draws` random subsets of each size, and compare with the whole bag.

    `full` are the answers from whole bags. A slide takes part at the sizes below its own length, and each row stands
    beside the full-length result of that slide. Both tables are empty where no slide is longer than any size.
    """
    kept_full = select(model, bags, batch_tokens=batch_tokens)
    answers, kept = [pd.DataFrame(columns=ANSWERS)], [pd.DataFrame(columns=KEPT)]
    for size in sizes:
        longer = [slide_id for slide_id in bags if n_tiles(bags, slide_id) > size]
        for draw in range(draws if longer else 0):
            tiles = {s: random_tiles(s, n_tiles(bags, s), size=size, draw=draw, seed=seed) for s in longer}
            part = BagView(bags, longer, tiles=tiles)
            again = answer(model, questions, part, answer_form=answer_form, batch_tokens=batch_tokens)
            answers.append(_compare(full, again, questions).assign(size=size, draw=draw))
            kept_part = select(model, part, batch_tokens=batch_tokens)
            overlaps = [_overlap(s, kept_full[s][0], tiles[s][kept_part[s][0]], tiles[s]) for s in longer]
            kept.append(pd.DataFrame(overlaps).assign(size=size, draw=draw))
    return Stability(*(pd.concat(parts[1:] or parts, ignore_index=True) for parts in (answers, kept)))


def summary(result: Stability, cases: Mapping[str, str], *, draws: int, seed: int) -> pd.DataFrame:
    """Return one row a size: accuracy beside the same slides' full-length accuracy, flips, and overlap of kept tiles.

    Intervals resample patients `draws` times; `retained_chance` is what as many offered tiles at random retain; `few`
    where questions or patients are too few to tell.
    """
    rows = []
    for size, part in result.answers.groupby("size"):
        patient, kept = part["Slide"].map(cases).to_numpy(str), result.kept[result.kept["size"] == size]
        accuracy = clustered_accuracy(part["correct"].to_numpy(bool), patient, draws=draws, seed=seed)
        flips = clustered_accuracy(part["flipped"].to_numpy(bool), patient, draws=draws, seed=seed)
        overlap = kept[["jaccard", "retained", "retained_chance"]].mean()
        rows.append(
            {"size": size, "n_slides": part["Slide"].nunique(), "n_questions": part["ID"].nunique()}
            | dict(zip(("accuracy", "ci_low", "ci_high"), accuracy, strict=True))
            | {"accuracy_full": part["correct_full"].mean()}
            | dict(zip(("flips", "flips_low", "flips_high"), flips, strict=True))
            | overlap.to_dict()
            | {"few": too_few(part["ID"].nunique(), len(np.unique(patient)))}
        )
    return pd.DataFrame(rows, columns=SUMMARY)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Set out `accuracy_by_length` or `summary` for reading: shares in per cent, intervals in brackets."""
    name = table.columns[0]
    shown = {{"bin": "tiles", "size": "tiles offered"}[name]: table[name], "slides": table["n_slides"]}
    shown |= {"questions": table["n_questions"], "accuracy (%)": intervals(table, ("accuracy", "ci_low", "ci_high"))}
    if name == "size":
        shown["whole (%)"] = [f"{100 * share:.1f}" for share in table["accuracy_full"]]
        shown["answers changed (%)"] = intervals(table, ("flips", "flips_low", "flips_high"))
        for column, title in (("retained", "kept again (%)"), ("retained_chance", "at random (%)")):
            shown[title] = ["" if pd.isna(share) else f"{100 * share:.1f}" for share in table[column]]
    return set_out(shown)


def _compare(full: pd.DataFrame, part: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """Put each question's answer from a subset beside its answer from the whole bag."""
    key = {question.id: LETTERS[question.answer] for question in questions}
    both = part.merge(full[["ID", "predicted"]], on="ID", suffixes=("", "_full"))
    right = both["ID"].map(key)
    return both[["ID", "Slide"]].assign(
        correct=both["predicted"] == right,
        correct_full=both["predicted_full"] == right,
        flipped=both["predicted"] != both["predicted_full"],
    )


def _overlap(
    slide_id: str, full: Int[np.ndarray, " i"], part: Int[np.ndarray, " j"], offered: Int[np.ndarray, " m"]
) -> dict[str, object]:
    """Compare two kept sets in the numbering of the whole bag; nan for methods that keep no tile."""
    if len(full) == 0:
        return {"slide_id": slide_id, "jaccard": np.nan, "retained": np.nan, "retained_chance": np.nan}
    return {
        "slide_id": slide_id,
        "jaccard": jaccard(full, part),
        "retained": retained(full, part, offered),
        "retained_chance": len(part) / len(offered),
    }
