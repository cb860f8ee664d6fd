"""Bag classification: any compressor, then a head that reads its tokens; the task of multiple-instance learning.

Bags are trained on whole; the weights of the best validation AUC are kept. Every draw comes from the seed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from slidesieve.compressors.topk import cosine_tau
from slidesieve.features.bag import Batch
from slidesieve.mil.models import BagClassifier
from slidesieve.training.loop import fit
from slidesieve.training.shares import Share
from slidesieve.training.state import seed_of
from slidesieve.training.step import Settings as Optimiser


class LabelledBags(Protocol):
    """Bags by number, and their classes."""

    y: Int[np.ndarray, " bags"]

    def __len__(self) -> int: ...

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]: ...


class Settings(NamedTuple):
    """How to train; `patience` epochs without a better validation AUC end it.

    `rates`: children with a learning rate of their own; 0 freezes one.
    """

    lr: float
    epochs: int
    patience: int
    batch: int
    weight_decay: float = 1e-5
    clip: float = 1.0
    mixed_precision: str = "no"  # or "bf16", in training alone: selection needs scores that do not tie
    rates: Mapping[str, float] = MappingProxyType({})
    balanced: bool = False  # weigh each class by how rare it is among the training bags


class Annealing(NamedTuple):
    """SparseLearn's budget falls geometrically from k_start to k_end while tau falls by a half cosine; then both rest.

    Ours: at k/n = 0.03 the gate shows a head little but noise, and neither would learn. A hook for `fit_bags`.
    """

    k_start: float
    k_end: int
    tau_start: float
    tau_end: float
    steps: int

    def __call__(self, model: BagClassifier, step: int) -> None:
        share = min(step / max(self.steps, 1), 1.0)
        compressor, k_start = model.compressor, max(self.k_start, self.k_end)
        compressor.k = self.k_end if share == 1 else self.k_end * (k_start / self.k_end) ** (1 - share)
        compressor.tau.fill_(cosine_tau(step, self.steps, self.tau_start, self.tau_end))


def fit_bags(
    model: nn.Module,
    train: LabelledBags,
    validation: LabelledBags,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path,
    save_minutes: float = 10.0,
    device: str = "cpu",
    processes: int = 1,
    before_step: Callable[[nn.Module, int], None] = lambda model, step: None,
) -> pd.DataFrame:
    """Train in place by `loop.fit`, validated after each epoch; return a row an epoch (epoch, loss, validation_auc).

    The model is left in eval mode with the weights of its best validation AUC. `before_step(model, step)` may move a
    schedule; it is called with the number of all steps before each validation, so that a model is judged, and kept, as
    its schedule ends. Every draw comes from `seed`.
    """
    work = ClassLoss(train, settings)

    def validation_auc(model: nn.Module, share: Share) -> float:
        before_step(model, work.steps)
        return bag_auc(bag_logits(model, validation, batch=settings.batch), validation.y)

    history = fit(
        model, work, _optimiser(model, settings), seed=seed, checkpoint=checkpoint, save_minutes=save_minutes,
        evaluate=validation_auc, evaluations=settings.epochs, patience=settings.patience, before_step=before_step,
        device=device, processes=processes,
    )  # fmt: skip
    epochs = history.groupby(history["step"].rename("epoch") // work.per_epoch)
    return epochs.agg(loss=("loss", "mean"), validation_auc=("score", "last")).reset_index()


def _optimiser(model: nn.Module, settings: Settings) -> Optimiser:
    """AdamW at constant rates."""
    rates = {name: settings.lr for name, _ in model.named_children()} | dict(settings.rates)
    return Optimiser(
        rates, settings.weight_decay, warmup=0, clip=settings.clip, lr_end=1.0, mixed_precision=settings.mixed_precision
    )


class ClassLoss:
    """Mean cross-entropy of a batch of bags, and the compressor's own loss; an epoch goes once through all bags."""

    def __init__(self, train: LabelledBags, settings: Settings):
        self.train, self.batch = train, settings.batch
        self.per_epoch = steps_an_epoch(len(train), settings.batch)
        self.steps = settings.epochs * self.per_epoch
        weights = class_weights(train.y) if settings.balanced else torch.ones(train.y.max() + 1)
        self.weights = weights.double()

    def check_shards(self, shards: int) -> None:
        if (smallest := len(self.train) // self.per_epoch) < shards:
            raise ValueError(f"classification: got batches of {smallest} bags for {shards} processes; raise batch")

    def gradients(
        self,
        accelerator: Accelerator,
        trained: nn.Module,
        settings: Optimiser,
        *,
        seed: int,
        step: int,
        together: range,
    ) -> float:
        rank, processes, device = accelerator.process_index, accelerator.num_processes, accelerator.device
        chosen = bags_of_step(len(self.train), step, self.per_epoch, seed)
        own = chosen[rank::processes]
        batch, y = self.train.batch(own)
        mass = float(self.weights[self.train.y[chosen]].sum())
        with torch.random.fork_rng(devices=[]):
            noise = seed_of(seed, step, rank)
            torch.manual_seed(noise)  # dropout
            generator = torch.Generator(device).manual_seed(noise)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
                logits, aux_loss = trained(*batch.to(device).tiles, generator)
        told = F.cross_entropy(logits.float(), y.to(device), reduction="none")
        loss = (told * self.weights[y].to(told)).sum() / mass + aux_loss * len(own) / len(chosen)
        accelerator.backward(loss * processes)  # gradients are averaged over processes
        return float(accelerator.reduce(loss.detach(), "sum"))


def steps_an_epoch(bags: int, batch: int) -> int:
    """As many as take every bag once."""
    return -(-bags // batch)


def bags_of_step(bags: int, step: int, per_epoch: int, seed: int) -> Int[np.ndarray, " b"]:
    """The bags of one step: every epoch goes through all in an order of its own, in batches as equal as can be."""
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(bags)
    return np.array_split(order, per_epoch)[place]


def class_weights(y: Int[np.ndarray, " bags"]) -> Float[Tensor, " c"]:
    """Return weights inverse to the classes' counts, whose mean over the bags is 1."""
    counts = np.bincount(y)
    return torch.from_numpy(len(y) / (len(counts) * counts)).float()


@torch.no_grad()
def bag_logits(model: nn.Module, bags: LabelledBags, *, batch: int) -> Float[np.ndarray, "bags c"]:
    """Logits of every bag in eval mode (the hard path), `batch` bags at a time."""
    model.eval()
    device = next(model.parameters()).device
    parts = np.array_split(np.arange(len(bags)), -(-len(bags) // batch))
    return np.concatenate([model(*bags.batch(part)[0].to(device).tiles)[0].cpu().numpy() for part in parts])


def bag_auc(logits: Float[np.ndarray, "bags c"], y: Int[np.ndarray, " bags"]) -> float:
    """AUC of two classes, or the one-vs-rest mean of more. Raises ValueError where a class has no bag."""
    if logits.shape[1] == 2:
        return float(roc_auc_score(y, logits[:, 1] - logits[:, 0]))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return float(roc_auc_score(y, odds / odds.sum(1, keepdims=True), multi_class="ovr"))
