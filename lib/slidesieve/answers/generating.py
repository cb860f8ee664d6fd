"""Answers in the model's own words: greedy decoding, many questions at once, the same words as one by one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch

from slidesieve.answers.decoding import greedy
from slidesieve.answers.sums import evaluating
from slidesieve.compressors.result import Compressed
from slidesieve.datasets.open_questions import OpenQuestion
from slidesieve.datasets.questions import LETTERS, Question, extract_letter, prompt
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.chat import pack
from slidesieve.models.reproducible import reproducible
from slidesieve.models.token_budget import Size, batches
from slidesieve.models.vlm import VLM


class Prompted(NamedTuple):
    """What is asked about a slide, in words."""

    id: str
    slide_id: str
    text: str


@torch.no_grad()
def said(
    model: VLM,
    prompted: Sequence[Prompted],
    bags: Mapping[str, Bag],
    *,
    most_tokens: int,
    batch_tokens: int,
    stop: str = "",
) -> pd.DataFrame:
    """Answer each prompt whose slide has a bag: columns ID, said, ended (whether the model ended the answer itself).

    An answer ends with the model's own end of turn, after `most_tokens`, or where it says `stop`, which is cut off.
    """
    device, own = model.feature_mean.device, [one for one in prompted if one.slide_id in bags]
    turns = [model.chat.turn(one.text, []) for one in own]
    sizes = [
        Size(n_tiles(bags, one.slide_id), len(turn.prompt) + most_tokens) for one, turn in zip(own, turns, strict=True)
    ]
    words: dict[int, tuple[str, bool]] = {}
    with evaluating(model, soft=False), reproducible(device, gradients=False):
        for some in batches(sizes, batch_tokens):
            slides = list(dict.fromkeys(own[i].slide_id for i in some))
            compressed = model.compress(collate([bags[slide] for slide in slides]).to(device))
            asked = _of(compressed, [slides.index(own[i].slide_id) for i in some])
            prefix = model.prefix(asked, pack([[turns[i]] for i in some]).to(device))
            prompts = [turns[i].prompt for i in some]
            for i, ids in zip(some, _decoded(model, prefix, prompts, most_tokens), strict=True):
                text = model.tokenizer.decode(ids, skip_special_tokens=True)
                cut = text.find(stop) if stop else -1
                ended = bool(model.chat.stops & set(ids[-1:])) or cut >= 0
                words[i] = ((text[:cut] if cut >= 0 else text).strip(), ended)
    rows = [(one.id, *words[i]) for i, one in enumerate(own)]
    return pd.DataFrame(rows, columns=["ID", "said", "ended"])


def open_answers(
    model: VLM,
    questions: Sequence[OpenQuestion],
    bags: Mapping[str, Bag],
    *,
    method: str,
    cases: Mapping[str, str],
    most_tokens: int,
    batch_tokens: int,
    stop: str = "",
) -> pd.DataFrame:
    """Answer open questions: one row each, OPEN_COLUMNS but for the fold; one without features is said nothing to."""
    asked = [Prompted(q.id, q.slide_id, q.text) for q in questions]
    words = said(model, asked, bags, most_tokens=most_tokens, batch_tokens=batch_tokens, stop=stop)
    rows = [(q.id, q.slide_id, cases[q.slide_id], q.broad, q.kind, q.reference) for q in questions]
    table = pd.DataFrame(rows, columns=["ID", "Slide", "case_id", "broad", "narrow", "reference"])
    table = table.merge(words, on="ID", how="left").assign(method=method, **{n: model.config[n] for n in ("k", "seed")})
    return table.assign(covered=table["said"].notna(), said=table["said"].fillna(""), ended=table["ended"].eq(True))


def cross_check(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_tokens: int,
    most_tokens: int = 12,
) -> pd.DataFrame:
    """Answer questions with options in words; `parsed` is the letter read from them, or empty."""
    asked = [Prompted(q.id, q.slide_id, prompt(q)) for q in questions]
    table = said(model, asked, bags, most_tokens=most_tokens, batch_tokens=batch_tokens)
    by_id = {q.id: q for q in questions}
    read = [parse(words, by_id[i], answer_form) or "" for i, words in zip(table["ID"], table["said"], strict=True)]
    return table.assign(parsed=read)


def parse(words: str, question: Question, answer_form: str) -> str | None:
    """The letter that a generated answer names: strictly a letter, or strictly an option's text."""
    if answer_form == "letter":
        return extract_letter(words, len(question.options))
    texts = [option.lower() for option in question.options]
    said = words.lower()
    return LETTERS[texts.index(said)] if said in texts else None


def agreement(generated: pd.DataFrame, answers: pd.DataFrame) -> str:
    """Say how often generated answers could be read, and how often they are the likelihoods' choice."""
    if generated.empty:
        return "no answers were generated"
    both = generated.merge(answers[["ID", "predicted"]], on="ID")
    failed, same = (both["parsed"] == "").mean(), (both["parsed"] == both["predicted"]).mean()
    return f"{len(both)} generated answers: parse-failure rate {failed:.3f}, same choice as the likelihoods {same:.3f}"


def _decoded(model: VLM, prefix, prompts: list[list[int]], most: int) -> list[list[int]]:
    return greedy(model.lm, model.chat.head, prefix, prompts, stops=model.chat.stops, most=most)


def _of(compressed: Compressed, rows: list[int]) -> Compressed:
    """A slide's tokens once for each question about it, without what says where they came from."""
    kept = {name: getattr(compressed, name)[rows] for name in ("tokens", "mask", "positions", "span")}
    return compressed._replace(weights=None, scores=None, kept=None, places=None, **kept)
