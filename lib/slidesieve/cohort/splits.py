"""Who is on which side: a manifest's splits, folds by patient or by site, published folds, and what two sides share."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from slidesieve.cohort.ids import MIN_COVERAGE, matched, tcga_case
from slidesieve.cohort.manifest import Manifest
from slidesieve.cohort.tables import is_missing, read_words

GROUPS = {"patient": "case_id", "site": "site"}  # word -> column that no two sides of a fold share
SIDES = ("train", "val", "test")


class Split(NamedTuple):
    """Slides of one fold; validation chooses the weights, test is looked at once."""

    fold: int
    train: list[str]
    validation: list[str]
    test: list[str]


def splits_of(
    table: pd.DataFrame,
    splits: Path | str,
    *,
    folds: Sequence[int],
    n_folds: int,
    seed: int,
    min_coverage: float = MIN_COVERAGE,
) -> list[Split]:
    """Folds by a word of GROUPS, or from a folder of published split files."""
    if splits in GROUPS:
        return grouped_splits(table, by=splits, folds=folds, n_folds=n_folds, seed=seed)
    if not Path(splits).is_dir():
        raise ValueError(f"splits {str(splits)!r}: no such folder; expected one of splits_<fold>.csv, patient or site")
    return published_splits(Path(splits), table["slide_id"], folds, min_coverage=min_coverage)


def published_splits(
    folder: Path, known: Sequence[str], folds: Sequence[int], *, min_coverage: float = MIN_COVERAGE
) -> list[Split]:
    """Read splits_<fold>.csv with columns train, val, test of slide ids; those that are not `known` are told and left.

    Raises ValueError for an absent file or column, a slide on two sides, a side without any known slide, or if fewer
    than `min_coverage` of the slides named (or of those known, if they are fewer) have a partner.
    """
    return [_read_split(folder / f"splits_{fold}.csv", list(known), fold, min_coverage) for fold in folds]


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
    part = fold_numbers(table, n_folds=n_folds, seed=seed, by=GROUPS[by])
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


def check_classes(splits: Sequence[Split], table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `table` that some fold names. Raises ValueError if a side lacks one of their classes."""
    named = table[table["slide_id"].isin({slide for split in splits for side in split[1:] for slide in side})]
    label, faults = named.set_index("slide_id")["label"], []
    for split in splits:
        for name, side in zip(SIDES, split[1:], strict=True):
            faults += [f"fold {split.fold}: no {c!r} in {name}" for c in sorted(set(label) - set(label[side]))]
    if faults:
        shown = "; ".join(faults[:5]) + f"; and {len(faults) - 5} more" * (len(faults) > 5)
        raise ValueError(f"folds: {shown}; use fewer folds, another cut, or leave such classes out (classes)")
    return named.reset_index(drop=True)


def audit_splits(splits: Sequence[Split], table: pd.DataFrame) -> pd.DataFrame:
    """Count each fold's slides, and its test slides whose patient, or site, is also in training."""
    rows = table.set_index("slide_id")
    counts = []
    for split in splits:
        test, train = rows.loc[split.test], rows.loc[split.train]
        shared = [int(test[column].isin(set(train[column]) - {""}).sum()) for column in GROUPS.values()]
        counts.append((split.fold, *map(len, split[1:]), *shared))
    return pd.DataFrame(counts, columns=["fold", *SIDES, "test_patient_in_train", "test_site_in_train"])


def fold_numbers(table: pd.DataFrame, *, n_folds: int, seed: int, by: str = "case_id") -> Int[np.ndarray, " s"]:
    """Return a fold number for each slide: a case (or what `by` names) stays in one, labels are spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = np.full(len(table), -1)
    for number, (_, test) in enumerate(splitter.split(table, table["label"], groups=table[by])):
        fold[test] = number
    return fold


def leaks(manifest: Manifest, *, n_folds: int) -> pd.DataFrame:
    """Count, for each fold, the cases shared by its training and test slides: by case_id and by TCGA barcode."""
    rows = []
    for fold in range(n_folds):
        split = split_of(manifest, fold)
        train, test = (split.index[split == side].tolist() for side in ("train", "test"))
        by_table, by_barcode = shared_cases(train, test, manifest.table), shared_tcga_cases(train, test)
        rows.append((fold, len(train), len(test), len(by_table), len(by_barcode)))
    columns = ["fold", "train_slides", "test_slides", "shared_cases", "shared_barcodes"]
    return pd.DataFrame(rows, columns=columns)


def split_of(manifest: Manifest, fold: int = -1) -> pd.Series:
    """Map slide_id -> train, val, test ("" = in none).

    fold >= 0 reads `split` as fold numbers: test = fold, val = the next one (cyclically), train = the rest.
    """
    split = manifest.table.set_index("slide_id")["split"]
    numbers = sorted({int(s) for s in split if s.isdigit()})
    if fold < 0:
        if numbers:
            raise ValueError(f"split holds fold numbers {numbers}; set fold to one of them")
        return split
    if fold not in numbers or numbers != list(range(len(numbers))) or len(numbers) < 3:
        raise ValueError(f"fold {fold}: split holds {numbers or sorted(set(split))}; expected it among 0, 1, 2, ...")
    names = {str(n): "train" for n in numbers} | {str((fold + 1) % len(numbers)): "val", str(fold): "test", "": ""}
    return split.map(names)


def shared_cases(a_ids: list[str], b_ids: list[str], table: pd.DataFrame) -> list[str]:
    """List the cases with slides among both a_ids and b_ids."""
    return _shared(a_ids, b_ids, table.set_index("slide_id")["case_id"])


def shared_sites(a_ids: list[str], b_ids: list[str], table: pd.DataFrame) -> list[str]:
    """List the sites with slides among both a_ids and b_ids; a row without a site counts for none."""
    return _shared(a_ids, b_ids, table.set_index("slide_id")["site"])


def shared_tcga_cases(a_ids: list[str], b_ids: list[str]) -> list[str]:
    """List the TCGA patients (TCGA-SS-PPPP) among both, by barcode alone; other ids count for none."""
    ids = list(dict.fromkeys([*a_ids, *b_ids]))
    return _shared(a_ids, b_ids, pd.Series([tcga_case(i) for i in ids], index=ids))


def _read_split(path: Path, known: Sequence[str], fold: int, min_coverage: float) -> Split:
    if not path.is_file():
        raise ValueError(f"fold {fold}: {path} not found; expected splits_<fold>.csv in the folder given as splits")
    table = read_words(path)
    missing = [side for side in SIDES if side not in table]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table)}; expected {', '.join(SIDES)}")
    named = {side: table[side][~is_missing(table[side])].tolist() for side in SIDES}
    everyone = [slide for slides in named.values() for slide in slides]
    if len(set(everyone)) < len(everyone):
        twice = next(slide for slide in everyone if everyone.count(slide) > 1)
        raise ValueError(f"{path}: {twice} stands twice; expected every slide on one side")
    found = matched(everyone, known, what=path.name, least=min_coverage, of_smaller=True)
    present = {side: [found[slide] for slide in slides if slide in found] for side, slides in named.items()}
    for side, slides in present.items():
        if not slides:
            raise ValueError(
                f"{path}: none of its {len(named[side])} {side} slides has a label and features; check the slide ids"
            )
    return Split(fold, *present.values())


def _shared(a_ids: list[str], b_ids: list[str], group: pd.Series) -> list[str]:
    return sorted((set(group[list(a_ids)]) & set(group[list(b_ids)])) - {""})
