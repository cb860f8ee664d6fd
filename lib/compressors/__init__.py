"""Compressors: many tiles in, few visual tokens out, behind one interface (see `result.Compressed`)."""

from lib.compressors.baselines import AllTiles, LinspaceK, MeanPool, RandomK, TextOnly
from lib.compressors.locpath import LoCPath
from lib.compressors.result import Compressed
from lib.compressors.sparselearn import SparseLearn
from lib.compressors.tcssa import TCSSA

COMPRESSORS = {
    "all": AllTiles,
    "random": RandomK,
    "linspace": LinspaceK,
    "mean": MeanPool,
    "text_only": TextOnly,
    "sparselearn": SparseLearn,
    "tcssa": TCSSA,
    "locpath": LoCPath,
}

__all__ = ["COMPRESSORS", "Compressed"]
