"""A label CSV and a packed store become a manifest and one question a slide, without a shortcut in the text."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold

from lib.features import PackedStore
from lib.manifest import Manifest, shared_cases, shared_tcga_cases, split_of
from lib.questions import COLUMNS, LETTERS

SUFFIXES = r"\.(svs|ndpi|tiff?|dcm|mrxs|h5|pt|csv)$"


def read_labels(path: Path | None) -> pd.DataFrame:
    """Read a label CSV as words, nothing taken for a missing value."""
    if path is None:
        raise ValueError("labels: no file given; set parameter labels to a CSV with slide_id, case_id and a label")
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def open_store(path: Path | None) -> PackedStore:
    """Open the packed store that the labels belong to."""
    if path is None:
        raise ValueError("store: no file given; set parameter store to a packed feature store (.h5)")
    return PackedStore(path)


def label_slides(
    labels: pd.DataFrame, *, label: str, stored: Sequence[str], most: int | None = len(LETTERS)
) -> pd.DataFrame:
    """Return `slide_id, case_id, site, label` of the slides that have both a label and stored features, by slide_id.

    File suffixes of slide_id are dropped; a missing `site` column gives empty sites. Raises ValueError for a missing
    column, a slide labelled twice, a label count outside 2 to `most`, or no slide in common.
    """
    missing = [name for name in ("slide_id", "case_id", label) if name not in labels.columns]
    if missing:
        raise ValueError(f"labels: no column {', '.join(missing)}; got {', '.join(labels.columns)}; rename or add it")
    table = pd.DataFrame(
        {
            "slide_id": labels["slide_id"].str.strip().str.replace(SUFFIXES, "", regex=True, case=False),
            "case_id": labels["case_id"].str.strip(),
            "site": labels["site"].str.strip() if "site" in labels.columns else "",
            "label": labels[label].str.strip(),
        }
    )
    table = table[table["slide_id"].isin(set(stored)) & (table["label"] != "")].sort_values("slide_id")
    if table.empty:
        raise ValueError(
            f"labels: none of {len(labels)} slides with a {label} is in the store "
            f"(label {labels['slide_id'].iloc[0]!r}, store {stored[0]!r}); expected the same slide_id"
        )
    _check_labels(table, most)
    return table.reset_index(drop=True)


def folds(table: pd.DataFrame, *, n_folds: int, seed: int, by: str = "case_id") -> Int[np.ndarray, " s"]:
    """Return a fold number for each slide: a case (or what `by` names) stays in one, labels are spread evenly."""
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = np.full(len(table), -1)
    for number, (_, test) in enumerate(splitter.split(table, table["label"], groups=table[by])):
        fold[test] = number
    return fold


def manifest_table(table: pd.DataFrame, *, label: str, store: Path, root: Path, source: str) -> pd.DataFrame:
    """Return manifest rows whose feature_path is the packed store, relative to DATA_ROOT or else to `root`."""
    base = Path(os.environ.get("DATA_ROOT") or root)
    return pd.DataFrame(
        {
            "slide_id": table["slide_id"],
            "case_id": table["case_id"],
            "site": table["site"],
            "slide_path": "",
            "feature_path": os.path.relpath(store.resolve(), base.resolve()),
            "mpp": "",
            "split": table["fold"].astype(str),
            "sha256": "",
            "source": source,
            "licence": "",
            f"label_{label}": table["label"],
        }
    )


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


def question_table(table: pd.DataFrame, *, text: str, label: str, seed: int) -> pd.DataFrame:
    """Ask `text` of every slide, with the label values as options in SlideBench's columns.

    Inside each fold and label the right option goes round the letters, so that neither the letter nor the text tells
    the label; the other options follow in random order.
    """
    options = sorted(table["label"].unique())
    generator = np.random.default_rng(seed)
    place = pd.Series(0, index=table.index)
    dealt = dict.fromkeys(options, 0)
    for (_, answer), rows in table.groupby(["fold", "label"]).groups.items():
        turn = dealt[answer] + np.arange(len(rows))
        place[rows] = generator.permutation(turn % len(options))
        dealt[answer] += len(rows)
    shown = [_shown(options, answer, int(place[i]), generator) for i, answer in table["label"].items()]
    asked = pd.DataFrame(shown, columns=list(LETTERS))
    asked["ID"], asked["Slide"] = [f"q{i:05d}" for i in range(len(table))], table["slide_id"]
    asked["Tumor"], asked["Broad Category"], asked["Narrow Category"] = "", "label", label
    asked["Question"], asked["Answer"] = text, [LETTERS[i] for i in place]
    return asked[[*COLUMNS[:2], "Tumor", *COLUMNS[2:]]]


def _shown(options: list[str], answer: str, place: int, generator: np.random.Generator) -> list[str]:
    shown = list(generator.permutation([option for option in options if option != answer]))
    shown.insert(place, answer)
    return shown + [""] * (len(LETTERS) - len(shown))


def _check_labels(table: pd.DataFrame, most: int | None) -> None:
    twice = table["slide_id"][table["slide_id"].duplicated()].unique()
    if len(twice):
        raise ValueError(f"labels: {len(twice)} slides have two rows ({twice[0]}, ...); keep one row a slide")
    found = table["label"].value_counts()
    if len(found) < 2 or (most and len(found) > most):
        expected = f"2 to {most}" if most else "at least 2"
        raise ValueError(
            f"labels: got {len(found)} values ({', '.join(found.index[:6])}); expected {expected}; filter or join them"
        )
