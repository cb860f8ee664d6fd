"""Masked pre-training over slides without labels, by the one loop; judged on validation slides.

AdamW (0.9, 0.95), half a cosine down to 0 after a warm-up, lr = base_lr x batch / 256 (He et al. 2022). Which slides a
step sees and which tokens it hides are functions of (seed, step) alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from slidesieve.features.bag import Bag, collate, linspace_cap
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.token_budget import Size, batches
from slidesieve.training.loop import fit
from slidesieve.training.masked import Masked, MaskedAutoencoder, loss
from slidesieve.training.state import seed_of
from slidesieve.training.step import Settings as Optimiser


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
    processes: int = 1,
) -> pd.DataFrame:
    """Train in place and leave the weights of the best validation cosine in the model; see `loop.fit`."""
    if not train or not validation:
        raise ValueError(f"pre-training: got {len(train)} training and {len(validation)} validation slides; need both")
    if settings.steps < 1 or settings.batch < 1:
        raise ValueError(
            f"pre-training: got {settings.steps} steps of {settings.batch} slides; expected at least one of each"
        )
    rate = settings.base_lr * settings.batch / 256
    optimiser = Optimiser(
        dict.fromkeys(("compressor", "decoder"), rate), settings.weight_decay, settings.warmup, settings.clip,
        lr_end=0.0, batch_tokens=settings.batch_tokens, betas=(0.9, 0.95), mixed_precision=settings.mixed_precision,
    )  # fmt: skip
    return fit(
        model, MaskedLoss(bags, train, settings), optimiser, seed=seed, checkpoint=checkpoint,
        save_minutes=save_minutes, evaluations=evaluations, device=device, processes=processes,
        evaluate=lambda model, share: mean_cosine(model, bags, validation, settings, seed=seed),
    )  # fmt: skip


class MaskedLoss:
    """The loss of masked tokens, a mean over all that a step hides, whatever parts and processes share them."""

    def __init__(self, bags: Mapping[str, Bag], train: Sequence[str], settings: Settings):
        self.bags, self.train, self.settings, self.steps = bags, train, settings, settings.steps

    def check_shards(self, shards: int) -> None:
        if self.settings.batch % shards:
            raise ValueError(
                f"pre-training: got batches of {self.settings.batch} slides for {shards} processes; expected a "
                f"multiple of {shards}; raise mae_batch"
            )

    def gradients(
        self, accelerator: Accelerator, trained: nn.Module, settings: Optimiser, *, seed: int, step: int, together
    ) -> float:
        rank, processes, device = accelerator.process_index, accelerator.num_processes, accelerator.device
        own = slides_of_step(self.train, step, self.settings.batch, seed)[rank::processes]
        generator = torch.Generator(device).manual_seed(seed_of(seed, step, *([rank] if rank else [])))
        shown = [linspace_cap(self.bags[slide], self.settings.max_tiles) for slide in own]
        parts = batches([Size(len(bag.x)) for bag in shown], settings.batch_tokens)
        total = torch.zeros(2, device=device)
        for part in parts:
            with nullcontext() if part is parts[-1] else accelerator.no_sync(trained):
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
                    masked = trained(collate([shown[i] for i in part]).to(device), generator)
                    value = loss(masked)
                hidden = masked.hidden.mask.sum()
                accelerator.backward(value * hidden)
            total += torch.stack([value.detach() * hidden, hidden])
        summed, hidden = accelerator.reduce(total, "sum").tolist()
        for parameter in trained.parameters():
            if parameter.grad is not None:
                parameter.grad *= processes / max(hidden, 1)  # the mean over processes is the sum over hidden tokens
        return summed / max(hidden, 1)


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
