"""What kind of row of the report a method is, how it is drawn there, and what its figures show."""

from math import cos, pi, sin
from typing import NamedTuple

from slidesieve.answers import palette
from slidesieve.answers.controls import is_control
from slidesieve.compressors.registry import FLOORS, TRAINING_FREE

LEARNED, UNTRAINED, EVERYTHING, FLOOR, CONTROL = "learned", "untrained", "everything", "floor", "control"
KINDS = {
    LEARNED: "Methods: what to keep, or how to compress, is learnt",
    UNTRAINED: "Rivals: a rule looks at the tiles and chooses or groups them; nothing of it is learnt",
    EVERYTHING: "All tiles: nothing is dropped",
    FLOOR: "Floors: no slide, or one among whose tiles nothing chooses (random, every n-th, the mean of all)",
    CONTROL: "Controls: the same models, asked in another way",
}


FIGURES = {
    "scores.png": "Accuracy in each kind of question. Look for marks right of the lines, which are floors without a "
    "model, and right of the rows text only, random and mean, which are floors too. The hollow square below a mark is "
    "the same model asked about another slide.",
    "kinds_of_question.png": "Questions about evidence beside questions about composition. Compare rows within a "
    "colour: a method may be above the others in one and below them in the other.",
    "head_to_head.png": "Method against method on the same questions. Black marks are told apart after correction for "
    "the number of pairs, hollow ones in these runs alone (too few seeds), grey ones are not; an interval that leaves "
    "zero out is not enough for that.",
    "best_rival.png": "Each learned method less its best rival. Right of zero the learned one scored higher; black "
    "marks are told apart, hollow ones in these runs alone (too few seeds), grey ones are not.",
    "accuracy_by_operations.png": "Accuracy against operations an answer, on a logarithmic axis. Better is up and "
    "left. Where there are several seeds: their median, and a bar from the least to the most.",
    "soft_and_hard.png": "Soft selection, as in training, beside hard selection, as in use; the bar is the gap between "
    "them, a dot of each a seed. Of one seed thin lines are 95 % "
    "intervals: where they reach the other mark, a gap may be chance.",
    "selection.png": "Share of the planted evidence that is kept: bars are medians over seeds, dots are seeds, lines "
    "their 95 % intervals over patients. The orange tick is what as many tiles at random keep.",
    "auc.png": "AUROC of the right option's probability, a dot a fold or seed.",
}


def kind_of(method: str) -> str:
    """One of KINDS for a method of a table."""
    base = method.partition(":")[0]
    if is_control(method):
        return CONTROL
    if base in TRAINING_FREE:
        return UNTRAINED
    if base == "all":
        return EVERYTHING
    return FLOOR if base in FLOORS or base.startswith(("majority", "longest", "chance", "best")) else LEARNED


def sees(method: str) -> bool:
    """Whether a floor is given the slide that is asked about."""
    return method in ("random", "linspace", "mean")


class Drawn(NamedTuple):
    """How a method stands on a page: its colour, and its mark as the points of an SVG polygon about (0, 0)."""

    colour: str
    points: str


def drawn(method: str, size: float = 6.0) -> Drawn:
    """The colour and the mark that a method has in every figure."""
    colour, mark, _ = palette.ink_of(method)
    inner = {palette.POLYGON: (), palette.STAR: (0.5,), palette.STROKES: (0.0,)}[mark.style]
    rays = [size, *(share * size for share in inner)]
    turns = range(mark.corners * len(rays))
    places = [(rays[i % len(rays)], pi / 2 + 2 * pi * i / len(turns) + pi * mark.turned / 180) for i in turns]
    return Drawn(colour, " ".join(f"{ray * cos(at):.1f},{-ray * sin(at):.1f}" for ray, at in places))
