"""Does the answer depend on how many tiles a slide has? Accuracy by length, and the same slides at several lengths."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from slidesieve.answers.answering import answer
from slidesieve.answers.select import select
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.evaluation.selection import jaccard, retained
from slidesieve.evaluation.stats import clustered_accuracy, wilson
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView, n_tiles
from slidesieve.models.vlm import VLM

BIN_STARTS = (64, 128, 256, 512, 1024, 2048, 4097)
BIN_NAMES = ("<64", "64-128", "128-256", "256-512", "512-1024", "1024-2048", "2048-4096", ">4096")


class Stability(NamedTuple):
    """`answers`: size, draw, ID, Slide, correct, correct_full, flipped; `kept`: size, draw, slide_id, overlaps."""

    answers: pd.DataFrame
    kept: pd.DataFrame


def length_bin(n_tiles: Int[np.ndarray, " q"]) -> Int[np.ndarray, " q"]:
    """Return which of the eight published bins n tiles fall in: 64 opens the second, 4096 is in the seventh."""
    return np.digitize(n_tiles, BIN_STARTS)


def accuracy_by_length(
    correct: Bool[np.ndarray, " q"],
    slide: Shaped[np.ndarray, " q"],
    patient: Shaped[np.ndarray, " q"],
    n_tiles: Int[np.ndarray, " q"],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Count questions in each bin, and their accuracy, with intervals over patients and binomial ones; nan if empty."""
    rows = []
    for number, name in enumerate(BIN_NAMES):
        inside = length_bin(n_tiles) == number
        right, asked = int(correct[inside].sum()), int(inside.sum())
        nothing = (np.nan,) * 5
        numbers = nothing
        if asked:
            clustered = clustered_accuracy(correct[inside], patient[inside], draws=draws, seed=seed)
            numbers = (*clustered, *wilson(right, asked)[1:])
        rows.append((name, asked, len(np.unique(slide[inside])), *numbers))
    columns = ["bin", "n_questions", "n_slides", "accuracy", "ci_low", "ci_high", "binomial_low", "binomial_high"]
    return pd.DataFrame(rows, columns=columns)


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
    beside the full-length result of that slide. Raises ValueError if no slide is longer than any size.
    """
    kept_full = select(model, bags, batch_tokens=batch_tokens)
    answers, kept = [], []
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
    if not answers:
        longest = max(n_tiles(bags, s) for s in bags)
        raise ValueError(f"sizes: got {list(sizes)}, the longest slide has {longest} tiles; give smaller sizes")
    return Stability(pd.concat(answers, ignore_index=True), pd.concat(kept, ignore_index=True))


def summary(result: Stability, cases: Mapping[str, str], *, draws: int, seed: int) -> pd.DataFrame:
    """Return one row a size: accuracy beside the same slides' full-length accuracy, flips, and overlap of kept tiles.

    Intervals resample patients `draws` times; `retained_chance` is what as many offered tiles at random retain.
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
        )
    return pd.DataFrame(rows)


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
