"""One seeded training loop for every stage and method, on accelerate; a run that is killed resumes exactly.

Every random draw of a step (which slides, the gate's noise, dropout) is seeded by (seed, step) alone. A checkpoint
therefore holds weights, optimiser state and the step's number, and a resumed run is the uninterrupted run, bit for bit
on one device. The weights that are kept are those of the best validation score, taken on the path used at inference.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from lib.batch import Batch, collate, in_box, linspace_cap
from lib.examples import Example
from lib.features import Bag
from lib.prompts import Texts, pack
from lib.soft_topk import cosine_tau
from lib.vlm import VLM

PRINT_EVERY_S = 5.0


class Phase(NamedTuple):
    """So many optimiser steps on these examples, `batch` slides at a time."""

    examples: Sequence[Example]
    steps: int
    batch: int


class Settings(NamedTuple):
    """What an optimiser needs: a learning rate for each named module, and the usual rest."""

    rates: dict[str, float]  # by prefix of a parameter's name: "compressor", "projector", "lm"
    weight_decay: float
    warmup_steps: int
    clip: float
    accumulate: int = 1
    mixed_precision: str = "no"  # "no" or "bf16"


class Feed:
    """Examples in an order fixed by (seed, epoch), as padded batches. Step i gives the same batch in every run."""

    def __init__(self, model: VLM, bags: dict[str, Bag], phases: Sequence[Phase], *, seed: int, max_tiles: int):
        for phase in phases:
            missing = sorted({e.slide_id for e in phase.examples} - set(bags))
            if missing or (phase.steps and not phase.examples):
                raise ValueError(f"training: {len(missing)} slides have no features ({missing[:3]}); run 20 for them")
        self.model, self.bags, self.phases, self.seed, self.max_tiles = model, bags, phases, seed, max_tiles
        self.steps = sum(phase.steps for phase in phases)

    def __call__(self, step: int, shard: int = 0, shards: int = 1) -> tuple[Batch, Texts]:
        number = 0
        while step >= self.phases[number].steps:
            step -= self.phases[number].steps
            number += 1
        phase = self.phases[number]
        first = (step * shards + shard) * phase.batch
        chosen = [self._example(phase, number, i) for i in range(first, first + phase.batch)]
        bags = [self._bag(example) for example in chosen]
        turns = [[self.model.chat.turn(prompt, [answer]) for prompt, answer in e.turns] for e in chosen]
        return collate(bags), pack(turns)

    def _example(self, phase: Phase, number: int, i: int) -> Example:
        epoch, place = divmod(i, len(phase.examples))
        order = np.random.default_rng([self.seed, number, epoch]).permutation(len(phase.examples))
        return phase.examples[order[place]]

    def _bag(self, example: Example) -> Bag:
        bag = self.bags[example.slide_id]
        return linspace_cap(in_box(bag, example.box) if example.box else bag, self.max_tiles)


def fit(
    model: VLM,
    feed: Feed,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path,
    save_every: int,
    evaluate: Callable[[VLM], float],
    evaluate_every: int,
    stop_at: float = float("inf"),
    before_step: Callable[[VLM, int], None] = lambda model, step: None,
) -> pd.DataFrame:
    """Train in place and leave the best weights in the model; return one row per optimiser step.

    `evaluate` gives a validation score, higher is better; training ends early once it reaches `stop_at`. An existing
    `checkpoint` is resumed from; it is the caller's to delete when the stage is done.
    """
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.accumulate,
        cpu=model.feature_mean.device.type == "cpu",
    )
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.rates), betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, settings.warmup_steps, max(feed.steps // settings.accumulate, 1), min_lr_rate=0.1
    )
    trained, optimizer = accelerator.prepare(model, optimizer)
    state = _State.load(checkpoint, model, optimizer, schedule)
    spoken = 0.0
    while state.step < feed.steps and state.best_score < stop_at:
        before_step(model, state.step)
        model.train()
        loss = _step(accelerator, trained, optimizer, feed, seed, state.step, settings.clip)
        if accelerator.sync_gradients:
            schedule.step()
        state.rows.append({"step": state.step, "loss": loss, "lr": schedule.get_last_lr()[0], "score": float("nan")})
        state.step += 1
        last = state.step == feed.steps
        if state.step % evaluate_every == 0 or last:
            state.judge(model, evaluate)
        if time.monotonic() - spoken > PRINT_EVERY_S or last:
            spoken = time.monotonic()
            accelerator.print(
                f"step {state.step}/{feed.steps}  loss {loss:.3f}  best validation {state.best_score:.3f}", flush=True
            )
        if accelerator.is_main_process and accelerator.sync_gradients and state.step % save_every == 0:
            state.save(checkpoint, model, optimizer, schedule)
    model.load_state_dict(state.best, strict=False)
    model.eval()
    return pd.DataFrame(state.rows)


def alignment_phases(
    captions: Sequence[Example], *, region_steps: int, region_batch: int, steps: int, batch: int
) -> list[Phase]:
    """Captions of regions first, if there are any, then of whole slides."""
    regions = [caption for caption in captions if caption.box]
    slides = [caption for caption in captions if not caption.box]
    return [*([Phase(regions, region_steps, region_batch)] if regions else []), Phase(slides, steps, batch)]


def cooling(tau_start: float, tau_end: float, steps: int) -> Callable[[VLM, int], None]:
    """Set SparseLearn's temperature before each step, falling over `steps`; other methods have none."""

    def cool(model: VLM, step: int) -> None:
        if hasattr(model.compressor, "tau"):
            model.compressor.tau.fill_(cosine_tau(step, steps, tau_start, tau_end))

    return cool


