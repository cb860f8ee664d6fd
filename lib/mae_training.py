"""Masked pre-training over slides without labels: seeded, resumable, judged on validation slides.

AdamW (0.9, 0.95), half a cosine down to 0 after a warm-up, lr = base_lr x batch / 256 (He et al. 2022). Which slides a
step sees and which tokens it hides are functions of (seed, step) alone.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from transformers import get_cosine_schedule_with_warmup

from lib.bag_files import n_tiles
from lib.batch import collate, linspace_cap
from lib.features import Bag
from lib.mae import Masked, MaskedAutoencoder, loss
from lib.run_state import RunState, seed_of

PRINT_EVERY_S = 5.0


class Settings(NamedTuple):
    """How to pre-train; `warmup` is a share of the steps, `max_tiles` a slide's most, evenly spaced."""

    base_lr: float
    steps: int
    batch: int
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 1.0
    max_tiles: int = 4096
    mixed_precision: str = "no"  # or "bf16"


def pretrain(
    model: MaskedAutoencoder,
    bags: Mapping[str, Bag],
    train: Sequence[str],
    validation: Sequence[str],
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path,
    save_every: int,
    evaluate_every: int,
    device: str,
) -> pd.DataFrame:
    """Train in place and leave the weights of the best validation cosine in the model; return one row a step.

    An existing `checkpoint` is resumed from, bit for bit on one device; it is the caller's to delete.
    """
    if not train or not validation:
        raise ValueError(f"pre-training: got {len(train)} training and {len(validation)} validation slides; need both")
    if settings.steps < 1 or settings.batch < 1 or settings.mixed_precision not in ("no", "bf16"):
        raise ValueError(
            f"pre-training: got {settings.steps} steps of {settings.batch} slides in {settings.mixed_precision!r}; "
            "expected at least one of each, and no or bf16"
        )
    model.to(device)
    rate = settings.base_lr * settings.batch / 256
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(settings.warmup * settings.steps), settings.steps)
    state = RunState.resume(checkpoint, model, optimizer, schedule)
    spoken = 0.0
    while state.step < settings.steps:
        model.train()
        slides = slides_of_step(train, state.step, settings.batch, seed)
        batch = collate([linspace_cap(bags[slide], settings.max_tiles) for slide in slides]).to(device)
        generator = torch.Generator(device).manual_seed(seed_of(seed, state.step))
        with torch.autocast(device, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
            value = loss(model(batch, generator))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        row = {
            "step": state.step,
            "loss": float(value.detach()),
            "lr": schedule.get_last_lr()[0],
            "score": float("nan"),
        }
        state.rows.append(row)
        state.step += 1
        last = state.step == settings.steps
        if state.step % evaluate_every == 0 or last:
            state.judge(model, lambda model: mean_cosine(model, bags, validation, settings, seed=seed))
        if last or time.monotonic() - spoken > PRINT_EVERY_S:
            spoken, best = time.monotonic(), state.best_score
            print(f"step {state.step}/{settings.steps}  loss {row['loss']:.3f}  best cosine {best:.3f}", flush=True)
        if state.step % save_every == 0:
            state.save(checkpoint, model, optimizer, schedule)
    model.load_state_dict(state.best, strict=False)
    model.eval()
    return pd.DataFrame(state.rows)


def slides_of_step(slides: Sequence[str], step: int, batch: int, seed: int) -> list[str]:
    """The slides of one step: every epoch goes through all of them in an order of its own."""
    places = range(step * batch, (step + 1) * batch)
    epochs = {i // len(slides) for i in places}
    order = {epoch: np.random.default_rng([seed, epoch]).permutation(len(slides)) for epoch in epochs}
    return [slides[order[i // len(slides)][i % len(slides)]] for i in places]


def mean_cosine(
    model: MaskedAutoencoder, bags: Mapping[str, Bag], slides: Sequence[str], settings: Settings, *, seed: int
) -> float:
    """Mean cosine of prediction and target over the hidden tokens of all these slides."""
    cosines = [
        F.cosine_similarity(masked.predicted, masked.target, dim=-1)[masked.hidden.mask]
        for _, masked in hide_and_predict(model, bags, slides, settings, seed=seed)
    ]
    return float(torch.cat(cosines).mean())


@torch.no_grad()
def hide_and_predict(
    model: MaskedAutoencoder, bags: Mapping[str, Bag], slides: Sequence[str], settings: Settings, *, seed: int
) -> Iterator[tuple[list[str], Masked]]:
    """Batch by batch, in evaluation mode; the same tokens are hidden in every call with this seed."""
    model.eval()
    device = model.feature_mean.device
    generator = torch.Generator(device).manual_seed(seed)
    named = sorted(slides, key=lambda slide: (n_tiles(bags, slide), slide))
    for start in range(0, len(named), settings.batch):
        some = named[start : start + settings.batch]
        yield (
            some,
            model(collate([linspace_cap(bags[slide], settings.max_tiles) for slide in some]).to(device), generator),
        )
