"""What each method was given to learn from: the steps that its stages took, so that a reader sees who got more."""

from collections.abc import Iterator

from flows.plan.stages import Stage, values_of
from flows.report.words import EVERYTHING, UNTRAINED, kind_of
from slidesieve.provenance.files import ROOT

ANSWERED, BATCHES = "60_answer_questions", ("batch", "mae_batch")
PARTS = ("alignment, all tiles", "pre-training", "captions", "questions")
FIXED = ("random", "linspace", "mean", "text_only")  # floors without a compressor to train
RATES = {"lr_projector": "projector", "lr_compressor": "compressor", "lr_lora": "language model"}


def training_rows(stages: list[Stage]) -> list[dict[str, str]]:
    """One row for each method and k: steps × slides a step of each part, the fewest to the most over its runs.

    Beside them the peak learning rates on questions, which is where recipes that were tuned differ. An empty cell is a
    part that the method does not have, and ? one of which nothing is known so far.
    """
    made = {stage.out_dir: stage for stage in stages}
    runs: dict[tuple[str, str], list[dict[str, str]]] = {}
    rates: dict[tuple[str, str], str] = {}
    for stage in stages:
        if stage.notebook.stem == ANSWERED:
            name = _name(stage, made)
            runs.setdefault(name, []).append(_parts(stage, made))
            rates.setdefault(name, _rates(next(_behind(stage, made), stage)))
    parts = [part for part in PARTS if any(part in run for own in runs.values() for run in own)]
    return [
        {"method": method, "k": k, "runs": str(len(own))}
        | {part: _range([run[part] for run in own if part in run]) for part in parts}
        | {"learning rates": rates[method, k]}
        for (method, k), own in runs.items()
    ]


def _name(answered: Stage, made: dict[str, Stage]) -> tuple[str, str]:
    tuned = next(_behind(answered, made), answered)
    method = answered.parameters.get("method") or tuned.parameters.get("compressor", "")
    return str(method), str(tuned.parameters.get("k", ""))


def _parts(answered: Stage, made: dict[str, Stage]) -> dict[str, str]:
    """Steps × slides a step of each part of one run's training."""
    chain = list(_behind(answered, made))
    return {_part(stage, of=chain[0]): _steps(stage) for stage in chain}


def _behind(stage: Stage, made: dict[str, Stage]) -> Iterator[Stage]:
    """The stages that a run went through before, the last one first."""
    while before := made.get(str(stage.parameters.get("checkpoint") or stage.parameters.get("start") or "")):
        yield before
        stage = before


def _part(stage: Stage, *, of: Stage) -> str:
    if stage.notebook.stem.startswith("30"):
        return "pre-training"
    if stage.notebook.stem.startswith("50"):
        return "questions"
    shared = stage.parameters.get("compressor") == "all" != of.parameters.get("compressor")
    return "alignment, all tiles" if shared else "captions"


def _steps(stage: Stage) -> str:
    """Optimiser steps that were taken and slides in each, from the table that the training has left."""
    history, values = ROOT / stage.out_dir / "history.csv", values_of(stage)
    if not history.exists():
        return "?"
    with history.open(encoding="utf-8") as file:
        batches = sum(1 for _ in file) - 1
    accumulate = int(values.get("accumulate", 1))
    slides = next(int(values[name]) for name in BATCHES if name in values) * accumulate
    return f"{-(-batches // accumulate)} \N{MULTIPLICATION SIGN} {slides}"


def _rates(tuned: Stage) -> str:
    values = values_of(tuned)
    method = str(values.get("compressor", ""))
    fixed = kind_of(method) in (UNTRAINED, EVERYTHING) or method in FIXED
    taught = [(part, name) for name, part in RATES.items() if name in values and not (fixed and part == "compressor")]
    return ", ".join(f"{part} {values[name]:g}" for part, name in taught)


def _range(told: list[str]) -> str:
    """One entry where all runs agree, else the least and the most."""
    known = sorted(set(told), key=lambda steps: int(steps.partition(" ")[0]) if steps != "?" else -1)
    return " to ".join(dict.fromkeys([known[0], known[-1]])) if known else ""
