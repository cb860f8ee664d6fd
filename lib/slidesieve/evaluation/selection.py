"""Which tiles were kept: recall of planted tiles, and how far two kept sets agree."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int


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


def jaccard(a: Int[np.ndarray, " i"], b: Int[np.ndarray, " j"]) -> float:
    """Return |a and b| / |a or b| of two sets of tile indices; 1 for two empty sets."""
    union = len(np.union1d(a, b))
    return len(np.intersect1d(a, b)) / union if union else 1.0


def retained(full: Int[np.ndarray, " i"], part: Int[np.ndarray, " j"], offered: Int[np.ndarray, " m"]) -> float:
    """Return the share of the tiles kept at full length that are kept again, of those still offered; nan if none."""
    possible = np.intersect1d(full, offered)
    return len(np.intersect1d(possible, part)) / len(possible) if len(possible) else float("nan")
