"""Answers by log-likelihood: deterministic, and the same whether a question is asked alone or in company."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch

from slidesieve.answers.controls import wrong_slides
from slidesieve.answers.rotations import mean_over_rotations, rotations_of
from slidesieve.answers.sums import Asked, answer_sums, evaluating
from slidesieve.datasets.examples import answers_of
from slidesieve.datasets.questions import LETTERS, Question, option_columns, prompt
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView, n_tiles
from slidesieve.models.chat import Turn
from slidesieve.models.reproducible import reproducible
from slidesieve.models.vlm import VLM

PATTERN = Question("", "", "", "", "{question}", ("{first option}", "{second option}"), 0)
COUNTED = ("per_token", "letters")  # what was chosen, told in other ways than the sum over rotations


def asked_as(model: VLM) -> str:
    """The words around a question as this model reads them: the chat turn, where tiles go, how options are listed."""
    return model.chat.words(prompt(PATTERN))


def answer(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_tokens: int,
    rotations: int = 1,
    seed: int | None = None,
) -> pd.DataFrame:
    """Score every option of every question whose slide has a bag; `logp_A` ... are natural logs summed over tokens.

    A question is asked at the first `rotations` places of its options, its scores are means over these, and `letters`
    are the ones chosen there. `per_token` is the choice by scores over their number of tokens, which favours no short
    option. With `seed` the compressor runs its training path (all tiles, noised) instead: the soft score. Questions
    without a bag are left out, for the caller to count as wrong; one with an option whose score is not finite has no
    `predicted`. Columns ID, Slide, predicted, per_token, letters, logp_A ... logp_D, or to the last letter asked for.
    """
    views = {
        slide: [rotations_of(q, rotations) for q in own]
        for slide, own in by_slide([q for q in questions if q.slide_id in bags], bags).items()
    }
    asked = [
        Asked(
            [model.chat.turn(prompt(view), answers_of(view, answer_form)) for of in own for view in of],
            n_tiles(bags, slide),
            partial(bags.__getitem__, slide),
        )
        for slide, own in views.items()
    ]
    with evaluating(model, soft=seed is not None), reproducible(model.feature_mean.device, gradients=False):
        sums = answer_sums(model, asked, batch_tokens=batch_tokens, generator=generator_of(model, seed))
    rows = []
    for own, one, scores in zip(views.values(), asked, sums, strict=True):
        told = iter(zip(one.turns, scores, strict=True))
        rows += [_row(of[0], [next(told) for _ in of]) for of in own]
    letters = option_columns(questions)
    return pd.DataFrame(rows, columns=["ID", "Slide", "predicted", *COUNTED, *(f"logp_{c}" for c in letters)])


def answer_all(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    method: str,
    answer_form: str,
    batch_tokens: int,
    cases: Mapping[str, str],
    wrong_slide: bool,
    control_seed: int,
    rotations: int = 1,
) -> pd.DataFrame:
    """Answer every question and run the controls: the same weights on another patient's slide, and on the soft path.

    One row a question and method (`<method>`, `<method>_wrong_slide`, `<method>_soft`); a question whose slide has no
    features is there with covered = False and correct = False. `cases` maps slides to patients, column `case_id`.
    """
    k, seed = model.config["k"], model.config["seed"]
    ask = partial(answer, model, questions, answer_form=answer_form, batch_tokens=batch_tokens, rotations=rotations)
    answered = {method: ask(bags)}
    if wrong_slide and model.compressor.kind != "sees nothing":
        other = wrong_slides(list(bags), cases, control_seed)
        answered[f"{method}_wrong_slide"] = ask(BagView(bags, other))
    if hasattr(model.compressor, "scores"):
        answered[f"{method}_soft"] = ask(bags, seed=control_seed)
    key = pd.DataFrame(
        [(q.id, q.slide_id, cases[q.slide_id], q.broad, q.kind, LETTERS[q.answer]) for q in questions],
        columns=["ID", "Slide", "case_id", "broad", "narrow", "answer"],
    )
    tables = []
    for name, table in answered.items():
        whole = key.merge(table.drop(columns="Slide"), on="ID", how="left")
        whole.insert(0, "method", name)
        tables.append(whole.assign(correct=whole["predicted"] == whole["answer"], covered=whole["predicted"].notna()))
    return pd.concat(tables, ignore_index=True).assign(k=k, seed=seed)


def accuracy(answers: pd.DataFrame, questions: Sequence[Question]) -> float:
    """Share of all questions answered rightly; a question without an answer counts as wrong."""
    return n_right(answers, questions) / max(len(questions), 1)


def n_right(answers: pd.DataFrame, questions: Sequence[Question]) -> int:
    """How many of these answers are right."""
    key = {q.id: LETTERS[q.answer] for q in questions}
    return sum(key[i] == p for i, p in zip(answers["ID"], answers["predicted"], strict=True))


def by_slide(questions: Sequence[Question], bags: Mapping[str, Bag]) -> dict[str, list[Question]]:
    """Questions of each slide, the shortest slide first."""
    asked: dict[str, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.slide_id, []).append(question)
    return {slide: asked[slide] for slide in sorted(asked, key=lambda s: n_tiles(bags, s))}


def generator_of(model: VLM, seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator(model.feature_mean.device).manual_seed(seed)


def _row(question: Question, told: list[tuple[Turn, list[float]]]) -> dict:
    """One question's row, of its turns at each rotation and their scores."""
    scores = mean_over_rotations([sums for _, sums in told])
    means = mean_over_rotations([[s / len(a) for s, a in zip(sums, t.answers, strict=True)] for t, sums in told])
    chosen = ["".join(map(_letter, [sums for _, sums in told])), _letter(means), _letter(scores)]
    letters, per_token, predicted = chosen if np.isfinite(scores).all() else [None] * 3
    return {
        "ID": question.id, "Slide": question.slide_id, "predicted": predicted,
        **dict(zip(COUNTED, (per_token, letters), strict=True)),
        **{f"logp_{letter}": score for letter, score in zip(LETTERS, scores, strict=False)},
    }  # fmt: skip


def _letter(scores: Sequence[float]) -> str:
    return LETTERS[int(np.argmax(scores))]
