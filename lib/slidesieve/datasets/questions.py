"""Question and caption tables read into checked records, the prompt a model sees, and its letter read back.

Tables have SlideBench's columns `ID, Slide, Tumor, Broad Category, Narrow Category, Question, A, B, C, D, Answer`, or
more or fewer of options; those from C on may be empty, `Tumor` is not read, and `Answer` is a letter.
SlideBench-VQA-BCNB has one column `Task` in place of the two categories; it stands for both, so that scores are over
all questions and by task. Rows that cannot be asked are set aside and counted (`datasets.records`).
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd

from slidesieve.cohort.ids import MIN_COVERAGE, common, matched
from slidesieve.cohort.manifest import Manifest
from slidesieve.cohort.tables import read_words
from slidesieve.datasets.records import Fault, Records, corrected, read_corrections, record_hash

LETTERS = "ABCDEFGHIJ"
FOUR = LETTERS[:4]  # SlideBench's columns of options
CATEGORIES = ("Broad Category", "Narrow Category")
NEEDED = ("ID", "Slide", *CATEGORIES, "Question", "A", "B", "Answer")
COLUMNS = ("ID", "Slide", *CATEGORIES, "Question", *FOUR, "Answer")
NO_BOX = "no box"
BOX_COLUMNS = ("x_px0", "y_px0", "width_px0", "height_px0")
_LETTER = {
    last: re.compile(
        r"(?:(?i:answer|option|choice)(?:\s+(?i:is))?\s*:?\s*[(*\[]*"  # named as the answer, or else
        r"|(?<![\w'-]))"  # standing alone
        rf"(?P<letter>[A-{last}])(?![\w'-])"
    )
    for last in LETTERS
}
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


def read_questions(path: str | Path, *, corrections: Path | None = None) -> list[Question]:
    """Read a question table in file order, faulty rows set aside; ValueError listing them, by line, if too many."""
    return parse_questions(path, corrections=corrections).settled(path)


def parse_questions(path: str | Path, *, corrections: Path | None = None) -> Records:
    """Read a question table in file order, and what is wrong with its rows."""
    table = _read_table(path, NEEDED)
    letters = "".join(letter for letter in LETTERS if letter in table.columns)
    if not LETTERS.startswith(letters) or (more := [c for c in table if re.fullmatch("[K-Z]", c)]):
        got = ", ".join([*letters, *(more if LETTERS.startswith(letters) else [])])
        raise ValueError(f"{path}: columns of options {got}; expected A, B, ... to {LETTERS[-1]} at most; rename them")
    return _parsed(table, read_corrections(corrections), _question_faults, _question, letters)


def read_captions(path: str | Path) -> list[Caption]:
    """Read `ID, Slide, Caption` and, if present, the box columns in level-0 px; an empty box is the whole slide."""
    columns = ["ID", "Slide", *BOX_COLUMNS, "Caption"]
    table = _read_table(path, ("ID", "Slide", "Caption")).reindex(columns=columns, fill_value="")
    return _parsed(table, {}, _caption_faults, _caption, "").settled(path)


def in_cohort(
    items: Sequence[AboutSlide], manifest: Manifest, *, what: str, least: float = MIN_COVERAGE
) -> list[AboutSlide]:
    """Return the items about the manifest's slides, under its slide_id; the line of coverage is printed.

    Raises ValueError if fewer than a share `least` of the slides that are asked about are in the manifest.
    """
    slides = (item.slide_id for item in items)
    return renamed(items, matched(slides, manifest.table["slide_id"], what=f"slides of {what}", least=least))


def read_asked(path: str | Path, manifest: Manifest) -> list[Question]:
    """Read the questions about the manifest's slides, under its ids; what is lost was told by an earlier stage."""
    questions = read_questions(path)
    return renamed(questions, common([question.slide_id for question in questions], manifest.places))


def renamed(items: Sequence[AboutSlide], found: Mapping[str, str]) -> list[AboutSlide]:
    """The items about slides that are found, under the names they are found by."""
    return [item._replace(slide_id=found[item.slide_id]) for item in items if item.slide_id in found]


def groups(question: Question) -> tuple[str, ...]:
    """Return the score groups that a question counts in: all, its broad and its narrow category."""
    return tuple(dict.fromkeys(("all", question.broad.lower(), question.kind.lower())))


def prompt(question: Question) -> str:
    """Return the question and its lettered options, one a line."""
    return "\n".join([question.text, *map("{}. {}".format, LETTERS, question.options)])


def option_columns(questions: Sequence[Question]) -> str:
    """The letters of a table's columns of options: SlideBench's four, or as many as are needed."""
    return LETTERS[: max([len(FOUR), *(len(question.options) for question in questions)])]


