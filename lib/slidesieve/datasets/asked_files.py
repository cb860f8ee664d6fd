"""Files of questions, captions and conversations as published: which are taught, which are tested, what they hold.

A file is taught whose name says train, and tested whose name says test (or neither, if another says train).
Without any such name all files are both: their slides are split. Captions are taught.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.ids import Match, match, without_ending
from slidesieve.cohort.tables import read_words
from slidesieve.datasets.benchmarks import TABLES, question_table, read_benchmark
from slidesieve.datasets.instructions import SPEAKERS, Instruction, load_json, parse_instructions
from slidesieve.datasets.open_questions import OpenQuestion, open_table
from slidesieve.datasets.questions import BOX_COLUMNS, Caption, Question, read_captions
from slidesieve.datasets.records import Fault
from slidesieve.datasets.versions import version_of
from slidesieve.provenance.files import hash_file

TRAIN, TEST, BOTH = "train", "test", ""
DESCRIBED = ("caption", "report")  # in the name of a file of conversations that describe slides


class AskedFile(NamedTuple):
    """What a file holds, under the cohort's ids where they are known; `role` is TRAIN, TEST or BOTH."""

    path: Path
    role: str
    questions: list[Question]
    open: list[OpenQuestion]
    captions: list[Caption]
    instructions: list[Instruction]
    faults: list[Fault]
    n: int
    match: Match

    @property
    def slides(self) -> list[str]:
        items = (*self.questions, *self.open, *self.captions, *self.instructions)
        return list(dict.fromkeys(item.slide_id for item in items))


def read_asked_files(paths: Sequence[Path], slides: Sequence[str], *, corrections: Path | None) -> list[AskedFile]:
    """Read files in order; ids of questions are made to differ between files by the file's name, where they do not."""
    roles = _roles(paths)
    files = [_read(path, roles[path], slides, corrections) for path in paths]
    ids = [item.id for file in files for item in (*file.questions, *file.open)]
    return files if len(set(ids)) == len(ids) else [_named_apart(file) for file in files]


def about(file: AskedFile, slides: Iterable[str]) -> AskedFile:
    """What a file holds about some slides alone."""
    known = set(slides)
    lists = (file.questions, file.open, file.captions, file.instructions)
    return AskedFile(*file[:2], *([one for one in own if one.slide_id in known] for own in lists), *file[6:])


def file_table(files: Sequence[AskedFile]) -> pd.DataFrame:
    """One row a file: what it is, its role, what it holds, what was set aside, whom it meets.

    `version` is which published file it is, as far as `datasets.versions` knows.
    """
    rows = []
    for file in files:
        sha256, asked = hash_file(file.path), len(file.match.found) + len(file.match.lost)
        repaired = sum(fault.repaired for fault in file.faults)
        aside = len({fault.place for fault in file.faults if not fault.repaired})
        held = (len(file.questions), len(file.open), len(file.captions))
        met = (asked, len(file.match.found), "; ".join(f"{n} {rule}" for rule, n in file.match.how.items()))
        version = version_of(file.path, rows=file.n, slides=asked)
        rows.append((file.path.name, sha256, version, file.role or "both", file.n, *held, aside, repaired, *met))
    names = ["file", "sha256", "version", "role", "records", "closed", "open", "captions", "set_aside", "repaired"]
    return pd.DataFrame(rows, columns=[*names, "slides_asked", "slides_found", "found_how"])


def write_tables(files: Sequence[AskedFile], folder: Path) -> list[str]:
    """Write what is asked and taught, as far as there is any; return the names of the files.

    questions.csv (taught and tested), open_questions.csv (tested), captions.csv or captions.json, instructions.json.
    """
    closed = [question for file in files for question in file.questions]
    opened = [question for file in files if file.role != TRAIN for question in file.open]
    captions = [caption for file in files for caption in file.captions]
    taught: dict[str, list[dict]] = {}
    for file in files:
        items = [_conversation(f"{file.path.name}:{i}", one) for i, one in enumerate(file.instructions)]
        describes = any(word in file.path.name.lower() for word in DESCRIBED)
        taught.setdefault("captions.json" if describes else "instructions.json", []).extend(items)
    tables = {
        "questions.csv": question_table(closed) if closed else None,
        "open_questions.csv": open_table(opened) if opened else None,
        "captions.csv": _caption_table(captions) if captions else None,
    }
    for name, table in tables.items():
        if table is not None:
            table.to_csv(folder / name, index=False)
    taught = {name: items for name, items in taught.items() if items}
    for name, items in taught.items():
        (folder / name).write_text(json.dumps(items, ensure_ascii=False, indent=0), encoding="utf-8")
    return [*(name for name, table in tables.items() if table is not None), *taught]


def _conversation(name: str, item: Instruction) -> dict:
    """An instruction in SlideInstruct's form, for `read_instructions` to read back."""
    said = [words for turn in item.turns for words in zip(SPEAKERS, turn, strict=True)]
    parts = [{"from": speaker, "value": words} for speaker, words in said]
    return {"id": name, "image": [f"{item.slide_id}.h5"], "conversations": parts}


def _caption_table(captions: Sequence[Caption]) -> pd.DataFrame:
    rows = [(c.id, c.slide_id, *(c.box or [""] * len(BOX_COLUMNS)), c.text) for c in captions]
    return pd.DataFrame(rows, columns=["ID", "Slide", *BOX_COLUMNS, "Caption"])


def _roles(paths: Sequence[Path]) -> dict[Path, str]:
    said = {path: set(re.split(r"[^a-z]+", Path(path).name.lower())) & {TRAIN, "training", TEST} for path in paths}
    taught = {path for path, words in said.items() if words & {TRAIN, "training"}}
    tested = {path for path, words in said.items() if TEST in words}
    rest = TEST if taught else BOTH
    return {path: TRAIN if path in taught else TEST if path in tested else rest for path in paths}


def _read(path: Path, role: str, slides: Sequence[str], corrections: Path | None) -> AskedFile:
    path, questions, opened, captions, instructions = Path(path), [], [], [], []
    if path.suffix.lower() in TABLES and "Caption" in read_words(path):
        captions, faults = read_captions(path), []
        n = len(captions)
    else:
        read = read_benchmark(path, slides=slides, corrections=corrections)
        questions, opened, faults, n = read.questions, read.open, read.faults, read.n
        if role == TRAIN and path.suffix.lower() not in TABLES and _converses(path):
            instructions = parse_instructions(path, corrections=corrections).used
    items = (*questions, *opened, *captions, *instructions)
    result = match((item.slide_id for item in items), slides)
    names = {item.slide_id: result.found.get(item.slide_id, without_ending(item.slide_id)) for item in items}
    renamed = ([one._replace(slide_id=names[one.slide_id]) for one in own] for own in (questions, opened, captions))
    taught = [one._replace(slide_id=names[one.slide_id]) for one in instructions]
    return AskedFile(path, role, *renamed, taught, faults, n, result)


def _converses(path: Path) -> bool:
    items = load_json(path)
    return isinstance(items, list) and isinstance(items[0], dict) and "conversations" in items[0]


def _named_apart(file: AskedFile) -> AskedFile:
    stem = file.path.name.split(".")[0]
    parts = ([one._replace(id=f"{stem}:{one.id}") for one in own] for own in (file.questions, file.open))
    questions, opened = parts
    return file._replace(questions=questions, open=opened)
