"""The papers' own numbers as data, each with its benchmark, its source and how it is known.

`basis` says how: "stated" in the source, "derived" from what it states, "read off" one of its figures. Accuracies are
in per cent as printed; the tables below give them as shares. Nothing here was computed by this project, and numbers of
different benchmarks are not comparable: SlideBench (TCGA) is several test sets under one name.
"""

from typing import NamedTuple

import pandas as pd

from slidesieve.evaluation.stats import wilson

STATED, DERIVED, READ_OFF = "stated", "derived", "read off"
READ_OFF_POINTS = 0.5  # how far a value read off a figure may be from the true one, percentage points
SPARSELEARN = "arXiv 2606.08641v1"
TCSSA = "arXiv 2603.01143"
TCSSA_DRAFT = "arXiv 2603.01143, earlier draft"
PATHSELECT = "arXiv 2607.23631v1"
SLIDECHAT = "arXiv 2410.11761v3"
LOCPATH_TABLE = "arXiv 2512.05391, Tab. 4(b), as a third party quotes it"


class Benchmark(NamedTuple):
    """A version of SlideBench (TCGA): its questions, and those of each category where they are known."""

    name: str
    n_questions: int
    microscopy: int | None
    diagnosis: int | None
    clinical: int | None
    basis: str


class Score(NamedTuple):
    """An accuracy on one category; `correct` of the category's questions is derived from the printed per cent."""

    method: str
    group: str
    percent: float
    correct: int
    basis: str
    source: str


class Ablation(NamedTuple):
    """One row of an ablation: the accuracy over all questions, and its printed difference from the full method."""

    method: str
    percent: float
    delta_points: float
    basis: str
    source: str


class Cost(NamedTuple):
    """Accuracy over all questions at a number of visual tokens."""

    method: str
    tokens: float
    tokens_basis: str
    percent: float
    benchmark: str
    source: str


class Operations(NamedTuple):
    """FLOPs of one answer, in 10^12, on a slide of so many tiles."""

    method: str
    tera_flops: float
    tiles: int
    visual_tokens: int
    basis: str
    source: str


class StepCost(NamedTuple):
    """A training step's time, and its peak of reserved GPU memory."""

    method: str
    ms: float
    reserved_gb: float
    basis: str
    source: str


class Claim(NamedTuple):
    """What is said to be saved against models that read whole slides, on average, as a share."""

    what: str
    saved: float
    source: str


