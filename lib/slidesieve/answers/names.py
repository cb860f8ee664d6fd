"""What each method is called and what it does, in a line: the same words in figures, sentences and the report."""

from typing import NamedTuple

from slidesieve.answers.controls import SOFT, WRONG_SLIDE


class Words(NamedTuple):
    """A method's name, and what it does."""

    name: str
    does: str


METHODS = {
    "sparselearn": Words("SparseLearn", "keeps the k tiles that a trained scorer puts first, whatever is asked"),
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
    "all": Words("all tiles", "every tile is handed on (of longer bags as many as max_tiles says)"),
    "random": Words("random", "k tiles drawn at random"),
    "mean": Words("mean of tiles", "k tokens made of the mean of all tiles"),
    "blank": Words("blank", "k learned tokens and no slide: what training alone is worth"),
    "text_only": Words("text only", "the question without any slide"),
    "majority": Words("majority letter", "the letter that is most often right among the training questions"),
    "majority_option": Words("majority option", "the words that are most often right among the training questions"),
    "longest_option": Words("longest option", "the option with the most words"),
    "norm": Words("largest norm", "keeps the k tiles with the longest features"),
    "knn": Words("loneliest", "keeps the k tiles farthest from their neighbours"),
}


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
        return "every tile handed on, dimmed by noise the more the lower its score (the gate), as in training"
    base = method.partition(":")[0]
    return METHODS[base].does if base in METHODS else ""


def run_name(method: str, k: int | float) -> str:
    """Name a run: its method, and its k where it has one: "SparseLearn (k = 8)"."""
    return f"{called(method)} (k = {int(k)})" if k == k and k else called(method)
