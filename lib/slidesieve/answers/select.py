"""Which tiles a model keeps of each slide, and how many of them were planted there."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from slidesieve.answers.sums import evaluating
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.token_budget import Size, batches
from slidesieve.models.vlm import VLM

EVIDENCE = ("finding", "grade", "rare", "subtype")  # of the toy cohort, of mosaics


def select(
    model: VLM, bags: Mapping[str, Bag], *, batch_tokens: int
) -> dict[str, tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """Tiles that the evaluation path keeps, best first, and their scores (nan where the method has none).

    Methods that mix tiles instead of keeping them select nothing and give empty arrays.
    """
    chosen = {}
    with torch.no_grad(), evaluating(model, soft=False):
        for slides in slide_batches(bags, batch_tokens):
            batch = collate([bags[s] for s in slides]).to(model.feature_mean.device)
            compressed = model.compress(batch)
            for i, slide in enumerate(slides):
                selects = compressed.kept is not None
                kept = compressed.kept[i][compressed.mask[i]].cpu().numpy() if selects else np.empty(0, np.int64)
                kept = kept[kept >= 0]
                scored = compressed.scores is not None
                score = compressed.scores[i].cpu().numpy()[kept] if scored else np.full(len(kept), np.nan)
                order = np.argsort(-score, kind="stable")  # nan throughout leaves the order as it is
                chosen[slide] = (kept[order], score[order])
    return chosen


def selected_tiles(chosen: dict[str, tuple[np.ndarray, np.ndarray]], bags: Mapping[str, Bag]) -> pd.DataFrame:
    """One row a kept tile, best first: slide_id, rank, index, x_px0, y_px0, score."""
    rows = [
        (slide, rank, int(i), *bags[slide].coords[i].tolist(), float(score))
        for slide, (kept, scores) in sorted(chosen.items())
        for rank, (i, score) in enumerate(zip(kept, scores, strict=True))
    ]
    return pd.DataFrame(rows, columns=["slide_id", "rank", "index", "x_px0", "y_px0", "score"])


def selection_by_slide(selected: pd.DataFrame, bags: Mapping[str, Bag], truth: Path | None) -> pd.DataFrame:
    """Count planted and kept tiles of each slide; no rows where nothing is known or nothing was selected.

    Of a thinned bag all the slide's tiles count, planted ones that were thinned out too: they were not kept.
    """
    columns = ["slide_id", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]
    if truth is None or selected.empty:
        return pd.DataFrame(columns=columns)
    planted, rows = read_truth(truth), []
    for slide, kept in selected.groupby("slide_id"):
        bag = bags[slide]
        found = len(np.intersect1d(kept["index"], planted_tiles(bag, planted)))
        rows.append((slide, bag.slide_length, len(set(_places(planted, slide))), len(kept), found))
    return pd.DataFrame(rows, columns=columns)


def slide_batches(bags: Mapping[str, Bag], batch_tokens: int) -> Iterator[list[str]]:
    """Names of slides of like length, of which a batch holds so many tiles at most, or one slide."""
    slides = list(bags)
    for places in batches([Size(n_tiles(bags, slide)) for slide in slides], batch_tokens):
        yield [slides[place] for place in places]


def read_truth(path: Path) -> pd.DataFrame:
    """Read the tiles of a synthetic cohort: slide_id, x_px0, y_px0 (level-0 px), kind, name."""
    table = pd.read_csv(path, dtype={"slide_id": str, "kind": str, "name": str}, keep_default_na=False)
    missing = [name for name in ("slide_id", "x_px0", "y_px0", "kind") if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table.columns)}; add it")
    return table


def planted_tiles(bag: Bag, truth: pd.DataFrame) -> Int[np.ndarray, " p"]:
    """Return the indices of the slide's planted evidence: its tiles of a kind of EVIDENCE in the truth table.

    Raises ValueError for a planted tile that the bag does not have (another tile grid than the truth's), unless the bag
    was thinned.
    """
    index = {tuple(place): i for i, place in enumerate(bag.coords.tolist())}
    places = _places(truth, bag.slide_id)
    absent = [place for place in places if place not in index]
    if absent and bag.index is None:
        raise ValueError(f"{bag.slide_id}: no tile at {absent[0]} px0, where truth.csv plants one; use the same grid")
    return np.unique([index[place] for place in places if place in index]).astype(int)


def _places(truth: pd.DataFrame, slide_id: str) -> list[tuple[int, int]]:
    rows = truth[(truth["slide_id"] == slide_id) & truth["kind"].isin(EVIDENCE)]
    return [tuple(place) for place in rows[["x_px0", "y_px0"]].astype(int).to_numpy().tolist()]
