"""Cases to look at: questions that one run got right or wrong, where the others did or did not, and what it kept there.

The rule, so that nobody picks what pleases: of the questions that the run got right the hardest and the easiest, of
those that it got wrong the easiest and the hardest. A question is as hard as few of the other runs got it right; ties
go to the surer answer, right or wrong, then by ID. No slide and no kind of question (narrow category) stands twice
under a heading while there are others.

A planted tile is about a question if its name is among the words of the question or of its options, unless the question
is about the whole slide.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from slidesieve.analyses.token_maps import Picture, picture
from slidesieve.answers.controls import is_control
from slidesieve.answers.select import planted_tiles
from slidesieve.answers.tables import RUN
from slidesieve.cohort.manifest import Manifest, path_of, row_of, with_slide_file
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.features.bag import Bag
from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.slide import open_slide, view_at

KINDS = {
    "right, where most others are wrong": (True, True),
    "right, as most others are": (True, False),
    "wrong, where most others are right": (False, False),
    "wrong, as most others are": (False, True),
}  # whether the run is right, and whether hard questions come first


OF_THE_WHOLE_SLIDE = "composition"  # a broad category


class Case(NamedTuple):
    """A question, and why it is shown; `others` is the share of other runs that got it right."""

    id: str
    slide_id: str
    why: str
    others: float


class Crop(NamedTuple):
    """A kept tile: its rank from 0, its index in the bag, its score and, where the slide is there, its pixels."""

    rank: int
    index: int
    score: float
    pixels: UInt8[np.ndarray, "t t 3"] | None


class CaseView(NamedTuple):
    """What is drawn of a case: the slide's picture if it is there, all tiles' corners, those planted, those kept.

    Where a question is known, `planted` are about it and `aside` are the others that were planted.
    """

    picture: Picture | None
    coords: Int[np.ndarray, "n 2"]
    planted: Int[np.ndarray, " p"]
    crops: Sequence[Crop]
    owners: pd.DataFrame | None = None  # of a mosaic, a row a token: index, role, kind
    aside: Int[np.ndarray, " q"] | tuple[()] = ()


def choose(answers: pd.DataFrame, run: tuple[str, int, int], *, each: int) -> list[Case]:
    """Choose up to `each` cases of each of KINDS for a run (method, k, seed), as said above.

    Raises ValueError if the run has no answers. Without another run all questions are equally hard.
    """
    own = answers[(answers[RUN] == list(run)).all(axis=1) & answers["covered"]]
    if own.empty:
        raise ValueError(f"cases: no answers of {run}; expected a run of the answers given; name another")
    others = answers[~answers["method"].map(is_control) & ~(answers[RUN] == list(run)).all(axis=1)]
    share = others.groupby("ID")["correct"].mean()
    own = own.assign(others=own["ID"].map(share).fillna(0.0), sure=_sureness(own)).sort_values("ID", kind="stable")
    cases, seen = [], set()
    for why, (right, hard_first) in KINDS.items():
        rows = own[(own["correct"] == right) & ~own["ID"].isin(seen)]
        rows = rows.sort_values(["others", "sure"], ascending=[hard_first, False], kind="stable")
        taken = _unlike(rows, each)
        seen |= {row["ID"] for row in taken}
        cases += [Case(row["ID"], row["Slide"], why, float(row["others"])) for row in taken]
    return cases


def _unlike(rows: pd.DataFrame, each: int) -> list[dict[str, object]]:
    """The first rows, of which no two share their slide or narrow category, or only this, while there are others."""
    taken: list[dict[str, object]] = []
    for apart in (("Slide", "narrow"), ("Slide",), ()):
        for row in rows.to_dict("records"):
            alike = any(row["ID"] == other["ID"] or any(row[c] == other[c] for c in apart) for other in taken)
            if len(taken) < each and not alike:
                taken.append(row)
    return taken


def evidence(bag: Bag, truth: pd.DataFrame, question: Question) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " q"]]:
    """Indices of the slide's planted tiles: those that the question is about, and the others."""
    every, own = planted_tiles(bag, truth), planted_tiles(bag, about(truth, question))
    return own, np.setdiff1d(every, own)


def about(truth: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The rows of a truth table (`select.read_truth`) whose name is among the words of the question or its options."""
    if question.broad.casefold() == OF_THE_WHOLE_SLIDE:
        return truth.iloc[:0]
    said = " ".join([question.text, *question.options])
    names = truth["name"] if "name" in truth else pd.Series("", truth.index)
    whole = {name: re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE) for name in set(names) if name}
    return truth[names.map(lambda name: whole.get(name) is not None).astype(bool)]


def _sureness(own: pd.DataFrame) -> Float[np.ndarray, " n"]:
    """How far the chosen option's log-likelihood is above the next one's; 0 where it is not known."""
    logp = own[[c for c in own if c.startswith("logp_") and c.removeprefix("logp_") in LETTERS]].to_numpy(float)
    if logp.shape[1] < 2:
        return np.zeros(len(own))
    ranked = np.sort(np.where(np.isnan(logp), -np.inf, logp), axis=1)
    gap = ranked[:, -1] - ranked[:, -2]
    return np.where(np.isfinite(gap), gap, 0.0)


def views(
    manifest: Manifest,
    bags: Mapping[str, Bag],
    slides: Sequence[str],
    selected: pd.DataFrame,
    *,
    truth: pd.DataFrame | None,
    most: int,
) -> dict[str, CaseView]:
    """Bring together what is drawn of each slide, with the first `most` tiles kept of it."""
    none = np.empty(0, int)
    return {
        slide: CaseView(
            picture(manifest, slide, bags[slide]),
            bags[slide].coords,
            none if truth is None else planted_tiles(bags[slide], truth),
            crops(manifest, bags[slide], selected, most=most),
        )
        for slide in slides
    }


def crops(manifest: Manifest, bag: Bag, selected: pd.DataFrame, *, most: int) -> list[Crop]:
    """The first `most` tiles kept of a slide, by rank, with their pixels where the slide's file is there."""
    kept = selected[selected["slide_id"] == bag.slide_id].sort_values("rank").head(most)
    pixels = _pixels(manifest, bag, kept["index"].to_numpy(int))
    return [
        Crop(int(r.rank), int(r.index), float(r.score), pixels.get(int(r.index))) for r in kept.itertuples(index=False)
    ]


def _pixels(manifest: Manifest, bag: Bag, index: Int[np.ndarray, " k"]) -> dict[int, np.ndarray]:
    side = bag.attrs.get("patch_size")
    if not len(index) or side is None or not with_slide_file(manifest, [bag.slide_id]):
        return {}
    with open_slide(path_of(manifest, bag.slide_id, "slide_path"), row_of(manifest, bag.slide_id)["mpp"]) as slide:
        scale = float(bag.attrs["patch_size_level0"]) / float(side)
        tiles = iter_tiles(slide, bag.coords[index], tile_px=int(side), view=view_at(slide, scale * slide.mpp))
        return {int(index[i]): picture for part in tiles for i, picture in zip(part.index, part.pixels, strict=True)}
