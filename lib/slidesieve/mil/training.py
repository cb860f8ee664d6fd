"""Bag classification: any compressor, then a head that reads its tokens; the task of multiple-instance learning.

Bags are trained on whole; the weights of the best validation AUC are kept. Every draw comes from the seed.
"""

import copy
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from slidesieve.compressors.topk import cosine_tau
from slidesieve.features.bag import Batch
from slidesieve.mil.models import BagClassifier


class LabelledBags(Protocol):
    """Bags by number, and their classes."""

    y: Int[np.ndarray, " bags"]

    def __len__(self) -> int: ...

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]: ...


class Settings(NamedTuple):
    """How to train; `patience` epochs without a better validation AUC end it. `rates`: submodules with their own lr."""

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
    before_step: Callable[[nn.Module, int], None] = lambda model, step: None,
) -> pd.DataFrame:
    """Train in place, one row an epoch; the model is left in eval mode with the weights of its best validation AUC.

    `before_step(model, step)` may move a schedule; it is called with the number of all steps before each validation,
    so that a model is judged, and kept, as its schedule ends. Every draw comes from `seed`.
    """
    optimizer = torch.optim.AdamW(_groups(model, settings), lr=settings.lr, weight_decay=settings.weight_decay)
    per_epoch = -(-len(train) // settings.batch)
    log, best, best_auc = [], {}, -math.inf
    for epoch in range(settings.epochs):
        loss = _epoch(model, train, optimizer, settings, seed=seed, first=epoch * per_epoch, before_step=before_step)
        before_step(model, settings.epochs * per_epoch)
        auc = bag_auc(bag_logits(model, validation, batch=settings.batch), validation.y)
        log.append({"epoch": epoch, "loss": loss, "validation_auc": auc})
        if auc > best_auc:
            best, best_auc, best_epoch = copy.deepcopy(model.state_dict()), auc, epoch
        if epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(best)
    model.eval()
    return pd.DataFrame(log)


def _groups(model: nn.Module, settings: Settings) -> list[dict]:
    own = {name: list(model.get_submodule(name).parameters()) for name in settings.rates}
    elsewhere = {id(p) for group in own.values() for p in group}
    rest = [p for p in model.parameters() if id(p) not in elsewhere]
    return [{"params": rest}, *({"params": own[name], "lr": rate} for name, rate in settings.rates.items())]


def _epoch(model, train, optimizer, settings: Settings, *, seed: int, first: int, before_step) -> float:
    """Train once on every bag; return the mean loss."""
    model.train()
    order = np.random.default_rng([seed, first]).permutation(len(train))
    noise = torch.Generator().manual_seed(seed * 1_000_003 + first)
    losses, weight = [], class_weights(train.y) if settings.balanced else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + first)  # dropout draws from the global generator
        for i, chosen in enumerate(np.array_split(order, -(-len(order) // settings.batch))):
            before_step(model, first + i)
            batch, y = train.batch(chosen)
            with torch.autocast(y.device.type, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
                logits, aux_loss = model(*batch.tiles, noise)
            loss = F.cross_entropy(logits.float(), y, weight=weight) + aux_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses))


def class_weights(y: Int[np.ndarray, " bags"]) -> Float[Tensor, " c"]:
    """Return weights inverse to the classes' counts, whose mean over the bags is 1."""
    counts = np.bincount(y)
    return torch.from_numpy(len(y) / (len(counts) * counts)).float()


@torch.no_grad()
def bag_logits(model: nn.Module, bags: LabelledBags, *, batch: int) -> Float[np.ndarray, "bags c"]:
    """Logits of every bag in eval mode (the hard path), `batch` bags at a time."""
    model.eval()
    parts = np.array_split(np.arange(len(bags)), -(-len(bags) // batch))
    return np.concatenate([model(*bags.batch(part)[0].tiles)[0].numpy() for part in parts])


def bag_auc(logits: Float[np.ndarray, "bags c"], y: Int[np.ndarray, " bags"]) -> float:
    """AUC of two classes, or the one-vs-rest mean of more. Raises ValueError where a class has no bag."""
    if logits.shape[1] == 2:
        return float(roc_auc_score(y, logits[:, 1] - logits[:, 0]))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return float(roc_auc_score(y, odds / odds.sum(1, keepdims=True), multi_class="ovr"))
