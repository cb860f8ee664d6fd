"""Answers by log-likelihood: deterministic, and the same whether a question is asked alone or in company."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from lib.answer_sums import Asked, answer_sums, evaluating
from lib.bag_files import BagView, n_tiles
from lib.batch import collate
from lib.examples import Example, answers_of, bag_of
from lib.features import Bag
from lib.prefix_lm import greedy
from lib.prompts import pack
from lib.questions import LETTERS, Question, extract_letter, prompt
from lib.selection import planted_tiles, read_truth
from lib.shares import Share
from lib.soft_topk import mass_on_topk
from lib.token_budget import Size, batches
from lib.vlm import VLM


def answer(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_tokens: int,
    seed: int | None = None,
) -> pd.DataFrame:
    """Score every option of every question whose slide has a bag; `logp_A` ... are natural logs summed over tokens.

    With `seed` the compressor runs its training path (all tiles, noised) instead: the soft score. Questions without a
    bag are left out, for the caller to count as wrong; one with an option whose score is not finite has no `predicted`.
    Columns ID, Slide, predicted, logp_A, logp_B, logp_C, logp_D.
    """
    about = by_slide([q for q in questions if q.slide_id in bags], bags)
    asked = [
        Asked(
            [model.chat.turn(prompt(q), answers_of(q, answer_form)) for q in own],
            n_tiles(bags, slide),
            partial(bags.__getitem__, slide),
        )
        for slide, own in about.items()
    ]
    with evaluating(model, soft=seed is not None):
        sums = answer_sums(model, asked, batch_tokens=batch_tokens, generator=_generator(model, seed))
    rows = [
        _row(q, s) for own, scores in zip(about.values(), sums, strict=True) for q, s in zip(own, scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=["ID", "Slide", "predicted", *(f"logp_{c}" for c in LETTERS)])


def answer_all(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    method: str,
    answer_form: str,
    batch_tokens: int,
    wrong_slide: bool,
    control_seed: int,
) -> pd.DataFrame:
    """Answer every question and run the controls: the same weights on another slide, and on the soft path.

    One row a question and method (`<method>`, `<method>_wrong_slide`, `<method>_soft`); a question whose slide has no
    features is there with covered = False and correct = False.
    """
    k, seed = model.recipe["k"], model.recipe["seed"]
    ask = partial(answer, model, questions, answer_form=answer_form, batch_tokens=batch_tokens)
    answered = {method: ask(bags)}
    if wrong_slide and model.compressor.kind != "sees nothing":
        other = wrong_slides(list(bags), control_seed)
        answered[f"{method}_wrong_slide"] = ask(BagView(bags, other))
    if hasattr(model.compressor, "scores"):
        answered[f"{method}_soft"] = ask(bags, seed=control_seed)
    key = pd.DataFrame(
        [(q.id, q.slide_id, q.broad, q.kind, LETTERS[q.answer]) for q in questions],
        columns=["ID", "Slide", "broad", "narrow", "answer"],
    )
    tables = []
    for name, table in answered.items():
        whole = key.merge(table.drop(columns="Slide"), on="ID", how="left")
        whole.insert(0, "method", name)
        tables.append(whole.assign(correct=whole["predicted"] == whole["answer"], covered=whole["predicted"].notna()))
    return pd.concat(tables, ignore_index=True).assign(k=k, seed=seed)


def generate(
    model: VLM, questions: Sequence[Question], bags: Mapping[str, Bag], *, answer_form: str, most_tokens: int = 12
) -> pd.DataFrame:
    """Answer by greedy decoding, one question at a time; `parsed` is the letter read from the words, or empty."""
    device, rows = model.feature_mean.device, []
    with torch.no_grad(), evaluating(model, soft=False):
        for question in (q for q in questions if q.slide_id in bags):
            turn = model.chat.turn(prompt(question), [])
            compressed = model.compress(collate([bags[question.slide_id]]).to(device))
            prefix = model.prefix(compressed, pack([[turn]]).to(device))
            said = greedy(model.lm, model.chat.head, prefix, turn.prompt, stops=model.chat.stops, most=most_tokens)
            words = model.tokenizer.decode(said, skip_special_tokens=True).strip()
            rows.append((question.id, words, parse(words, question, answer_form) or ""))
    return pd.DataFrame(rows, columns=["ID", "said", "parsed"])


def parse(words: str, question: Question, answer_form: str) -> str | None:
    """The letter that a generated answer names: strictly a letter, or strictly an option's text."""
    if answer_form == "letter":
        return extract_letter(words)
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


