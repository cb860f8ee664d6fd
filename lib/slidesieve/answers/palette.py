"""The colour and the mark of each method, the same in every figure and on every page: plain data, drawn elsewhere.

Colours of methods are at least 11 apart (CIEDE2000) for normal, deuteranopic and protanopic sight, and stand out from
white by 3 to 1. Floors are grey; they, and all methods on grey paper, are told by their marks.
"""

from typing import NamedTuple

POLYGON, STAR, STROKES = 0, 1, 2


class Mark(NamedTuple):
    """A shape of so many corners or rays, the first one up, then turned to the left by an angle in degrees."""

    corners: int
    style: int = POLYGON
    turned: int = 0


class Ink(NamedTuple):
    """How a method is drawn: its colour, its mark and, where it is a line across a panel, the dash of that."""

    colour: str
    mark: Mark
    dash: str = "--"


DISC = Mark(24)
DARK, GREY, MIST = "#1F2430", "#6B6B6B", "#949494"
OTHER = Ink(DARK, DISC)  # what has no row
METHODS = {
    "sparselearn": Ink("#0072B2", Mark(4)),
    "tcssa": Ink("#009E73", Mark(3)),
    "locpath": Ink("#892700", Mark(3, turned=180)),
    "sieve": Ink("#620062", Mark(6)),
    "attention_topk": Ink("#C40076", Mark(4, STAR)),
    "cropr": Ink("#2700EB", Mark(4, STAR, 45)),
    "kmeans": Ink("#FF4E76", Mark(5)),
    "fps": Ink("#6289FF", Mark(5, STAR)),
    "dpp": Ink("#006262", Mark(3, STAR, 180)),
    "coverage": Ink("#9D6200", Mark(3, STAR)),
    "tome": Ink("#4E9DB1", Mark(3, turned=90)),
    "visionzip_nocls": Ink("#62273B", Mark(3, turned=270)),
    "grid": Ink("#3B764E", Mark(4, turned=45)),
    "outlier": Ink("#620014", Mark(6, STAR)),
    "all": Ink("#C48914", DISC),
    "linspace": Ink(MIST, Mark(4, STROKES), ":"),
    "random": Ink(GREY, Mark(4, STROKES, 45), "-."),
    "mean": Ink(DARK, Mark(6, STROKES)),
    "blank": Ink("#474B55", Mark(3, STROKES), ":"),
    "text_only": Ink(DARK, Mark(2, STROKES), ":"),
    "majority": Ink(GREY, Mark(5, STROKES)),
    "majority_option": Ink(MIST, Mark(3, STROKES, 180), ":"),
    "longest_option": Ink(GREY, Mark(2, STROKES, 90), "-."),
    "best_letter": Ink(DARK, Mark(8, STROKES), "-."),
}


def ink_of(method: str) -> Ink:
    """How a method, a variant (`tcssa:k=16`) or a control of it (`tcssa_soft`) is drawn."""
    base = method.partition(":")[0]
    while base and base not in METHODS:
        base = base.rpartition("_")[0]
    return METHODS.get(base, OTHER)
