"""What any method must beat: floors that see no slide, and selectors that learn nothing.

Selectors score the raw features of one slide; the k highest scores are kept. All are linear in memory but for `rarity`,
whose neighbour search is exact and blockwise.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from slidesieve.answers.select import planted_tiles
from slidesieve.answers.tables import LOGP
from slidesieve.datasets.questions import FOUR, LETTERS, Question
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView

NEIGHBOURS = 5


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


def best_letter(asked: Sequence[Question]) -> list[int]:
    """Answer all questions with the one letter that is right most often in their own key.

    No method can know that letter: this bounds what "always the same letter" could reach, where there is no training
    key to take it from.
    """
    return [int(np.bincount([question.answer for question in asked]).argmax())] * len(asked)


def longest_option(asked: Sequence[Question]) -> list[int]:
    """Answer with the option of most characters, the first of equals."""
    return [int(np.argmax([len(option) for option in question.options])) for question in asked]


WITHOUT_A_MODEL: dict[str, Callable[[Sequence[Question], Sequence[Question]], list[int]]] = {
    "majority": majority_letter,
    "majority_option": majority_option,
    "longest_option": lambda train, asked: longest_option(asked),
    "best_letter": lambda train, asked: best_letter(asked),
}
WITH_KEY = ("majority", "majority_option", "longest_option")
WITHOUT_KEY = ("longest_option", "best_letter")


def floor_answers(answers: pd.DataFrame, questions: Sequence[Question], *, split: dict[int, pd.Series]) -> pd.DataFrame:
    """Answer the same questions without any image, once for each seed; `split` maps fold -> (slide_id -> split).

    Frequencies come from the training split's key alone; a table of test questions only has no majority floors, and the
    best letter of its own key instead.
    """
    table = {question.id: question for question in questions}
    rows = []
    asked = answers.drop_duplicates(["seed", "fold", "ID"])
    for (seed, fold), part in asked.groupby(["seed", "fold"]):
        train = [question for question in questions if split[fold].get(question.slide_id) == "train"]
        for name in WITH_KEY if train else WITHOUT_KEY:
            predicted = [LETTERS[i] for i in WITHOUT_A_MODEL[name](train, [table[i] for i in part["ID"]])]
            floor = part.assign(method=name, k=0, seed=seed, fold=fold, predicted=predicted, covered=True)
            rows.append(
                floor.assign(
                    correct=floor["predicted"] == floor["answer"],
                    per_token="",
                    letters="",
                    **dict.fromkeys(LOGP[: len(FOUR)], np.nan),
                )
            )
    return pd.concat(rows, ignore_index=True)


def heuristic_rows(selection: pd.DataFrame, bags: Mapping[str, Bag], truth: pd.DataFrame) -> pd.DataFrame:
    """Return selection rows of every heuristic on the same slides, for each k > 0 and seed that the runs used."""
    runs = selection.loc[selection["k"] > 0, ["k", "seed"]].drop_duplicates()
    used = BagView(bags, selection["slide_id"].unique())
    rows = heuristic_selection(used, truth, ks=sorted(int(k) for k in runs["k"].unique()))
    return rows.merge(runs, on="k")


def floor_run(answers: pd.DataFrame, floor: str, *, k: int, seed: int) -> pd.DataFrame:
    runs = answers[(answers["method"] == floor) & (answers["seed"] == seed)]
    at_k = runs[runs["k"] == k]
    return at_k if len(at_k) or runs["k"].nunique() > 1 else runs


def norm(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Score a tile by the length of its feature."""
    return np.linalg.norm(x, axis=1)


def outlier(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Score a tile by its distance from the slide's mean feature."""
    return np.linalg.norm(x - x.mean(axis=0), axis=1)


def rarity(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Score a tile by its mean distance to its 5 nearest neighbours on the slide (fewer on a tiny slide)."""
    neighbours = min(NEIGHBOURS, len(x) - 1)
    if neighbours == 0:
        return np.zeros(1, dtype=x.dtype)
    distance, _ = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors()  # a tile is not its own neighbour
    return distance.mean(axis=1).astype(x.dtype)


HEURISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"norm": norm, "outlier": outlier, "knn": rarity}


def top(score: Float[np.ndarray, " n"], k: int) -> Int[np.ndarray, " m"]:
    """Return the indices of the min(k, n) highest scores, ascending; the earlier tile wins a tie."""
    return np.sort(np.argsort(-score, kind="stable")[:k])


def heuristic_selection(bags: Mapping[str, Bag], truth: pd.DataFrame, *, ks: Sequence[int]) -> pd.DataFrame:
    """Keep k tiles of each slide by every heuristic, for every k; return rows that `rates` can pool."""
    rows = []
    for slide_id, bag in bags.items():
        planted = planted_tiles(bag, truth)
        for name, score in HEURISTICS.items():
            scores = score(bag.x)
            for k in ks:
                kept = top(scores, k)
                found = len(np.intersect1d(kept, planted))
                rows.append((name, k, slide_id, len(bag.x), len(planted), len(kept), found))
    columns = ["method", "k", "slide_id", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]
    return pd.DataFrame(rows, columns=columns)


def _letter_counts(train: Sequence[Question]) -> dict[str | None, Int[np.ndarray, " l"]]:
    counts: dict[str | None, Int[np.ndarray, " l"]] = {None: np.zeros(len(LETTERS), dtype=int)}
    for question in train:
        counts.setdefault(question.kind, np.zeros(len(LETTERS), dtype=int))[question.answer] += 1
        counts[None][question.answer] += 1
    return counts
