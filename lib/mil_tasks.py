"""Public classification tasks by name: which columns of their own label files say slide, patient, site and class.

panda       Kaggle's train.csv of the PANDA challenge: ISUP grade 0-5. No patient is named: every slide is its own.
tcga-brca   IDC or ILC, tcga-nsclc  LUAD or LUSC: CLAM-style tables with cBioPortal's oncotree_code, as published with
            HIPT's splits (which are CLAM's too: splits_<fold>.csv). Slides of other codes are left out.
"""

from types import MappingProxyType
from typing import NamedTuple

import pandas as pd


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
