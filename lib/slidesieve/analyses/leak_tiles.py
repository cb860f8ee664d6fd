"""Tiles of known class for the leak's probe: from stores of one class each, or from a synthetic cohort's truth table.

Training and test tiles never share a patient, and every class has as many tiles as the rarest.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from slidesieve.analyses.leak import Tiles
from slidesieve.cohort.ids import tcga_case
from slidesieve.features.bag import Bag
from slidesieve.features.places.packed_folder import open_store
from slidesieve.features.readers import is_packed, read_bag

FEWEST = 20  # a class with fewer tiles on either side is left out


class Classes(NamedTuple):
    """Tiles to learn from and tiles to read, with the names that their labels stand for."""

    names: list[str]
    train: Tiles
    test: Tiles


def tiles_of_stores(paths: Sequence[Path], *, most: int, seed: int) -> Classes:
    """Read tiles whose class is the store they come from: each path a packed store or a folder of feature files.

    Half of each class's patients are for training, the others for testing. `most` tiles a class on each side.
    """
    rng = np.random.default_rng(seed)
    sides: tuple[list, list] = ([], [])
    for path in paths:
        bags = list(_bags_of(Path(path)))
        cases = np.array([tcga_case(bag.slide_id) or bag.slide_id for bag in bags])
        first = set(rng.permutation(np.unique(cases))[: len(np.unique(cases)) // 2].tolist())
        for bag, case in zip(bags, cases, strict=True):
            names = np.full(len(bag.x), Path(path).stem)
            sides[case not in first].append((bag.x, names, np.full(len(bag.x), case)))
    return balanced(*map(_joined, sides), most=most, rng=rng)


def tiles_of_truth(
    train: Mapping[str, Bag], test: Mapping[str, Bag], truth: pd.DataFrame, *, most: int, seed: int
) -> Classes:
    """The same from the truth table's `name` of each tile, on the cohort's own training and test slides."""
    if "name" not in truth.columns:
        raise ValueError(f"truth: no column name among {', '.join(truth.columns)}; add it, or name probe_features")
    columns = [truth[name] for name in ("slide_id", "x_px0", "y_px0", "name")]
    names = {(slide, int(x), int(y)): name for slide, x, y, name in zip(*columns, strict=True)}
    sides = []
    for bags in (train, test):
        part = []
        for bag in bags.values():
            known = np.array([names.get((bag.slide_id, *place), "") for place in bag.coords.tolist()])
            part.append((bag.x[known != ""], known[known != ""], np.full(int((known != "").sum()), bag.slide_id)))
        sides.append(_joined(part))
    return balanced(*sides, most=most, rng=np.random.default_rng(seed))


def balanced(
    train: tuple[np.ndarray, np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    most: int,
    rng: np.random.Generator,
) -> Classes:
    """Draw equally many tiles of every class on each side from (features, class names, slides)."""
    counts = [dict(zip(*np.unique(side[1], return_counts=True), strict=True)) for side in (train, test)]
    classes = sorted(str(c) for c in counts[0] if min(count.get(c, 0) for count in counts) >= FEWEST)
    if len(classes) < 2:
        raise ValueError(
            f"leak: {len(classes)} classes with {FEWEST} tiles on either side of the split, of {len(counts[0])} named; "
            "expected at least 2; give more slides, or other probe_features"
        )
    return Classes(classes, *(_drawn(side, classes, most, rng) for side in (train, test)))


def _drawn(side: tuple, classes: list[str], most: int, rng: np.random.Generator) -> Tiles:
    x, names, slide = side
    places = [np.flatnonzero(names == name) for name in classes]
    size = min(most, *map(len, places))
    chosen = np.concatenate([rng.choice(place, size, replace=False) for place in places])
    return Tiles(x[chosen], np.repeat(np.arange(len(classes)), size), slide[chosen])


def _joined(parts: list[tuple]) -> tuple[np.ndarray, ...]:
    if not parts:
        raise ValueError("leak: no slide with features on one side of the split; expected patients on both")
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _bags_of(path: Path) -> Iterator[Bag]:
    if path.is_dir() and not is_packed(path):
        yield from (read_bag(file, file.stem) for file in sorted(path.glob("*.h5")))
    elif is_packed(path):
        store = open_store(path)
        yield from (store.read(slide_id) for slide_id in store.slide_ids)
    else:
        raise ValueError(
            f"{path}: holds one slide; expected a packed store or a folder of feature files, one class each"
        )
