"""Benchmarks as they are published, turned into questions with options and without.

A table (SlideBench's columns, see `questions`), or JSON in one of three forms, told by its keys:

SlideBench  `{"samples": [{slide_id, question, choices, answer, category}]}`
WSI-VQA     `[{Id, Question, Answer, Choice?}]`, `Id` the patient, `Answer` the text of a choice
WSI-Bench   SlideInstruct's conversations, options inside the question (`... A) ... B) ...`), answers a letter, or Yes
            and No; all others are open

Items that cannot be asked are set aside and counted; an answer told in an option's words is taken for its letter.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.ids import tcga_case, without_ending
from slidesieve.datasets.instructions import is_text, load_json, parse_instructions
from slidesieve.datasets.open_questions import OpenQuestion
from slidesieve.datasets.questions import (
    COLUMNS,
    FOUR,
    LETTERS,
    Question,
    extract_letter,
    option_columns,
    parse_questions,
    plain,
)
from slidesieve.datasets.records import Fault, Records, corrected, read_corrections, record_hash
from slidesieve.provenance.table_files import SHEET

TABLES = (".csv", ".tsv", ".txt", SHEET)
NEEDED = ("Id", "Question", "Answer")
SAMPLE = ("slide_id", "question", "choices", "answer")
YES_NO = ("Yes", "No")
OPTION = r"(?:^|\s)\(?{}\)\s|^\s*{}[.:]\s"  # A) anywhere, A. where a line begins, or
ANY_OPTION = r"(?:^|\s)\(?{}[).:]\s"  # anywhere, where the answer is a letter
IN_WORDS = "an answer in words"


class Benchmark(NamedTuple):
    """What a file asks: questions with options, open ones, what is wrong with its items, and how many it has."""

    questions: list[Question]
    open: list[OpenQuestion]
    faults: list[Fault]
    n: int

    def settled(self, path: Path) -> "Benchmark":
        """Itself, after a line about what was set aside; ValueError if that is too much."""
        Records([], self.faults, self.n).settled(path)
        return self


def read_benchmark(path: Path, *, slides: Sequence[str], corrections: Path | None = None) -> Benchmark:
    """Read test questions as published. `slides` are those known: WSI-VQA names patients only."""
    path = Path(path)
    if path.suffix.lower() in TABLES:
        read = parse_questions(path, corrections=corrections)
        return Benchmark(read.used, [], read.faults, read.n).settled(path)
    items = load_json(path)
    if isinstance(items, dict) and isinstance(items.get("samples"), list):
        read = _items(corrected(items["samples"], read_corrections(corrections)), _sample)
    elif isinstance(items, list) and items and not _absent(items[0]):
        cases: dict[str, list[str]] = {}
        for slide in slides:
            cases.setdefault(tcga_case(slide) or slide, []).append(slide)
        items = corrected(items, read_corrections(corrections))
        read = _items(items, lambda item, i: _of_patient(item, i, cases))
    else:
        read = wsi_bench_questions(path, corrections=corrections)
    return read.settled(path)


def wsi_bench_questions(path: Path, *, corrections: Path | None = None) -> Benchmark:
    """Read a file of WSI-Bench; the file's name, without train or test, is its task, and the narrow category."""
    read, kind = parse_instructions(path, corrections=corrections), task_of(path)
    questions, opened, faults = [], [], list(read.faults)
    for i, instruction in enumerate(read.used):
        for turn, (asked, said) in enumerate(instruction.turns):
            name = f"{kind}-{i}" + (f"-{turn}" if turn else "")
            text, options = split_options(asked, ANY_OPTION if said in tuple(LETTERS) else OPTION)
            if not options and said.rstrip(".") in YES_NO:
                options, said = list(YES_NO), LETTERS[YES_NO.index(said.rstrip("."))]
            if not options:
                opened.append(OpenQuestion(name, instruction.slide_id, kind, "WSI-Bench", asked, said))
                continue
            key, kind_of, told = _key(options, said, letters=True)
            if told:
                faults.append(Fault(f"item {i}", instruction.id, record_hash(instruction), kind_of, told, key >= 0))
            if key >= 0:
                questions.append(Question(name, instruction.slide_id, kind, "WSI-Bench", text, tuple(options), key))
    return Benchmark(questions, opened, faults, read.n)


def task_of(path: Path) -> str:
    """The task that a file of WSI-Bench is named after."""
    return re.sub(r"_(train|test|val)$", "", Path(path).name.split(".")[0], flags=re.IGNORECASE)


