"""Question and caption tables read into checked records, the prompt a model sees, and its letter read back.

Tables have SlideBench's columns `ID, Slide, Tumor, Broad Category, Narrow Category, Question, A, B, C, D, Answer`;
C and D may be empty, `Tumor` is not read, and `Answer` is a letter. SlideBench-VQA-BCNB has one column `Task` in place
of the two categories; it stands for both, so that scores are over all questions and by task.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd

from slidesieve.cohort.manifest import Manifest
from slidesieve.cohort.tables import read_words

LETTERS = "ABCD"
CATEGORIES = ("Broad Category", "Narrow Category")
COLUMNS = ("ID", "Slide", *CATEGORIES, "Question", *LETTERS, "Answer")
BOX_COLUMNS = ("x_px0", "y_px0", "width_px0", "height_px0")
_LETTER = re.compile(
    r"(?:(?i:answer|option|choice)(?:\s+(?i:is))?\s*:?\s*[(*\[]*"  # named as the answer, or else
    r"|(?<![\w'-]))"  # standing alone
    r"(?P<letter>[A-D])(?![\w'-])"
)
_WORD_AFTER = re.compile(r" +[a-z]")


class Question(NamedTuple):
    """One multiple-choice question about one slide; `answer` is the index of the right option."""

    id: str
    slide_id: str
    kind: str
    broad: str
    text: str
    options: tuple[str, ...]
    answer: int


class AboutSlide(Protocol):
    """Any record that names its slide: a question, a caption, an instruction, an example."""

    slide_id: str


class Caption(NamedTuple):
    """A sentence about a slide, or about the box (x, y, width, height) of it in level-0 px."""

    id: str
    slide_id: str
    box: tuple[int, int, int, int] | None
    text: str


def read_questions(path: str | Path) -> list[Question]:
    """Read a question table in file order; raise ValueError listing every fault, with its line in the file."""
    table = _read_table(path, COLUMNS)
    faults, rows = _id_faults(table), table.astype(object).to_dict("records")
    for line, row in enumerate(rows, start=2):
        faults += [f"line {line}: {fault}" for fault in _question_faults(row)]
    raise_faults(path, faults)
    return [_question(row) for row in rows]


def read_captions(path: str | Path) -> list[Caption]:
    """Read `ID, Slide, Caption` and, if present, the box columns in level-0 px; an empty box is the whole slide."""
    table = _read_table(path, ("ID", "Slide", "Caption")).reindex(
        columns=["ID", "Slide", *BOX_COLUMNS, "Caption"], fill_value=""
    )
    faults, rows = _id_faults(table), table.astype(object).to_dict("records")
    for line, row in enumerate(rows, start=2):
        faults += [f"line {line}: {fault}" for fault in _caption_faults(row)]
    raise_faults(path, faults)
    return [Caption(row["ID"], row["Slide"], _box(row), row["Caption"]) for row in rows]


def check_slides(asked: Sequence[AboutSlide], manifest: Manifest) -> None:
    """Raise ValueError naming the slides that are asked about but absent from the manifest."""
    absent = sorted({item.slide_id for item in asked} - set(manifest.table["slide_id"]))
    if absent:
        named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise ValueError(
            f"questions: {len(absent)} slides are not in the manifest ({named}); "
            "expected every Slide to be a slide_id; add the slides or remove their rows"
        )


def groups(question: Question) -> tuple[str, ...]:
    """Return the score groups that a question counts in: all, its broad and its narrow category."""
    return tuple(dict.fromkeys(("all", question.broad.lower(), question.kind.lower())))


def prompt(question: Question) -> str:
    """Return the question and its lettered options, one a line."""
    return "\n".join([question.text, *map("{}. {}".format, LETTERS, question.options)])


def extract_letter(text: str) -> str | None:
    """Return the first standalone capital A-D of the first line that says anything, or None.

    A letter before a lower-case word ("A tumour", "B cells") is prose, unless it is named ("the answer is B because").
    """
    first_line = text.strip().split("\n", 1)[0]
    for match in _LETTER.finditer(first_line):
        named = match.start("letter") > match.start()
        if named or not _WORD_AFTER.match(first_line, match.end()):
            return match["letter"]
    return None


def _read_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of stripped strings and check that the columns are there."""
    table = read_words(path)
    if "Task" in table.columns and not set(CATEGORIES) & set(table.columns):
        table = table.assign(**dict.fromkeys(CATEGORIES, table["Task"]))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table.columns)}; add the columns")
    return table.apply(lambda column: column.str.strip())


def _id_faults(table: pd.DataFrame) -> list[str]:
    repeated = table["ID"][table["ID"].duplicated() & (table["ID"] != "")].unique()
    return [f"ID {name!r} occurs more than once" for name in repeated]


def _question_faults(row: dict[str, str]) -> list[str]:
    faults = [f"{name} is empty" for name in ("ID", "Slide", "Question", "A", "B") if not row[name]]
    if row["D"] and not row["C"]:
        faults.append("option D is given without C")
    given = [row[letter] for letter in LETTERS if row[letter]]
    if len(set(given)) < len(given):
        faults.append("two options are the same")
    if row["Answer"] not in tuple(LETTERS) or not row[row["Answer"]]:
        faults.append(f"Answer is {row['Answer']!r}, expected the letter of an option that is given")
    return faults


def _question(row: dict[str, str]) -> Question:
    return Question(
        id=row["ID"],
        slide_id=row["Slide"],
        kind=row["Narrow Category"],
        broad=row["Broad Category"],
        text=row["Question"],
        options=tuple(row[letter] for letter in LETTERS if row[letter]),
        answer=LETTERS.index(row["Answer"]),
    )


def _caption_faults(row: dict[str, str]) -> list[str]:
    faults = [f"{name} is empty" for name in ("ID", "Slide", "Caption") if not row[name]]
    box = [row[name] for name in BOX_COLUMNS]
    if any(box) and not all(re.fullmatch(r"[0-9]{1,10}", value) for value in box):  # no slide is wider
        shown = ", ".join(value[:20] for value in box)
        return [*faults, f"box is {shown}; expected four whole numbers in level-0 px, or four empty fields"]
    if any(box) and not (int(box[2]) and int(box[3])):
        faults.append("box has no area")
    return faults


def _box(row: dict[str, str]) -> tuple[int, int, int, int] | None:
    x, y, width, height = (row[name] for name in BOX_COLUMNS)
    return (int(x), int(y), int(width), int(height)) if x else None


def raise_faults(path: str | Path, faults: list[str]) -> None:
    """Raise ValueError with the first 20 faults of a file, if there are any."""
    if faults:
        listed = "\n  ".join(faults[:20] + ([f"... and {len(faults) - 20} more"] if len(faults) > 20 else []))
        listed = listed.encode(errors="backslashreplace").decode()  # JSON may hold halves of characters
        raise ValueError(f"{path}: {len(faults)} faults; correct these and run again\n  {listed}")
