"""Compressors: many tiles in, few visual tokens out, behind one interface (see `result.Compressed`)."""

from inspect import signature

from torch import nn

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

__all__ = ["COMPRESSORS", "Compressed", "options_of"]


def options_of(made: type[nn.Module]) -> list[str]:
    """The options of a compressor, or of what reads it: its keyword-only arguments but the seed."""
    given = signature(made).parameters.values()
    return [p.name for p in given if p.kind is p.KEYWORD_ONLY and p.name != "seed"]