def split_options(asked: str, option: str = OPTION) -> tuple[str, list[str]]:
    """Split `Which? A) x B) y` into the question and its options; none if there are not two, A first, in order."""
    marks, start = [], 0
    for letter in LETTERS:
        found = re.compile(option.format(letter, letter), re.MULTILINE).search(asked, start)
        if not found:
            break
        marks.append(found)
        start = found.end() - 1
    if len(marks) < 2:
        return asked.strip(), []
    ends = [mark.start() for mark in marks[1:]] + [len(asked)]
    options = [asked[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    return asked[: marks[0].start()].strip(), options


def question_table(questions: Sequence[Question]) -> pd.DataFrame:
    """Return the table that `read_questions` reads back as these questions."""
    letters = option_columns(questions)
    rows = [
        (
            *(q.id, q.slide_id, q.broad, q.kind, q.text, *q.options),
            *[""] * (len(letters) - len(q.options)),
            LETTERS[q.answer],
        )
        for q in questions
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS[: COLUMNS.index(FOUR[0])], *letters, "Answer"])


def _items(items: list, read) -> Benchmark:
    """Read items one by one: each a question, an open one, or faults."""
    questions, opened, faults = [], [], []
    for i, item in enumerate(items):
        record, found = read(item, i)
        name = str(item.get("Id", item.get("slide_id", ""))) if isinstance(item, dict) else ""
        faults += [Fault(f"item {i}", name, record_hash(item), *one) for one in found]
        if record:
            (questions if isinstance(record, Question) else opened).append(record)
    return Benchmark(questions, opened, faults, len(items))


Found = list[tuple[str, str, bool]]  # kind of fault, what was found, repaired


def _of_patient(item: object, i: int, cases: dict[str, list[str]]) -> tuple[Question | OpenQuestion | None, Found]:
    """An item of WSI-VQA; a patient's slide is her only one, or else her DX1, or else stays the patient's name."""
    if absent := _absent(item):
        return None, [("a field is absent", f"no {name}", False) for name in absent]
    odd = [name for name in NEEDED if not is_text(item[name])]
    choices = item.get("Choice") or []
    if not isinstance(choices, list) or not all(map(is_text, choices)):
        odd.append("each Choice")
    if odd:
        return None, [("a field is no text", f"{name} is no text; write it as a string", False) for name in odd]
    slide, text, said = _diagnostic(item["Id"], cases), item["Question"].strip(), item["Answer"].strip()
    name = f"{item['Id']}-{i}"
    if not choices:
        return OpenQuestion(name, slide, "WSI-VQA", "WSI-VQA", text, said), []
    return _closed(name, slide, "WSI-VQA", "WSI-VQA", text, choices, said)


def _sample(item: object, i: int) -> tuple[Question | None, Found]:
    """An item of SlideBench's JSON form; choices are a list, or texts by letter."""
    absent = [name for name in SAMPLE if name not in item] if isinstance(item, dict) else list(SAMPLE)
    if absent:
        return None, [("a field is absent", f"no {', '.join(absent)}", False)]
    choices = item["choices"]
    choices = [choices[key] for key in sorted(choices)] if isinstance(choices, dict) else choices
    if not isinstance(choices, list) or not all(map(is_text, [*choices, *(item[n] for n in SAMPLE if n != "choices")])):
        return None, [("a field is no text", "a field is no text; write it as a string", False)]
    kind = str(item.get("category", "SlideBench"))
    marked = [re.fullmatch(r"\(?([A-J])[).:]\s+(.*)", choice.strip(), re.DOTALL) for choice in choices]
    if choices and all(mark and mark[1] == letter for mark, letter in zip(marked, LETTERS, strict=False)):
        choices = [mark[2] for mark in marked]
    slide = without_ending(item["slide_id"])
    broad = str(item.get("broad_category", kind))
    return _closed(f"slidebench-{i}", slide, kind, broad, item["question"].strip(), choices, item["answer"].strip())


def _closed(name: str, slide: str, kind: str, broad: str, text: str, choices: list[str], said: str):
    choices = [choice.strip() for choice in choices]
    if not 2 <= len({plain(choice) for choice in choices}) == len(choices) <= len(LETTERS):
        told = f"choices are {choices}; expected 2 to {len(LETTERS)} different ones"
        return None, [("equal options, or too few or many", told, False)]
    key, kind_of, told = _key(choices, said, letters=said not in choices)
    question = Question(name, slide, kind, broad, text, tuple(choices), key) if key >= 0 else None
    return question, [(kind_of, told, key >= 0)] if told else []


def _key(options: Sequence[str], said: str, *, letters: bool) -> tuple[int, str, str]:
    """Which option an answer names; with the kind and text of the repair or fault, "" if neither.

    A letter counts where `letters`; a text must be one option's, to the letter, or but for case and spaces.
    """
    if len({plain(option) for option in options}) < len(options):
        return -1, "equal options", f"options are {list(options)}; expected different ones"
    if not letters and said in options:
        return list(options).index(said), "", ""
    alike = [i for i, option in enumerate(options) if plain(option).rstrip(".") == plain(said).rstrip(".")]
    if len(alike) == 1 and said not in tuple(LETTERS):
        return alike[0], IN_WORDS, f"answer is {said[:60]!r}, taken for {LETTERS[alike[0]]}"
    if letters and (letter := extract_letter(said, len(options))):
        return LETTERS.index(letter), "", ""
    return -1, "the answer is no option", f"answer is {said[:60]!r}; expected one of {list(options)}"


def _absent(item: object) -> list[str]:
    return [name for name in NEEDED if name not in item] if isinstance(item, dict) else list(NEEDED)


def _diagnostic(patient: str, cases: dict[str, list[str]]) -> str:
    slides = cases.get(patient, [])
    first = [slide for slide in slides if "-DX1" in slide] if len(slides) > 1 else slides
    return first[0] if len(first) == 1 else patient