def extract_letter(text: str, n: int = len(FOUR)) -> str | None:
    """Return the first standalone capital, one of the first `n`, of the first line that says anything, or None.

    A letter before a lower-case word ("A tumour", "B cells") is prose, unless it is named ("the answer is B because").
    """
    first_line = text.strip().split("\n", 1)[0]
    for match in _LETTER[LETTERS[n - 1]].finditer(first_line):
        named = match.start("letter") > match.start()
        if named or not _WORD_AFTER.match(first_line, match.end()):
            return match["letter"]
    return None


def _read_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table and check that the columns are there."""
    table = read_words(path)
    if "Task" in table.columns and not set(CATEGORIES) & set(table.columns):
        table = table.assign(**dict.fromkeys(CATEGORIES, table["Task"]))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table.columns)}; add the columns")
    return table


def _parsed(
    table: pd.DataFrame,
    corrections: Mapping[str, object],
    faults_of: Callable[[dict[str, str]], list[tuple[str, str]]],
    record_of: Callable[[dict[str, str]], Question | Caption],
    letters: str,
) -> Records:
    """Turn rows into records; the second of an ID is a fault, and an answer told by its words is a repair."""
    rows = corrected(table.astype(object).to_dict("records"), corrections)
    used, faults, seen = [], [], set()
    for line, row in enumerate(rows, start=2):
        answered = row | {"Answer": _lettered(row, letters)} if letters else row
        found = [(*fault, False) for fault in faults_of(answered)]
        if row["ID"] in seen and row["ID"]:
            found.append(("an ID twice", f"ID {row['ID']!r} occurs more than once", False))
        seen.add(row["ID"])
        if not found:
            used.append(record_of(answered))
            if letters and answered["Answer"] != row["Answer"]:
                found = [("an answer in words", f"Answer is {row['Answer']!r}, taken for {answered['Answer']}", True)]
        if found:
            faults += [Fault(f"line {line}", row["ID"], record_hash(row), *one) for one in found]
    return Records(used, faults, len(rows))


def _lettered(row: dict[str, str], letters: str) -> str:
    """The answer's letter where it is told by an option's words, or in lower case; else as it is."""
    said = row["Answer"]
    if said in tuple(letters):
        return said
    named = [letter for letter in letters if row[letter] and plain(row[letter]) == plain(said)]
    return named[0] if len(named) == 1 else said.upper() if said.upper() in tuple(letters) else said


def plain(option: str) -> str:
    """An option's words, whatever their case, spaces and how letters are composed: else they cannot be told apart."""
    return " ".join(unicodedata.normalize("NFC", option).casefold().split())


def _question_faults(row: dict[str, str]) -> list[tuple[str, str]]:
    faults = [
        ("a field is empty", f"{name} is empty") for name in ("ID", "Slide", "Question", "A", "B") if not row[name]
    ]
    letters = [letter for letter in LETTERS if letter in row]
    given = [letter for letter in letters if row[letter]]
    if gap := [(a, b) for a, b in pairwise(letters) if row[b] and not row[a] and a not in ("A", "B")]:
        faults.append(("an option is left out", f"option {gap[0][1]} is given without {gap[0][0]}"))
    if len({plain(row[letter]) for letter in given}) < len(given):
        faults.append(("equal options", "two options are the same, or differ in case and spaces only"))
    if row["Answer"] not in given:
        told = f"Answer is {row['Answer']!r}, expected the letter of an option that is given"
        faults.append(("the answer is no option", told))
    return faults


def _question(row: dict[str, str]) -> Question:
    return Question(
        id=row["ID"],
        slide_id=row["Slide"],
        kind=row["Narrow Category"],
        broad=row["Broad Category"],
        text=row["Question"],
        options=tuple(row[letter] for letter in LETTERS if row.get(letter)),
        answer=LETTERS.index(row["Answer"]),
    )


def _caption(row: dict[str, str]) -> Caption:
    return Caption(row["ID"], row["Slide"], _box(row), row["Caption"])


def _caption_faults(row: dict[str, str]) -> list[tuple[str, str]]:
    faults = [("a field is empty", f"{name} is empty") for name in ("ID", "Slide", "Caption") if not row[name]]
    box = [row[name] for name in BOX_COLUMNS]
    if any(box) and not all(re.fullmatch(r"[0-9]{1,10}", value) for value in box):  # no slide is wider
        shown = ", ".join(value[:20] for value in box)
        return [*faults, (NO_BOX, f"box is {shown}; expected four whole numbers in level-0 px, or four empty fields")]
    return [*faults, (NO_BOX, "box has no area")] if any(box) and not (int(box[2]) and int(box[3])) else faults


def _box(row: dict[str, str]) -> tuple[int, int, int, int] | None:
    x, y, width, height = (row[name] for name in BOX_COLUMNS)
    return (int(x), int(y), int(width), int(height)) if x else None
