"""Compressors: many tiles in, few visual tokens out, behind one interface (see `result.Compressed`)."""

from lib.compressors.baselines import AllTiles, LinspaceK, MeanPool, RandomK, TextOnly
from lib.compressors.result import Compressed
from lib.compressors.sparselearn import SparseLearn

COMPRESSORS = {
    "all": AllTiles,
    "random": RandomK,
    "linspace": LinspaceK,
    "mean": MeanPool,
    "text_only": TextOnly,
    "sparselearn": SparseLearn,
}

__all__ = ["COMPRESSORS", "Compressed"]
