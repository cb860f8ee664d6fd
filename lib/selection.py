"""Which tiles were kept: recall of planted tiles, heuristic selectors to beat, agreement of two kept sets.

Heuristics score the raw features of one slide; the k highest scores are kept. All are linear in memory but for
`rarity`, whose neighbour search is exact and blockwise.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from lib.features import Bag

NEIGHBOURS = 5


class Rates(NamedTuple):
    """Recall and precision of planted tiles over all slides together, and the recall of keeping as many at random."""

    recall: float
    chance: float
    precision: float


def rates(slides: pd.DataFrame) -> Rates:
    """Pool rows of `n_tiles, n_planted, n_kept, n_kept_planted` (one a slide); nan where there is nothing to find."""
    planted, kept, found = (float(slides[name].sum()) for name in ("n_planted", "n_kept", "n_kept_planted"))
    expected = float((slides["n_planted"] * slides["n_kept"] / slides["n_tiles"]).sum())
    if planted == 0:
        return Rates(np.nan, np.nan, np.nan)
    return Rates(found / planted, expected / planted, found / kept if kept else np.nan)


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


def read_truth(path: Path) -> pd.DataFrame:
    """Read the tiles of a synthetic cohort: slide_id, x_px0, y_px0 (level-0 px), kind, name."""
    table = pd.read_csv(path, dtype={"slide_id": str, "kind": str, "name": str}, keep_default_na=False)
    missing = [name for name in ("slide_id", "x_px0", "y_px0", "kind") if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table.columns)}; add it")
    return table


def planted_tiles(bag: Bag, truth: pd.DataFrame) -> Int[np.ndarray, " p"]:
    """Return the indices of the slide's planted evidence: its tiles of kind finding or grade in the truth table.

    Raises ValueError for a planted tile that the bag does not have (another tile grid than the truth's).
    """
    rows = truth[(truth["slide_id"] == bag.slide_id) & truth["kind"].isin(["finding", "grade"])]
    index = {tuple(place): i for i, place in enumerate(bag.coords.tolist())}
    places = [tuple(place) for place in rows[["x_px0", "y_px0"]].astype(int).to_numpy().tolist()]
    absent = [place for place in places if place not in index]
    if absent:
        raise ValueError(f"{bag.slide_id}: no tile at {absent[0]} px0, where truth.csv plants one; use the same grid")
    return np.unique([index[place] for place in places]).astype(int)


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


def jaccard(a: Int[np.ndarray, " i"], b: Int[np.ndarray, " j"]) -> float:
    """Return |a and b| / |a or b| of two sets of tile indices; 1 for two empty sets."""
    union = len(np.union1d(a, b))
    return len(np.intersect1d(a, b)) / union if union else 1.0


def retained(full: Int[np.ndarray, " i"], part: Int[np.ndarray, " j"], offered: Int[np.ndarray, " m"]) -> float:
    """Return the share of the tiles kept at full length that are kept again, of those still offered; nan if none."""
    possible = np.intersect1d(full, offered)
    return len(np.intersect1d(possible, part)) / len(possible) if len(possible) else float("nan")
