"""What a method is called in the report, what kind of row it is, and what it does, in a line."""

from math import cos, pi, sin
from typing import NamedTuple

from slidesieve.answers import palette
from slidesieve.answers.controls import SOFT, WRONG_SLIDE, is_control
from slidesieve.compressors.registry import FLOORS, TRAINING_FREE

LEARNED, UNTRAINED, EVERYTHING, FLOOR, CONTROL = "learned", "untrained", "everything", "floor", "control"
KINDS = {
    LEARNED: "Methods: what to keep, or how to compress, is learnt",
    UNTRAINED: "Rivals: nothing is learnt about what to keep",
    EVERYTHING: "All tiles: nothing is dropped",
    FLOOR: "Floors: what is not above those without a slide has not looked at it; what is not above random and mean "
    "has not learnt what to keep",
    CONTROL: "Controls: the same models, asked in another way",
}


class Words(NamedTuple):
    """A method's name, and what it does."""

    name: str
    does: str


METHODS = {
    "sparselearn": Words("SparseLearn", "keeps the k tiles that a trained scorer puts first"),
    "sieve": Words("sieve", "our own: keeps the best tiles of a trained scorer, and means of what is left"),
    "tcssa": Words("TC-SSA", "routes every tile into two of k semantic slots, and hands on the slots"),
    "locpath": Words("LoC-Path-style", "merges neighbours, resamples them into latents, and lets the question pick k"),
    "attention_topk": Words("attention top-k", "keeps the k tiles that gated attention weighs most"),
    "cropr": Words("Cropr", "learned queries score tiles and crop them in stages"),
    "kmeans": Words("k-means", "hands on k cluster means"),
    "fps": Words("farthest points", "keeps k tiles that lie as far from each other as can be"),
    "dpp": Words("DPP", "keeps k tiles by a determinant, which grows with their diversity"),
    "coverage": Words("coverage", "keeps the k tiles that stand for all others best"),
    "tome": Words("ToMe", "merges the most similar tiles until k are left"),
    "visionzip_nocls": Words("VisionZip", "keeps tiles that others attend to, and merges the rest"),
    "grid": Words("grid", "hands on means of neighbouring tiles"),
    "outlier": Words("outliers", "keeps the k tiles farthest from the slide's mean"),
    "linspace": Words("every n-th", "keeps k tiles, evenly spaced along the list"),
    "all": Words("all tiles", "every tile is handed on, up to the cap"),
    "random": Words("random", "k tiles drawn at random"),
    "mean": Words("mean", "k tokens made of the mean of all tiles"),
    "blank": Words("blank", "k learned tokens and no slide: what training alone is worth"),
    "text_only": Words("text only", "the question without any slide"),
    "majority": Words("majority letter", "the letter that is most often right in the training key"),
    "majority_option": Words("majority option", "the words that are most often right in the training key"),
    "longest_option": Words("longest option", "the option with the most words"),
    "norm": Words("largest norm", "keeps the k tiles with the longest features"),
    "knn": Words("loneliest", "keeps the k tiles farthest from their neighbours"),
}
FIGURES = {
    "scores.png": "Accuracy of every method in each kind of question. Look for marks right of the floors' lines; a "
    "hollow square beside a mark is the same model asked about another slide.",
    "kinds_of_question.png": "Each method in each kind of question, a mark a kind. Look for rows whose marks lie "
    "far apart: that method has no single rank.",
    "head_to_head.png": "Method against method on the same questions. Intervals that leave zero out are told apart.",
    "best_rival.png": "Each learned method less the best rival without training. Right of zero, learning has paid.",
    "accuracy_by_operations.png": "Accuracy against operations an answer. Better is up and left.",
    "soft_and_hard.png": "Soft selection, as in training, beside hard selection, as in use. A gap says that the method "
    "has not learnt to select.",
    "selection.png": "Share of the planted evidence that is kept. The red tick is what as many tiles at random keep.",
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


def called(method: str) -> str:
    """The name of a method, a variant or a control."""
    for ending, said in ((WRONG_SLIDE, "another slide"), (SOFT, "soft")):
        if method.endswith(ending):
            return f"{called(method.removesuffix(ending))}, {said}"
    base, _, rest = method.partition(":")
    name = METHODS[base].name if base in METHODS else base.replace("_", " ")
    return f"{name} {rest.replace(':', ' ')}" if rest else name


def does(method: str) -> str:
    """What a method does; of a control, what it asks."""
    if method.endswith(WRONG_SLIDE):
        return "the same model, given another patient's slide"
    if method.endswith(SOFT):
        return "every tile handed on, dimmed as in training"
    base = method.partition(":")[0]
    return METHODS[base].does if base in METHODS else ""


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
