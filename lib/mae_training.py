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
from lib.run_state import NotFiniteError, RunState, check_finite, seed_of
from lib.token_budget import Size, batches
from lib.validation import validation_steps

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
    batch_tokens: int = 65536  # tiles that go through the model at once, padding included: a batch is split by them
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
    save_minutes: float,
    evaluations: int,
    device: str,
) -> pd.DataFrame:
    """Train in place and leave the weights of the best validation cosine in the model; return one row a step.

    It is validated `evaluations` times, evenly spaced, at the end too. An existing `checkpoint` is resumed from, bit
    for bit on one device; it and the files beside it are the caller's to delete. A loss that is no number ends it.
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
    validated, spoken = validation_steps(settings.steps, accumulate=1, evaluations=evaluations), 0.0
    while state.step < settings.steps:
        model.train()
        slides = slides_of_step(train, state.step, settings.batch, seed)
        generator = torch.Generator(device).manual_seed(seed_of(seed, state.step))
        value = gradients(model, [bags[slide] for slide in slides], settings, generator)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        try:
            check_finite("loss", value, state.step)
            check_finite("gradient's norm", float(norm), state.step)
        except NotFiniteError as fault:
            raise ValueError(
                f"pre-training: {fault}; it stops, its last good checkpoint {state.last_good()}; lower mae_base_lr, or "
                "set mixed_precision to no"
            ) from fault
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        state.note(value, schedule.get_last_lr()[0])
        if state.step in validated:
            state.judge(model, lambda model, share: mean_cosine(model, bags, validation, settings, seed=seed))
        if state.step == settings.steps or time.monotonic() - spoken > PRINT_EVERY_S:
            spoken, best = time.monotonic(), state.best_score
            print(f"step {state.step}/{settings.steps}  loss {value:.3f}  best cosine {best:.3f}", flush=True)
        state.save_if_due(model, optimizer, schedule, minutes=save_minutes)
    if state.best_step < 0:
        raise ValueError("pre-training: no validation gave a finite cosine; look at the features, or lower mae_base_lr")
    model.load_state_dict(state.best, strict=False)
    model.eval()
    return state.history()


def gradients(model: MaskedAutoencoder, bags: Sequence[Bag], settings: Settings, generator: torch.Generator) -> float:
    """Add up the gradients of a step, part by part; the loss is a mean over the hidden tokens of all of them."""
    device, total, hidden = model.feature_mean.device, 0.0, 0
    parts = _parts([linspace_cap(bag, settings.max_tiles) for bag in bags], settings)
    for part in parts:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
            masked = model(collate(part).to(device), generator)
            value = loss(masked)
        own = int(masked.hidden.mask.sum()) if len(parts) > 1 else 1
        (value * own).backward()
        total, hidden = total + float(value.detach()) * own, hidden + own
    for parameter in model.parameters() if len(parts) > 1 else ():
        if parameter.grad is not None:
            parameter.grad /= max(hidden, 1)
    return total / max(hidden, 1)


def _parts(bags: Sequence[Bag], settings: Settings) -> list[list[Bag]]:
    """A step's bags in parts of at most `batch_tokens` tiles, padding included."""
    sizes = [Size(len(bag.x)) for bag in bags]
    return [[bags[i] for i in part] for part in batches(sizes, settings.batch_tokens)]


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
        sizes = [Size(min(n_tiles(bags, slide), settings.max_tiles)) for slide in some]
        for part in batches(sizes, settings.batch_tokens):
            shown = [some[i] for i in part]
            batch = collate([linspace_cap(bags[slide], settings.max_tiles) for slide in shown])
            yield shown, model(batch.to(device), generator)