def parameter_groups(model: nn.Module, rates: dict[str, float]) -> list[dict]:
    """Parameters that may be trained, by the first part of their names; a part with no rate, or rate 0, is frozen."""
    groups = {part: [] for part, rate in rates.items() if rate}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        if part not in groups:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            groups[part].append(parameter)
    return [{"params": groups[part], "lr": rate} for part, rate in rates.items() if groups.get(part)]


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what training changes: trainable parameters, and the compressor's buffers."""
    changed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    changed |= {name for name, _ in model.named_buffers() if name.startswith("compressor.")}
    return {name: value.detach().clone() for name, value in model.state_dict().items() if name in changed}


def _step(accelerator: Accelerator, model, optimizer, feed: Feed, seed: int, step: int, clip: float) -> float:
    torch.manual_seed(_mix(seed, step))  # dropout
    rank, device = accelerator.process_index, accelerator.device
    generator = torch.Generator(device).manual_seed(_mix(seed, step, rank))
    batch, texts = feed(step, rank, accelerator.num_processes)
    texts = texts.to(device)
    with accelerator.accumulate(model):
        log_probs, aux_loss = model(batch.to(device), texts, generator)
        loss = aux_loss - log_probs.sum() / (texts.answer >= 0).sum()
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def _mix(*numbers: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class _State:
    """Where a run stands; saved whole, or not at all."""

    def __init__(self):
        self.step, self.best_score, self.best, self.rows = 0, float("-inf"), {}, []

    def judge(self, model: VLM, evaluate: Callable[[VLM], float]) -> None:
        """Score the model on validation and keep its weights if they are the best so far."""
        model.eval()
        with torch.no_grad():
            score = evaluate(model)
        self.rows[-1]["score"] = score
        if score > self.best_score:
            self.best_score, self.best = score, trainable_state(model)

    @classmethod
    def load(cls, path, model, optimizer, schedule) -> "_State":
        state = cls()
        if path.exists():
            saved = torch.load(path, weights_only=True)
            model.load_state_dict(saved.pop("model"), strict=False)
            optimizer.load_state_dict(saved.pop("optimizer"))
            schedule.load_state_dict(saved.pop("schedule"))
            state.__dict__.update(saved)
            print(f"resuming at step {state.step}", flush=True)
        return state

    def save(self, path, model, optimizer, schedule) -> None:
        whole = {
            "model": trainable_state(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            **self.__dict__,
        }
        aside = path.with_suffix(".partial")
        torch.save(whole, aside)
        aside.replace(path)
