"""Rivals without training on the needle's bags: they choose or merge once, and a head learns from what is left."""

import numpy as np
import torch

from benchmarks.needle_bags import NeedleBags
from slidesieve.compressors.result import Compressor

NAMES = ("kmeans", "outlier", "coverage", "fps", "dpp", "tome", "visionzip_nocls")  # bags have no places: no grid
BATCH = 50


def left_of(bags: NeedleBags, compressor: Compressor) -> tuple[NeedleBags, dict[str, float]]:
    """Bags of what a compressor hands on, and how much of the needle it kept: nothing is said of merged tokens."""
    tokens, marks = [], []
    with torch.no_grad():
        for part in np.array_split(np.arange(len(bags)), -(-len(bags) // BATCH)):
            out = compressor(*bags.batch(part)[0].tiles)
            tokens.append(out.tokens)
            if out.kept is not None:
                marks.append(np.take_along_axis(bags.is_needle[part], out.kept.numpy(), axis=1))
    x = torch.cat(tokens)
    rows = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2])
    left = NeedleBags(x.flatten(0, 1), rows, np.zeros(rows.shape, bool), bags.y, bags.slide)
    if not marks:
        return left, {"recall": np.nan, "precision": np.nan}
    kept = np.concatenate(marks)
    shares = {"recall": (kept.sum(1) / bags.is_needle.sum(1)).mean(), "precision": kept.mean()}
    return left, {name: float(value) for name, value in shares.items()}
