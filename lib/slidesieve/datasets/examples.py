"""What a training stage is fed: questions, captions, instructions as (prompt, answer) pairs about a slide or a box."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from slidesieve.cohort.tables import read_words
from slidesieve.datasets.instructions import Instruction, is_instructions, read_instructions
from slidesieve.datasets.questions import LETTERS, Caption, Question, prompt, read_captions, read_questions
from slidesieve.features.bag import Bag, in_box, linspace_cap

ANSWER_FORMS = ("letter", "text")


class Example(NamedTuple):
    """A slide, or a box (x, y, width, height in level-0 px) of it, and what is asked: (prompt, answer) pairs."""

    slide_id: str
    box: tuple[int, int, int, int] | None
    turns: tuple[tuple[str, str], ...]


def answers_of(question: Question, answer_form: str) -> list[str]:
    """The strings that stand for a question's options: their letters, or their texts."""
    if answer_form not in ANSWER_FORMS:
        raise ValueError(f"answer_form: got {answer_form!r}; expected one of {ANSWER_FORMS}")
    return list(LETTERS[: len(question.options)]) if answer_form == "letter" else list(question.options)


def bag_of(example: Example, bags: Mapping[str, Bag], max_tiles: int) -> Bag:
    """The tiles that an example speaks of, capped: what a training is fed."""
    bag = bags[example.slide_id]
    return linspace_cap(in_box(bag, example.box) if example.box else bag, max_tiles)


def from_questions(questions: Sequence[Question], *, answer_form: str) -> list[Example]:
    """One example a slide, with all its questions: they share one visual prefix."""
    turns: dict[str, list[tuple[str, str]]] = {}
    for question in questions:
        answer = answers_of(question, answer_form)[question.answer]
        turns.setdefault(question.slide_id, []).append((prompt(question), answer))
    return [Example(slide, None, tuple(pairs)) for slide, pairs in turns.items()]


def from_captions(captions: Sequence[Caption], *, slide_prompt: str, region_prompt: str) -> list[Example]:
    """One example a caption."""
    return [Example(c.slide_id, c.box, ((region_prompt if c.box else slide_prompt, c.text),)) for c in captions]


def from_instructions(instructions: Sequence[Instruction]) -> list[Example]:
    """One example an item, about the whole slide; they bring prompts of their own, captions too."""
    return [Example(i.slide_id, None, i.turns) for i in instructions]


def read_examples(path: Path, *, answer_form: str, slide_prompt: str, region_prompt: str) -> list[Example]:
    """Read a caption table; a question table (a cohort without captions is aligned on it); or instructions (.json)."""
    if is_instructions(path):
        return from_instructions(read_instructions(path))
    if "Caption" in read_words(path).columns:
        return from_captions(read_captions(path), slide_prompt=slide_prompt, region_prompt=region_prompt)
    return from_questions(read_questions(path), answer_form=answer_form)
