"""Benchmarks that come as JSON, turned into the question table that every notebook reads.

WSI-VQA: `{Id, Question, Answer, Choice?}`, `Id` the patient, `Answer` the text of a choice. WSI-Bench: SlideInstruct's
form, options inside the question (`... A) ... B) ...`), answers a letter, or Yes and No. Open questions have no key to
score against: they are left out and counted.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.manifest import Manifest
from slidesieve.cohort.splits import tcga_case
from slidesieve.datasets.instructions import is_text, read_instructions
from slidesieve.datasets.questions import COLUMNS, LETTERS, Question, extract_letter, raise_faults, read_questions

NEEDED = ("Id", "Question", "Answer")
YES_NO = ("Yes", "No")


class Converted(NamedTuple):
    """The closed questions of a benchmark, and how many open ones were left out."""

    questions: list[Question]
    n_open: int


def read_benchmark(path: Path, *, slides: Sequence[str]) -> Converted:
    """Read test questions as published: a table (.csv), WSI-VQA or one file of WSI-Bench (.json, told by its keys).

    `slides` are those with features: WSI-VQA names patients only.
    """
    if Path(path).suffix.lower() == ".csv":
        return Converted(read_questions(path), 0)
    if not _is_wsi_vqa(Path(path)):
        return wsi_bench_questions(path, kind=Path(path).stem)
    cases = pd.DataFrame({"slide_id": slides, "case_id": [tcga_case(slide) or slide for slide in slides]})
    return wsi_vqa_questions(path, Manifest(cases, Path(path).parent))


def wsi_vqa_questions(path: Path, manifest: Manifest) -> Converted:
    """Read WSI-VQA; a patient's slide is the manifest's only one of that case, or else its DX1.

    Raises ValueError listing each closed item without a slide, or whose answer is not one of 2 to 4 different choices.
    """
    items = _items(Path(path))
    if not isinstance(items, list):
        raise ValueError(f"{path}: got a {type(items).__name__}; expected a list of questions; download it again")
    raise_faults(path, [f"item {i}: {fault}" for i, item in enumerate(items) for fault in _form_faults(item)])
    slides = {case: list(rows) for case, rows in manifest.table.groupby("case_id")["slide_id"]}
    questions, faults = [], []
    for i, item in enumerate(items):
        if item.get("Choice"):
            slide = _diagnostic(slides.get(item["Id"], []))
            choices, answer = [choice.strip() for choice in item["Choice"]], item["Answer"].strip()
            faults += [f"item {i} ({item['Id']}): {fault}" for fault in _faults(slide, choices, answer)]
            key = choices.index(answer) if answer in choices else -1
            text = item["Question"].strip()
            questions.append(Question(f"{item['Id']}-{i}", slide, "WSI-VQA", "WSI-VQA", text, tuple(choices), key))
    raise_faults(path, faults)
    return Converted(questions, len(items) - len(questions))


def wsi_bench_questions(path: Path, *, kind: str) -> Converted:
    """Read a file of WSI-Bench; `kind` names its task, the narrow category of its questions."""
    instructions = read_instructions(path)
    questions = []
    for i, instruction in enumerate(instructions):
        asked, said = instruction.turns[0]
        text, *options = (part.strip() for part in re.split(r"\s[A-D]\)\s", asked))
        if len(set(options)) == len(LETTERS) and (letter := extract_letter(said)):
            key = LETTERS.index(letter)
        elif not options and said.rstrip(".") in YES_NO:
            options, key = list(YES_NO), YES_NO.index(said.rstrip("."))
        else:
            continue
        questions.append(Question(f"{kind}-{i}", instruction.slide_id, kind, "WSI-Bench", text, tuple(options), key))
    return Converted(questions, len(instructions) - len(questions))


def question_table(questions: Sequence[Question]) -> pd.DataFrame:
    """Return the table that `read_questions` reads back as these questions."""
    rows = [
        (
            q.id,
            q.slide_id,
            q.broad,
            q.kind,
            q.text,
            *q.options,
            *[""] * (len(LETTERS) - len(q.options)),
            LETTERS[q.answer],
        )
        for q in questions
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_wsi_vqa(path: Path) -> bool:
    if path.suffix == ".gz":
        return False
    items = _items(path)
    return isinstance(items, list) and bool(items) and not _absent(items[0])


def _items(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: neither .csv nor JSON ({error}); expected a table of questions or a list") from error


def _absent(item: object) -> list[str]:
    return [name for name in NEEDED if name not in item] if isinstance(item, dict) else list(NEEDED)


def _form_faults(item: object) -> list[str]:
    """Say what a closed question lacks, or what of it is no text; of an open one only that it is whole."""
    if absent := _absent(item):
        return [f"no {name}" for name in absent]
    if not (choices := item.get("Choice")):
        return []
    texts = {name: is_text(item[name]) for name in NEEDED}
    texts["each Choice"] = isinstance(choices, list) and all(map(is_text, choices))
    return [f"{name} is no text; write it as a string" for name, fine in texts.items() if not fine]


def _diagnostic(slides: list[str]) -> str:
    """Return a patient's one slide, or the one named DX1; "" if that is none or several."""
    first = [slide for slide in slides if "-DX1" in slide] if len(slides) > 1 else slides
    return first[0] if len(first) == 1 else ""


def _faults(slide: str, choices: list[str], answer: str) -> list[str]:
    faults = [] if slide else ["expected one slide of this case in the manifest, or one named DX1; add it"]
    if not 2 <= len(set(choices)) == len(choices) <= len(LETTERS):
        faults.append(f"choices are {choices}; expected 2 to 4 different ones")
    if answer not in choices:
        faults.append(f"answer is {answer!r}; expected one of {choices}")
    return faults
