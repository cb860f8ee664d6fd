"""Slides with a class as bags for `lib.mil`, and the folds that train, choose and test: published files or by group."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import label_cohort
from lib.bag_files import BagFiles
from lib.batch import Batch, collate
from lib.features import Bag, PackedStore
from lib.importers import count_tiles, load_available_bags, read_bag
from lib.manifest import read_manifest

GROUPS = {"patient": "case_id", "site": "site"}  # word -> column that no two sides of a fold share
SIDES = ("train", "val", "test")


class Split(NamedTuple):
    """Slides of one fold; validation chooses the weights, test is looked at once."""

    fold: int
    train: list[str]
    validation: list[str]
    test: list[str]


def open_features(path: Path) -> BagFiles:
    """Bags of a packed store (.h5), a folder's <slide_id>.h5, or the slides of a manifest (.csv) that have features."""
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.h5"))}
        if not files:
            raise ValueError(f"{path}: no feature file in this folder; expected <slide_id>.h5; run 20_extract_features")
        return BagFiles(
            files, lambda slide: read_bag(files[slide], slide), count=lambda slide: count_tiles(files[slide])
        )
    if path.suffix == ".csv":
        manifest = read_manifest(path)
        return load_available_bags(manifest, None, manifest.table["slide_id"])
    store = PackedStore(path)
    return BagFiles(store.slide_ids, store.read, count=store.n_tiles)


class Bags:
    """Some slides' bags, standardised (see `moments`) and padded together where asked for: LabelledBags of lib.mil."""

    def __init__(
        self,
        bags: Mapping[str, Bag],
        slide_ids: Sequence[str],
        y: Int[np.ndarray, " bags"],
        moments: tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]],
    ):
        self.bags, self.slide_ids, self.y, (self.mean, self.std) = bags, list(slide_ids), y, moments

    def __len__(self) -> int:
        return len(self.slide_ids)

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]:
        return collate([self._standardised(self.slide_ids[i]) for i in bags]), torch.from_numpy(self.y[bags])

    def _standardised(self, slide_id: str) -> Bag:
        bag = self.bags[slide_id]
        return bag._replace(x=(bag.x - self.mean) / self.std)


def moments(
    bags: Mapping[str, Bag], slide_ids: Sequence[str]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and standard deviation of every dimension over the tiles of these slides, a bag at a time."""
    n, total, square = 0, 0.0, 0.0
    for slide_id in slide_ids:
        x = bags[slide_id].x.astype(np.float64)
        n, total, square = n + len(x), total + x.sum(0), square + (x**2).sum(0)
    mean = total / n
    std = np.sqrt(np.maximum(square / n - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


def splits_of(table: pd.DataFrame, splits: Path | str, *, folds: Sequence[int], n_folds: int, seed: int) -> list[Split]:
    """Folds by a word of GROUPS, or from a folder of published split files."""
    if splits in GROUPS:
        return grouped_splits(table, by=splits, folds=folds, n_folds=n_folds, seed=seed)
    if not Path(splits).is_dir():
        raise ValueError(f"splits {str(splits)!r}: no such folder; expected one of splits_<fold>.csv, patient or site")
    return published_splits(Path(splits), table["slide_id"], folds)


def published_splits(folder: Path, known: Sequence[str], folds: Sequence[int]) -> list[Split]:
    """Read splits_<fold>.csv with columns train, val, test of slide ids; slides that are not `known` are left out.

    Raises ValueError for an absent file or column, a slide on two sides, or a side without any known slide.
    """
    return [_read_split(folder / f"splits_{fold}.csv", set(known), fold) for fold in folds]


def grouped_splits(table: pd.DataFrame, *, by: str, folds: Sequence[int], n_folds: int, seed: int) -> list[Split]:
    """Folds of `slide_id, case_id, site, label` rows with no patient or no site (`by`) on two sides.

    Labels are spread over the folds as evenly as that allows. Fold f is tested, the next one validates. Raises
    ValueError if the groups are too few, or not known.
    """
    group = table[GROUPS[by]]
    if (group == "").any():
        raise ValueError(f"folds by {by}: {(group == '').sum()} slides have no {GROUPS[by]}; fill the column in")
    if group.nunique() < n_folds or not set(folds) <= set(range(n_folds)) or n_folds < 3:
        raise ValueError(
            f"folds by {by}: got folds {list(folds)} of {n_folds}, {group.nunique()} groups; "
            "expected at least 3 folds, numbered from 0, and a group for each"
        )
    part = label_cohort.folds(table, n_folds=n_folds, seed=seed, by=GROUPS[by])
    sides = {f: table["slide_id"][part == f].tolist() for f in range(n_folds)}
    return [
        Split(
            f,
            [s for other in sides if other not in (f, (f + 1) % n_folds) for s in sides[other]],
            sides[(f + 1) % n_folds],
            sides[f],
        )
        for f in folds
    ]


def audit(splits: Sequence[Split], table: pd.DataFrame) -> pd.DataFrame:
    """Count each fold's slides, and its test slides whose patient, or site, is also in training."""
    rows = table.set_index("slide_id")
    counts = []
    for split in splits:
        test, train = rows.loc[split.test], rows.loc[split.train]
        shared = [int(test[column].isin(set(train[column]) - {""}).sum()) for column in GROUPS.values()]
        counts.append((split.fold, *map(len, split[1:]), *shared))
    return pd.DataFrame(counts, columns=["fold", *SIDES, "test_patient_in_train", "test_site_in_train"])


def _read_split(path: Path, known: set[str], fold: int) -> Split:
    if not path.is_file():
        raise ValueError(f"fold {fold}: {path} not found; expected splits_<fold>.csv in the folder given as splits")
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    missing = [side for side in SIDES if side not in table]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table)}; expected {', '.join(SIDES)}")
    named = {side: table[side].dropna().str.strip().tolist() for side in SIDES}
    everyone = [slide for slides in named.values() for slide in slides]
    if len(set(everyone)) < len(everyone):
        twice = next(slide for slide in everyone if everyone.count(slide) > 1)
        raise ValueError(f"{path}: {twice} stands twice; expected every slide on one side")
    present = {side: [slide for slide in slides if slide in known] for side, slides in named.items()}
    for side, slides in present.items():
        if not slides:
            raise ValueError(
                f"{path}: none of its {len(named[side])} {side} slides has a label and features; check the slide ids"
            )
    return Split(fold, *present.values())
