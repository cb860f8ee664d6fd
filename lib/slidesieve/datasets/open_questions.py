"""Questions without options: what is asked, and the answer that words are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.tables import read_words
from slidesieve.datasets.records import Fault, record_hash, settle

COLUMNS = ("ID", "Slide", "Broad Category", "Narrow Category", "Question", "Reference")


class OpenQuestion(NamedTuple):
    """One question about one slide; `reference` is a right answer, in words."""

    id: str
    slide_id: str
    kind: str
    broad: str
    text: str
    reference: str


def open_table(questions: Sequence[OpenQuestion]) -> pd.DataFrame:
    """Return the table that `read_open_questions` reads back as these questions."""
    rows = [(q.id, q.slide_id, q.broad, q.kind, q.text, q.reference) for q in questions]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_open_questions(path: str | Path) -> list[OpenQuestion]:
    """Read a table of COLUMNS, rows with an empty field or a second one of an ID set aside and counted."""
    table = read_words(path)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table)}; add the columns")
    used, faults, seen = [], [], set()
    for line, row in enumerate(table.astype(object).to_dict("records"), start=2):
        empty = [name for name in ("ID", "Slide", "Question", "Reference") if not row[name]]
        found = [("a field is empty", f"{name} is empty") for name in empty]
        found += [("an ID twice", f"ID {row['ID']!r} occurs more than once")] if row["ID"] in seen else []
        seen.add(row["ID"])
        faults += [Fault(f"line {line}", row["ID"], record_hash(row), *one) for one in found]
        if not found:
            names = ("ID", "Slide", "Narrow Category", "Broad Category", "Question", "Reference")
            used.append(OpenQuestion(*(row[name] for name in names)))
    settle(path, faults, n=len(table))
    return used