BENCHMARKS = {
    "v0": Benchmark("SlideBench (TCGA) v0, 7,827 questions", 7827, None, None, None, STATED),
    "v1": Benchmark("SlideBench (TCGA) v1, 1,494 questions", 1494, 391, 1002, 101, DERIVED),
    "v1 with features": Benchmark("SlideBench (TCGA) v1, the 1,473 with features", 1473, 382, 993, 98, DERIVED),
}
COMPRESSED = "v1 with features"  # what SparseLearn, PathSelect and TC-SSA were scored on: derived from exact k / 1,473
LIKE_FOR_LIKE = (
    Score("SlideChat", "microscopy", 82.20, 314, STATED, PATHSELECT),
    Score("SlideChat", "diagnosis", 72.31, 718, STATED, PATHSELECT),
    Score("SlideChat", "clinical", 71.43, 70, STATED, PATHSELECT),
    Score("SlideChat", "all", 74.81, 1102, STATED, PATHSELECT),
    Score("PathSelect", "microscopy", 81.94, 313, STATED, PATHSELECT),
    Score("PathSelect", "diagnosis", 70.90, 704, STATED, PATHSELECT),
    Score("PathSelect", "clinical", 74.49, 73, STATED, PATHSELECT),
    Score("PathSelect", "all", 74.00, 1090, STATED, PATHSELECT),
    Score("SparseLearn", "microscopy", 81.68, 312, STATED, SPARSELEARN),
    Score("SparseLearn", "diagnosis", 70.09, 696, STATED, SPARSELEARN),
    Score("SparseLearn", "clinical", 73.47, 72, DERIVED, SPARSELEARN),
    Score("SparseLearn", "all", 73.32, 1080, STATED, SPARSELEARN),
    Score("TC-SSA", "microscopy", 81.94, 313, STATED, TCSSA),
    Score("TC-SSA", "diagnosis", 77.14, 766, STATED, TCSSA),
    Score("TC-SSA", "clinical", 76.53, 75, STATED, TCSSA_DRAFT),
    Score("TC-SSA", "all", 78.34, 1154, STATED, TCSSA),
)
ABLATION = (
    Ablation("sparselearn", 73.32, 0.0, STATED, f"{SPARSELEARN}, Table 2"),
    Ablation("sparselearn:gate=scale", 70.40, -2.92, STATED, f"{SPARSELEARN}, Table 2"),
    Ablation("sparselearn:denoiser=global", 71.62, -1.70, STATED, f"{SPARSELEARN}, Table 2"),
)
# SlideChat's tokens are its cap, not its mean. The sampling models (30 patches a slide) share one printed token count.
COSTS = (
    Cost("SparseLearn", 32, STATED, 73.32, "v1 with features", f"{SPARSELEARN}, Fig. 3"),
    Cost("TC-SSA", 32, STATED, 78.34, "v1 with features", TCSSA),
    Cost("PathSelect", 44.86, STATED, 74.00, "v1 with features", PATHSELECT),
    Cost("SlideChat", 4096, STATED, 74.81, "v1 with features", PATHSELECT),
    Cost("SlideChat", 4096, STATED, 81.17, "v0", f"{SPARSELEARN}, Fig. 3"),
    Cost("MedDr", 17_200, DERIVED, 67.70, "v0", SLIDECHAT),
    Cost("GPT-4o", 17_200, DERIVED, 57.91, "v0", SLIDECHAT),
    Cost("Quilt-LLaVA", 17_200, DERIVED, 48.07, "v0", SLIDECHAT),
    Cost("LLaVA-Med", 17_200, DERIVED, 42.00, "v0", SLIDECHAT),
)
# Tiles are those of a comment in TC-SSA's source. The first figure is the language model's on 32 visual tokens and
# about 98 of text, which is what the published ones come down to.
FLOPS = (
    Operations("32 visual tokens", 1.70, 10_000, 32, DERIVED, TCSSA),
    Operations("TC-SSA", 1.72, 10_000, 32, STATED, TCSSA),
    Operations("SparseLearn", 1.73, 10_000, 32, STATED, SPARSELEARN),
    Operations("SlideChat", 133.3, 10_000, 10_000, STATED, SPARSELEARN),
)
STEP_COSTS = (
    StepCost("LoC-Path", 1288, 19.36, STATED, LOCPATH_TABLE),
    StepCost("LLaVA-style prefix", 1520, 21.23, STATED, LOCPATH_TABLE),
    StepCost("SlideChat", 2546, 43.75, STATED, LOCPATH_TABLE),
)
# In a third party's summary of LoC-Path and in no table of it that is public: unverified.
CLAIMS = (
    Claim("FLOPs", 0.62, "a summary of arXiv 2512.05391, unverified"),
    Claim("GPU memory", 0.58, "a summary of arXiv 2512.05391, unverified"),
)
# SparseLearn's Fig. 4: (tiles on the slide, questions as stated, accuracy in per cent as read off).
LENGTHS = (
    ("<64", 65, 77.0),
    ("64-128", 94, 74.5),
    ("128-256", 168, 74.4),
    ("256-512", 281, 76.2),
    ("512-1024", 227, 71.0),
    ("1024-2048", 263, 67.5),
    ("2048-4096", 168, 76.2),
    (">4096", 207, 77.3),
)


def ablation() -> pd.DataFrame:
    """Return method, paper_accuracy, paper_delta (from the full method; both shares), paper_benchmark, paper_source."""
    rows = [(a.method, a.percent / 100, a.delta_points / 100, COMPRESSED, a.source) for a in ABLATION]
    return pd.DataFrame(rows, columns=["method", "paper_accuracy", "paper_delta", "paper_benchmark", "paper_source"])


def like_for_like() -> pd.DataFrame:
    """Return the scores on one benchmark with its Wilson intervals (shares): no paper gives any.

    method, group, percent as printed, correct, n_questions, ci_low, ci_high, basis, source.
    """
    sizes = BENCHMARKS[COMPRESSED]._asdict() | {"all": BENCHMARKS[COMPRESSED].n_questions}
    table = pd.DataFrame(LIKE_FOR_LIKE).assign(n_questions=lambda t: t["group"].map(sizes).astype(int))
    ends = [wilson(row.correct, row.n_questions) for row in table.itertuples()]
    return table.assign(ci_low=[e.low for e in ends], ci_high=[e.high for e in ends])


def costs() -> pd.DataFrame:
    """Return method, tokens, tokens_basis, accuracy (a share), benchmark, source."""
    return pd.DataFrame(COSTS).assign(accuracy=lambda t: t["percent"] / 100).drop(columns="percent")


def step_costs() -> pd.DataFrame:
    """Return method, ms, reserved_gb, both also as shares of SlideChat's (time_share, memory_share), basis, source."""
    table = pd.DataFrame(STEP_COSTS)
    full = table.set_index("method").loc["SlideChat"]
    return table.assign(time_share=table["ms"] / full["ms"], memory_share=table["reserved_gb"] / full["reserved_gb"])


def by_length() -> pd.DataFrame:
    """Return bin, n_questions (stated), accuracy (a share, read off), accuracy_low, accuracy_high."""
    table = pd.DataFrame(LENGTHS, columns=["bin", "n_questions", "percent"])
    low, high = ((table["percent"] + off) / 100 for off in (-READ_OFF_POINTS, READ_OFF_POINTS))
    return table.assign(accuracy=table["percent"] / 100, accuracy_low=low, accuracy_high=high).drop(columns="percent")
