"""What a stage will be fed, before it runs: how many items of each split, of how many slides, tiles and tokens.

Counts are of all items. Tiles and tokens are those of a sample, evenly spaced, that stands for the rest. Slides without
features so far are taken as long as the stage's cap lets them be; without a tokenizer a token is CHARACTERS characters.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import AutoTokenizer

from slidesieve.answers.rotations import rotations_of
from slidesieve.cohort.ids import common
from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.cohort.splits import split_of
from slidesieve.datasets.examples import Example, answers_of, from_questions, read_examples
from slidesieve.datasets.open_questions import OpenQuestion, read_open_questions
from slidesieve.datasets.questions import Question, prompt, read_asked, renamed
from slidesieve.features.bag import in_box
from slidesieve.features.bag_files import BagFiles, load_available_bags
from slidesieve.models.chat import ChatFormat
from slidesieve.provenance.files import resolve

SAMPLE, BOXES = 400, 50  # items looked at closely; of these, boxes whose bags are read
CHARACTERS, TEMPLATE = 4, 10  # where there is no tokenizer: characters a token, tokens of a turn's frame
WIDTH = 512  # where there are no features yet: CONCH's


class Item(NamedTuple):
    """One item: tiles of its slide or box, uncapped; its text's tokens, of these to be predicted; how many answers.

    Of an open question as many are to be predicted as it may have.
    """

    tiles: int
    text: int  # without the head of the user's turn
    predicted: int
    answers: int = 1


class Work(NamedTuple):
    """So many items about so many slides, and a sample of them."""

    n: int
    slides: int
    sample: tuple[Item, ...]


class Data(NamedTuple):
    """A stage's work by name (regions, train, validation, test), tokens of the head, features' width, assumptions."""

    work: dict[str, Work]
    head: int
    d: int
    assumed: tuple[str, ...]


def read_data(kind: str, values: Mapping[str, object], *, complete: bool) -> Data:
    """Read what notebook `kind` ("30", "40", "50", "60") would be fed with these values.

    `complete` says that all features are there that there will be: then slides without are left out, as the stage does.
    """
    cohort = _manifest(str(resolve(values["manifest"])))
    split = split_of(cohort, values.get("fold", -1)).to_dict()
    parts = PARTS[kind](values, split, cohort)
    bags = _bags(cohort, values["features"], parts)
    complete = complete and len(bags) > 0
    if complete:
        parts = {name: [item for item in items if _slide(item) in bags] for name, items in parts.items()}
    chat = _chat(str(values["lm"]), str(values["chat_template"])) if kind != "30" else None
    longest, form, missing = int(values["max_tiles"]), str(values.get("answer_form", "")), set()
    rotations, most = int(values.get("rotations", 1)), int(values.get("open_tokens", 0))
    work = {
        name: Work(
            len(items),
            len({_slide(item) for item in items}),
            tuple(
                _item(item, bags, chat, longest=longest, form=form, rotations=rotations, most=most, missing=missing)
                for item in _sampled(items)
            ),
        )
        for name, items in parts.items()
    }
    d = next(iter(bags.values())).x.shape[1] if len(bags) else WIDTH
    assumed = [f"slides of {longest:,} tiles, the most there can be, where no features say less"] if missing else []
    assumed += [] if len(bags) else [f"features {WIDTH} wide"]
    if kind != "30" and chat is None:
        assumed.append(f"a token every {CHARACTERS} characters: no tokenizer of {values['lm']} here")
    head = 0 if kind == "30" else len(chat.head) if chat else TEMPLATE // 2
    return Data(work, head, d, tuple(assumed))


READ = (
    "manifest", "fold", "features", "captions", "answer_form", "slide_prompt", "region_prompt", "questions",
    "instructions", "answered_split", "lm", "chat_template", "max_tiles", "rotations",
    "open_questions", "open_tokens",
)  # fmt: skip


def fed_alike(kind: str, values: Mapping[str, object]) -> tuple:
    """What `read_data` depends on: stages of which this is the same are fed the same."""
    return kind, *(values.get(name) for name in READ), kind == "40" and _begins_on_regions(values)


def _begins_on_regions(values: Mapping[str, object]) -> bool:
    return values["compressor"] == "all" or bool(values["regions_first"])


def _slides_to_learn(values, split, cohort) -> dict[str, list]:
    names = {"train": "train", "validation": "val"}
    return {name: [slide for slide, part in split.items() if part == own] for name, own in names.items()}


def _captions(values, split, cohort) -> dict[str, list]:
    table = _in(cohort, _examples(str(resolve(values["captions"])), *(values[n] for n in FORMS)))
    train = [e for e in table if split.get(e.slide_id) == "train"]
    regions = [e for e in train if e.box]
    taught = regions if _begins_on_regions(values) else []
    held = [e for e in table if split.get(e.slide_id) == "val" and not e.box]
    return {"regions": taught, "train": [e for e in train if not e.box], "validation": held}


def _to_tune_on(values, split, cohort) -> dict[str, list]:
    asked = _asked(resolve(values["questions"]), cohort)
    if values["instructions"]:
        taught = held = _in(cohort, _examples(str(resolve(values["instructions"])), values["answer_form"], "", ""))
    else:
        taught, held = from_questions(asked, answer_form=values["answer_form"]), asked
    train = [e for e in taught if split.get(e.slide_id) == "train"]
    return {"train": train, "validation": [item for item in held if split.get(item.slide_id) == "val"]}


def _to_answer(values, split, cohort) -> dict[str, list]:
    asked = {"test": _asked(resolve(values["questions"]), cohort)}
    if opened := str(values.get("open_questions") or ""):
        asked["open"] = _in(cohort, read_open_questions(resolve(opened)))
    part = values["answered_split"]
    return {name: [q for q in items if split.get(q.slide_id) == part] for name, items in asked.items()}


def _in(cohort: Manifest, items: Sequence) -> list:
    """The items under the manifest's ids; a plan's check has told what is lost."""
    return renamed(items, common([item.slide_id for item in items], cohort.places))


FORMS = ("answer_form", "slide_prompt", "region_prompt")
PARTS = {"30": _slides_to_learn, "40": _captions, "50": _to_tune_on, "60": _to_answer}


def _item(
    item,
    bags: BagFiles,
    chat: ChatFormat | None,
    *,
    longest: int,
    form: str,
    rotations: int,
    most: int,
    missing: set[str],
) -> Item:
    slide = _slide(item)
    n = bags.n_tiles_at_once(slide) if slide in bags else None
    if n is None:
        missing.add(slide)
        n = longest
    elif isinstance(item, Example) and item.box:
        n = len(in_box(bags[slide], item.box).x)
    if isinstance(item, str):
        return Item(n, 0, 0)
    if isinstance(item, OpenQuestion):
        return Item(n, _turn(chat, item.text, [])[0] + most, most)
    if isinstance(item, Example):
        asked = [(p, [a]) for p, a in item.turns]
    else:
        asked = [(prompt(view), answers_of(view, form)) for view in rotations_of(item, rotations)]
    sizes = [_turn(chat, said, answers) for said, answers in asked]
    return Item(n, sum(map(sum, sizes)), sum(last for _, last in sizes), sum(len(answers) for _, answers in asked))


def _turn(chat: ChatFormat | None, said: str, answers: Sequence[str]) -> tuple[int, int]:
    """Tokens of a prompt, and of its answers together."""
    if chat is None:
        return -(-len(said) // CHARACTERS) + TEMPLATE, sum(-(-len(a) // CHARACTERS) + 1 for a in answers)
    turn = chat.turn(said, answers)
    return len(turn.prompt), sum(map(len, turn.answers))


def _sampled(items: Sequence) -> list:
    boxed = any(isinstance(item, Example) and item.box for item in items[:1])
    most = BOXES if boxed else SAMPLE
    return list(items) if len(items) <= most else [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def _slide(item) -> str:
    return item if isinstance(item, str) else item.slide_id


def _bags(cohort: Manifest, features: str, parts: dict[str, list]) -> BagFiles:
    slides = sorted({_slide(item) for items in parts.values() for item in items})
    return load_available_bags(cohort, resolve(features) if features else None, slides)


@lru_cache(maxsize=4)
def _chat(lm: str, template: str) -> ChatFormat | None:
    try:
        return ChatFormat(AutoTokenizer.from_pretrained(local_or_id(lm), local_files_only=True), template=template)
    except (OSError, ValueError):
        return None


def local_or_id(lm: str) -> str:
    return str(resolve(lm)) if resolve(lm).exists() else lm


@lru_cache(maxsize=4)
def _manifest(path: str) -> Manifest:
    return read_manifest(Path(path))


@lru_cache(maxsize=4)
def _examples(path: str, answer_form: str, slide_prompt: str, region_prompt: str) -> list[Example]:
    return read_examples(Path(path), answer_form=answer_form, slide_prompt=slide_prompt, region_prompt=region_prompt)


@lru_cache(maxsize=4)
def _asked(path: Path, cohort: Manifest) -> list[Question]:
    return read_asked(path, cohort)
