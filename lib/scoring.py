"""Answers by log-likelihood: deterministic, and the same whether a question is asked alone or in company."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.bag_files import BagView, n_tiles
from lib.batch import collate, in_box
from lib.examples import Example, answers_of
from lib.features import Bag
from lib.prefix_lm import greedy
from lib.prompts import Texts, pack
from lib.questions import LETTERS, Question, extract_letter, prompt
from lib.selection import planted_tiles, read_truth
from lib.soft_topk import mass_on_topk
from lib.vlm import VLM


def answer(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_slides: int,
    seed: int | None = None,
) -> pd.DataFrame:
    """Score every option of every question whose slide has a bag; `logp_A` ... are natural logs summed over tokens.

    With `seed` the compressor runs its training path (all tiles, noised) instead: the soft score. Questions without a
    bag are left out, for the caller to count as wrong. Columns ID, Slide, predicted, logp_A, logp_B, logp_C, logp_D.
    """
    rows = []
    device = model.feature_mean.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    with torch.no_grad(), _path(model, soft=seed is not None):
        for asked in _by_slides([q for q in questions if q.slide_id in bags], bags, batch_slides):
            turns = [[model.chat.turn(prompt(q), answers_of(q, answer_form)) for q in qs] for qs in asked.values()]
            texts = pack(turns).to(device)
            log_probs, _ = model(collate([bags[slide] for slide in asked]).to(device), texts, generator)
            scores = iter(_sum_by_answer(log_probs, texts).tolist())
            for question in (q for qs in asked.values() for q in qs):
                rows.append(_row(question, [next(scores) for _ in question.options]))
    return pd.DataFrame(rows, columns=["ID", "Slide", "predicted", *(f"logp_{c}" for c in LETTERS)])


def answer_all(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    method: str,
    answer_form: str,
    batch_slides: int,
    wrong_slide: bool,
    control_seed: int,
) -> pd.DataFrame:
    """Answer every question and run the controls: the same weights on another slide, and on the soft path.

    One row a question and method (`<method>`, `<method>_wrong_slide`, `<method>_soft`); a question whose slide has no
    features is there with covered = False and correct = False.
    """
    k, seed = model.recipe["k"], model.recipe["seed"]
    ask = partial(answer, model, questions, answer_form=answer_form, batch_slides=batch_slides)
    answered = {method: ask(bags)}
    if wrong_slide and model.recipe["compressor"] != "text_only":  # which sees no slide at all
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
    with torch.no_grad(), _path(model, soft=False):
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
    key = {q.id: LETTERS[q.answer] for q in questions}
    right = sum(key[i] == p for i, p in zip(answers["ID"], answers["predicted"], strict=True))
    return right / max(len(questions), 1)


def select(
    model: VLM, bags: Mapping[str, Bag], *, batch_slides: int
) -> dict[str, tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """Tiles that the evaluation path keeps, best first, and their scores (nan where the method has none).

    Methods that mix tiles instead of keeping them select nothing and give empty arrays.
    """
    chosen = {}
    with torch.no_grad(), _path(model, soft=False):
        for slides in _slices(sorted(bags, key=lambda s: n_tiles(bags, s)), batch_slides):
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
    batch_slides: int,
    seed: int | None = None,
) -> float:
    """Share of questions answered rightly on the evaluation path; with `seed`, on the training path."""
    answers = answer(model, questions, bags, answer_form=answer_form, batch_slides=batch_slides, seed=seed)
    return accuracy(answers, questions)


def answer_probability(
    model: VLM, examples: Sequence[Example], bags: Mapping[str, Bag], *, batch_slides: int, seed: int | None = None
) -> float:
    """Geometric mean probability of the reference answers' tokens on the evaluation path; with `seed`, in training."""
    total, count = 0.0, 0
    device = model.feature_mean.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    with torch.no_grad(), _path(model, soft=seed is not None):
        for chunk in _slices(list(examples), batch_slides):
            texts = pack([[model.chat.turn(p, [a]) for p, a in e.turns] for e in chunk]).to(device)
            shown = [in_box(bags[e.slide_id], e.box) if e.box else bags[e.slide_id] for e in chunk]
            log_probs, _ = model(collate(shown).to(device), texts, generator)
            total, count = total + float(log_probs.sum()), count + int((texts.answer >= 0).sum())
    return float(np.exp(total / max(count, 1)))


def soft_watch(
    model: VLM, bags: Mapping[str, Bag], evaluate: Callable[..., float], *, seed: int, batch_slides: int
) -> dict[str, float]:
    """What a selector's validation score stands beside: the training path's score, and how soft its selection is.

    `evaluate(model, seed=...)` gives `soft_score`; `mass` is the mean over these slides of the soft top-k's mass on
    the hard one, at the present temperature `tau`. A method that scores no tiles has nan in all three.
    """
    compressor, mass = model.compressor, []
    if not (hasattr(compressor, "scores") and hasattr(compressor, "tau")):
        return dict.fromkeys(("soft_score", "mass", "tau"), float("nan"))
    tau = float(compressor.tau)
    with torch.no_grad(), _path(model, soft=False):
        for slides in _slices(sorted(bags, key=lambda s: n_tiles(bags, s)), batch_slides):
            batch = collate([bags[s] for s in slides]).to(model.feature_mean.device)
            scores = model.compress(batch).scores
            mass += mass_on_topk(scores, k=compressor.k, tau=tau, mask=batch.mask).tolist()
    return {"soft_score": evaluate(model, seed=seed), "mass": float(np.mean(mass or [np.nan])), "tau": tau}


def wrong_slides(slide_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Give every slide another slide's place (a cyclic shift of a seeded shuffle: nobody keeps their own)."""
    if len(slide_ids) < 2:
        raise ValueError(f"wrong-slide control: got {len(slide_ids)} slides; expected at least 2")
    shuffled = [sorted(slide_ids)[i] for i in np.random.default_rng(seed).permutation(len(slide_ids))]
    return dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))


@contextmanager
def _path(model: VLM, *, soft: bool) -> Iterator[None]:
    """Run the language model in evaluation mode, the compressor in training mode if `soft`; restore both after."""
    before = model.training, model.compressor.training
    model.eval()
    model.compressor.train(soft)
    try:
        yield
    finally:
        model.train(before[0])
        model.compressor.train(before[1])


def _by_slides(questions: Sequence[Question], bags: Mapping[str, Bag], batch_slides: int) -> Iterator[dict[str, list]]:
    asked: dict[str, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.slide_id, []).append(question)
    for slides in _slices(sorted(asked, key=lambda s: n_tiles(bags, s)), batch_slides):
        yield {slide: asked[slide] for slide in slides}


def _slices(items: list, size: int) -> Iterator[list]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _sum_by_answer(log_probs: Float[Tensor, "b t"], texts: Texts) -> Float[Tensor, " a"]:
    scores = log_probs.new_zeros(int(texts.answer.max()) + 1)
    return scores.scatter_add(0, texts.answer.clamp(min=0).flatten(), log_probs.flatten())


def _row(question: Question, scores: list[float]) -> dict:
    filled = [*scores, *[float("nan")] * (len(LETTERS) - len(scores))]
    predicted = LETTERS[int(np.argmax(scores))]
    return {
        "ID": question.id, "Slide": question.slide_id, "predicted": predicted,
        **{f"logp_{letter}": score for letter, score in zip(LETTERS, filled, strict=True)},
    }  # fmt: skip