def accuracy(answers: pd.DataFrame, questions: Sequence[Question]) -> float:
    """Share of all questions answered rightly; a question without an answer counts as wrong."""
    return n_right(answers, questions) / max(len(questions), 1)


def n_right(answers: pd.DataFrame, questions: Sequence[Question]) -> int:
    """How many of these answers are right."""
    key = {q.id: LETTERS[q.answer] for q in questions}
    return sum(key[i] == p for i, p in zip(answers["ID"], answers["predicted"], strict=True))


def select(
    model: VLM, bags: Mapping[str, Bag], *, batch_tokens: int
) -> dict[str, tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """Tiles that the evaluation path keeps, best first, and their scores (nan where the method has none).

    Methods that mix tiles instead of keeping them select nothing and give empty arrays.
    """
    chosen = {}
    with torch.no_grad(), evaluating(model, soft=False):
        for slides in slide_batches(bags, batch_tokens):
            batch = collate([bags[s] for s in slides]).to(model.feature_mean.device)
            compressed = model.compress(batch)
            for i, slide in enumerate(slides):
                selects = compressed.kept is not None
                kept = compressed.kept[i][compressed.mask[i]].cpu().numpy() if selects else np.empty(0, np.int64)
                scored = compressed.scores is not None
                score = compressed.scores[i].cpu().numpy()[kept] if scored else np.full(len(kept), np.nan)
                order = np.argsort(-score, kind="stable")  # nan throughout leaves the order as it is
                chosen[slide] = (kept[order], score[order])
    return chosen


def selected_tiles(chosen: dict[str, tuple[np.ndarray, np.ndarray]], bags: Mapping[str, Bag]) -> pd.DataFrame:
    """One row a kept tile, best first: slide_id, rank, index, x_px0, y_px0, score."""
    rows = [
        (slide, rank, int(i), *bags[slide].coords[i].tolist(), float(score))
        for slide, (kept, scores) in sorted(chosen.items())
        for rank, (i, score) in enumerate(zip(kept, scores, strict=True))
    ]
    return pd.DataFrame(rows, columns=["slide_id", "rank", "index", "x_px0", "y_px0", "score"])


def selection_by_slide(selected: pd.DataFrame, bags: Mapping[str, Bag], truth: Path | None) -> pd.DataFrame:
    """Count planted and kept tiles of each slide; no rows where nothing is known or nothing was selected."""
    columns = ["slide_id", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]
    if truth is None or selected.empty:
        return pd.DataFrame(columns=columns)
    planted, rows = read_truth(truth), []
    for slide, kept in selected.groupby("slide_id"):
        evidence = planted_tiles(bags[slide], planted)
        found = len(np.intersect1d(kept["index"], evidence))
        rows.append((slide, n_tiles(bags, slide), len(evidence), len(kept), found))
    return pd.DataFrame(rows, columns=columns)


def answer_accuracy(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_tokens: int,
    seed: int | None = None,
    share: Share = Share(),
) -> float:
    """Share of questions answered rightly on the evaluation path; with `seed`, on the training path.

    Processes divide the slides. Nan if questions were asked and not one had finite scores.
    """
    own = by_slide([q for q in questions if q.slide_id in bags], bags)
    mine = [q for slide in share.of(list(own)) for q in own[slide]]
    answers = answer(model, mine, bags, answer_form=answer_form, batch_tokens=batch_tokens, seed=seed)
    right, answered, asked = share.total(n_right(answers, mine), int(answers["predicted"].notna().sum()), len(mine))
    return float("nan") if asked and not answered else right / max(len(questions), 1)


def answer_probability(
    model: VLM,
    examples: Sequence[Example],
    bags: Mapping[str, Bag],
    *,
    max_tiles: int,
    batch_tokens: int,
    seed: int | None = None,
    share: Share = Share(),
) -> float:
    """Geometric mean probability of the reference answers' tokens on the evaluation path; with `seed`, in training.

    Bags are those of a training with this `max_tiles`. All examples about a slide or a box share its prefix; processes
    divide the slides.
    """
    about: dict[tuple, list[Example]] = {}
    for example in examples:
        about.setdefault((min(n_tiles(bags, example.slide_id), max_tiles), *example[:2]), []).append(example)
    asked = [
        Asked(
            [model.chat.turn(p, [a]) for example in own for p, a in example.turns],
            n,
            partial(bag_of, own[0], bags, max_tiles),
        )
        for (n, *_), own in sorted(about.items(), key=lambda item: item[0][:2])
    ]
    mine = share.of(asked)
    with evaluating(model, soft=seed is not None):
        sums = answer_sums(model, mine, batch_tokens=batch_tokens, generator=_generator(model, seed))
    total = sum(score for slide in sums for turn in slide for score in turn)
    total, count = share.total(total, sum(len(a) for one in mine for turn in one.turns for a in turn.answers))
    return float(np.exp(total / max(count, 1)))


def soft_watch(
    model: VLM,
    bags: Mapping[str, Bag],
    evaluate: Callable[..., float],
    *,
    seed: int,
    batch_tokens: int,
    share: Share = Share(),
) -> dict[str, float]:
    """What a selector's validation score stands beside: the training path's score, and how soft its selection is.

    `evaluate(model, seed=..., share=...)` gives `soft_score`; `mass` is the mean over these slides of the soft top-k's
    mass on the hard one, at the present temperature `tau`. A method that scores no tiles has nan in all three.
    """
    compressor, masses = model.compressor, []
    if not (hasattr(compressor, "scores") and hasattr(compressor, "tau")):
        return dict.fromkeys(("soft_score", "mass", "tau"), float("nan"))
    tau = float(compressor.tau)
    mine = BagView(bags, share.of(sorted(bags, key=lambda s: n_tiles(bags, s))))
    with torch.no_grad(), evaluating(model, soft=False):
        for slides in slide_batches(mine, batch_tokens):
            batch = collate([mine[s] for s in slides]).to(model.feature_mean.device)
            scores = model.compress(batch).scores
            masses += mass_on_topk(scores, k=compressor.k, tau=tau, mask=batch.mask).tolist()
    mass, slides = share.total(sum(masses), len(masses))
    soft_score = evaluate(model, seed=seed, share=share)
    return {"soft_score": soft_score, "mass": mass / slides if slides else float("nan"), "tau": tau}


def wrong_slides(slide_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Give every slide another slide's place (a cyclic shift of a seeded shuffle: nobody keeps their own)."""
    if len(slide_ids) < 2:
        raise ValueError(
            f"wrong-slide control: got {len(slide_ids)} slides; expected 2 or more; set wrong_slide to false"
        )
    shuffled = [sorted(slide_ids)[i] for i in np.random.default_rng(seed).permutation(len(slide_ids))]
    return dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))


def by_slide(questions: Sequence[Question], bags: Mapping[str, Bag]) -> dict[str, list[Question]]:
    """Questions of each slide, the shortest slide first."""
    asked: dict[str, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.slide_id, []).append(question)
    return {slide: asked[slide] for slide in sorted(asked, key=lambda s: n_tiles(bags, s))}


def slide_batches(bags: Mapping[str, Bag], batch_tokens: int) -> Iterator[list[str]]:
    """Names of slides of like length, of which a batch holds so many tiles at most, or one slide."""
    slides = list(bags)
    for places in batches([Size(n_tiles(bags, slide)) for slide in slides], batch_tokens):
        yield [slides[place] for place in places]


def _generator(model: VLM, seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator(model.feature_mean.device).manual_seed(seed)


def _row(question: Question, scores: list[float]) -> dict:
    filled = [*scores, *[float("nan")] * (len(LETTERS) - len(scores))]
    predicted = LETTERS[int(np.argmax(scores))] if np.isfinite(scores).all() else None
    return {
        "ID": question.id, "Slide": question.slide_id, "predicted": predicted,
        **{f"logp_{letter}": score for letter, score in zip(LETTERS, filled, strict=True)},
    }  # fmt: skip
