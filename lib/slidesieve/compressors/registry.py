"""Compressors by name, imported when they are asked for.

Rows are dotted names, so that a stage depends on the method that it uses and on no other.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from torch import nn


def named(dotted: str) -> type[nn.Module]:
    """The class of a dotted name."""
    module, _, made = dotted.rpartition(".")
    return getattr(import_module(module), made)


class Rows(Mapping[str, "type[nn.Module] | None"]):
    """A table of classes by name; an empty row stands for none."""

    def __init__(self, rows: dict[str, str]):
        self._rows = rows

    def __getitem__(self, name: str) -> type[nn.Module] | None:
        return named(self._rows[name]) if self._rows[name] else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


COMPRESSORS = Rows(
    {
        "all": "slidesieve.compressors.baselines.AllTiles",
        "random": "slidesieve.compressors.baselines.RandomK",
        "linspace": "slidesieve.compressors.baselines.LinspaceK",
        "grid": "slidesieve.compressors.untrained.grid.Grid",
        "outlier": "slidesieve.compressors.untrained.outlier.Outliers",
        "fps": "slidesieve.compressors.untrained.fps.FarthestPoints",
        "dpp": "slidesieve.compressors.untrained.dpp.Determinantal",
        "coverage": "slidesieve.compressors.untrained.coverage.Coverage",
        "kmeans": "slidesieve.compressors.untrained.kmeans.KMeans",
        "tome": "slidesieve.compressors.untrained.tome.TokenMerging",
        "visionzip_nocls": "slidesieve.compressors.untrained.visionzip.VisionZip",
        "mean": "slidesieve.compressors.baselines.MeanPool",
        "blank": "slidesieve.compressors.baselines.Blank",
        "text_only": "slidesieve.compressors.baselines.TextOnly",
        "attention_topk": "slidesieve.compressors.attention.AttentionTopK",
        "cropr": "slidesieve.compressors.cropr.Cropr",
        "sparselearn": "slidesieve.compressors.sparselearn.SparseLearn",
        "sieve": "slidesieve.compressors.sieve.Sieve",
        "tcssa": "slidesieve.compressors.tcssa.TCSSA",
        "locpath": "slidesieve.compressors.locpath.LoCPath",
    }
)
TRAINING_FREE = ("grid", "outlier", "fps", "dpp", "coverage", "kmeans", "tome", "visionzip_nocls")  # nothing is learnt
FLOORS = ("random", "linspace", "mean", "blank", "text_only")  # what a method that has learnt to compress must beat
BESIDE = ("all", "random", "mean", "text_only")  # what is trained beside every method, unasked
WITHOUT_K = ("all", "text_only")  # keep every tile, or none, whatever k
