"""Compressors and slide encoders by name, imported when they are asked for.

Rows are dotted names, so that a stage depends on the method that it uses and on no other.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from torch import nn


class Rows(Mapping[str, "type[nn.Module] | None"]):
    """A table of classes by name; an empty row stands for none."""

    def __init__(self, rows: dict[str, str]):
        self._rows = rows

    def __getitem__(self, name: str) -> type[nn.Module] | None:
        module, _, made = self._rows[name].rpartition(".")
        return getattr(import_module(module), made) if made else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


COMPRESSORS = Rows(
    {
        "all": "lib.compressors.baselines.AllTiles",
        "random": "lib.compressors.baselines.RandomK",
        "linspace": "lib.compressors.baselines.LinspaceK",
        "mean": "lib.compressors.baselines.MeanPool",
        "text_only": "lib.compressors.baselines.TextOnly",
        "sparselearn": "lib.compressors.sparselearn.SparseLearn",
        "tcssa": "lib.compressors.tcssa.TCSSA",
        "locpath": "lib.compressors.locpath.LoCPath",
    }
)

FLOORS = ("random", "linspace", "mean", "text_only")  # what a method that has learnt to compress must beat
BESIDE = ("all", "random", "mean", "text_only")  # what is trained beside every method, unasked
WITHOUT_K = ("all", "text_only")  # keep every tile, or none, whatever k

SLIDE_ENCODERS = Rows(
    {
        "none": "",
        "longnet": "lib.compressors.slidechat.LongNet",
        "longnet_released": "lib.compressors.slidechat_released.LongNetReleased",
    }
)
