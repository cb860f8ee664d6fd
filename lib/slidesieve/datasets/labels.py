"""A label CSV and a packed store become a manifest and one question a slide, without a shortcut in the text.

Public classification tasks by name (TASKS say which columns of their own files hold slide, patient, site and class):

panda       Kaggle's train.csv of the PANDA challenge: ISUP grade 0-5. No patient is named: every slide is its own.
tcga-brca   IDC or ILC, tcga-nsclc  LUAD or LUSC: CLAM-style tables with cBioPortal's oncotree_code, as published with
            HIPT's splits (which are CLAM's too: splits_<fold>.csv). Slides of other codes are left out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from slidesieve.cohort.ids import MIN_COVERAGE, matched
from slidesieve.cohort.tables import is_missing, read_words
from slidesieve.datasets.questions import COLUMNS, FOUR, LETTERS
from slidesieve.features.places import packed_folder
from slidesieve.features.places.packed_folder import Store


def read_labels(path: Path | None) -> pd.DataFrame:
    """Read a label CSV as words, nothing taken for a missing value. Raises ValueError naming a file that is none."""
    if path is None:
        raise ValueError("labels: no file given; set parameter labels to a CSV with slide_id, case_id and a label")
    return read_words(path)


def open_store(path: Path | None) -> Store:
    """Open the packed store that the labels belong to."""
    if path is None:
        raise ValueError("store: no file given; set parameter store to a packed feature store")
    return packed_folder.open_store(path)


def label_slides(
    labels: pd.DataFrame,
    *,
    label: str,
    stored: Sequence[str],
    most: int | None = len(FOUR),
    only: Sequence[str] = (),
    min_coverage: float = MIN_COVERAGE,
) -> pd.DataFrame:
    """Return `slide_id, case_id, site, label` of the slides that have both a label and stored features, by slide_id.

    Ids meet by `cohort.ids`, and those stored are returned; what is left out is printed: rows without a label
    (`[Not Available]` and its kin), and labelled slides without features. A missing `site` column gives empty sites;
    `only` these labels are taken, if any are named. Raises ValueError for a missing column, a slide labelled twice, a
    label count outside 2 to `most`, a label named that no slide has, or if fewer than `min_coverage` of the labelled
    slides (or of those stored, if they are fewer) have a partner.
    """
    missing = [name for name in ("slide_id", "case_id", label) if name not in labels.columns]
    if missing:
        raise ValueError(f"labels: no column {', '.join(missing)}; got {', '.join(labels.columns)}; rename or add it")
    table = pd.DataFrame(
        {
            "slide_id": labels["slide_id"].str.strip(),
            "case_id": labels["case_id"].str.strip(),
            "site": labels["site"].str.strip() if "site" in labels.columns else "",
            "label": labels[label].str.strip(),
        }
    )
    unlabelled = is_missing(table["label"])
    if unlabelled.any():
        said = ", ".join(map(repr, sorted(table["label"][unlabelled].unique())))
        print(f"labels: {unlabelled.sum()} of {len(table)} rows have no {label} ({said}) and are left out", flush=True)
    table = table[~unlabelled]
    what = f"slides with a {label}"
    found = matched(table["slide_id"], stored, what=what, least=min_coverage, of_smaller=True)
    table = table[table["slide_id"].isin(found)]
    table = table.assign(slide_id=table["slide_id"].map(found)).sort_values("slide_id")
    if table.empty:
        raise ValueError(f"labels: none of {len(labels)} rows has a {label} and features; expected the same slide_id")
    if absent := sorted(set(only) - set(table["label"])):
        there = ", ".join(sorted(table["label"].unique()))
        raise ValueError(f"labels: no slide with {label} {', '.join(absent)}; got {there}; correct the name")
    table = table[table["label"].isin(only)] if only else table
    _check_labels(table, most)
    return table.reset_index(drop=True)


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
    letters = LETTERS[: max(len(FOUR), len(options))]
    shown = [_shown(options, answer, int(place[i]), generator) for i, answer in table["label"].items()]
    asked = pd.DataFrame(shown, columns=list(letters))
    asked["ID"], asked["Slide"] = [f"q{i:05d}" for i in range(len(table))], table["slide_id"]
    asked["Tumor"], asked["Broad Category"], asked["Narrow Category"] = "", "label", label
    asked["Question"], asked["Answer"] = text, [LETTERS[i] for i in place]
    before = COLUMNS[: COLUMNS.index(FOUR[0])]
    return asked[[*before[:2], "Tumor", *before[2:], *letters, "Answer"]]


class Task(NamedTuple):
    """Column names of a public label table, and the values that are classes."""

    slide: str
    case: str
    site: str
    label: str
    classes: tuple[str, ...]


TASKS = MappingProxyType(
    {
        "panda": Task("image_id", "image_id", "data_provider", "isup_grade", tuple("012345")),
        "tcga-brca": Task("slide_id", "case_id", "site", "oncotree_code", ("IDC", "ILC")),
        "tcga-nsclc": Task("slide_id", "case_id", "site", "oncotree_code", ("LUAD", "LUSC")),
    }
)


def task_labels(labels: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `slide_id, case_id, site` and the label column of a task's own table, rows of its classes only.

    Raises ValueError for an unknown task, an absent column, or a class without a slide.
    """
    if name not in TASKS:
        raise ValueError(f"task {name!r}: expected one of {', '.join(TASKS)}, or none")
    task = TASKS[name]
    missing = [column for column in dict.fromkeys((task.slide, task.case, task.label)) if column not in labels]
    if missing:
        raise ValueError(f"{name}: no column {', '.join(missing)}; got {', '.join(labels)}; expected its public table")
    value = labels[task.label].str.strip()
    absent = sorted(set(task.classes) - set(value))
    if absent:
        raise ValueError(f"{name}: no slide with {task.label} {', '.join(absent)}; expected {', '.join(task.classes)}")
    site = labels.get(task.site, "")
    table = pd.DataFrame(
        {"slide_id": labels[task.slide], "case_id": labels[task.case], "site": site, task.label: value}
    )
    return table[value.isin(task.classes)]


def _shown(options: list[str], answer: str, place: int, generator: np.random.Generator) -> list[str]:
    shown = list(generator.permutation([option for option in options if option != answer]))
    shown.insert(place, answer)
    return shown + [""] * (len(FOUR) - len(shown))


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
