"""One fold of a labelled cohort: standardised bags, a model trained on them, and what it says of the test slides."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.special import softmax
from torch import Tensor, nn

from slidesieve.cohort.splits import Split
from slidesieve.evaluation.auroc import BASELINE, mean_pool_model
from slidesieve.features.bag import Bag, Batch, collate
from slidesieve.mil.models import bag_model
from slidesieve.mil.training import Settings, bag_logits, fit_bags


class Bags:
    """Some slides' bags, standardised (see `moments`) and padded together when asked for: `LabelledBags`."""

    def __init__(
        self,
        bags: Mapping[str, Bag],
        slide_ids: Sequence[str],
        y: Int[np.ndarray, " bags"],
        moments: tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]],
    ):
        self.bags, self.slide_ids, self.y, (self.mean, self.std) = bags, list(slide_ids), y, moments

    def __len__(self) -> int:
        return len(self.slide_ids)

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]:
        return collate([self._standardised(self.slide_ids[i]) for i in bags]), torch.from_numpy(self.y[bags])

    def _standardised(self, slide_id: str) -> Bag:
        bag = self.bags[slide_id]
        return bag._replace(x=(bag.x - self.mean) / self.std)


def moments(
    bags: Mapping[str, Bag], slide_ids: Sequence[str]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and standard deviation of every dimension over the tiles of these slides, a bag at a time."""
    n, total, square = 0, 0.0, 0.0
    for slide_id in slide_ids:
        x = bags[slide_id].x.astype(np.float64)
        n, total, square = n + len(x), total + x.sum(0), square + (x**2).sum(0)
    mean = total / n
    std = np.sqrt(np.maximum(square / n - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


def fold_predictions(
    model: str,
    split: Split,
    table: pd.DataFrame,
    bags: Mapping[str, Bag],
    *,
    k: int,
    seed: int,
    settings: Settings,
    options: dict,
) -> pd.DataFrame:
    """Return rows `model, fold, slide_id, case_id, label, p_<class> ...` of the test slides.

    `model` is one of slidesieve.mil.models, or the mean-pool baseline of slidesieve.evaluation.auroc.
    """
    rows = table.set_index("slide_id")
    classes = sorted(table["label"].unique())
    y = rows["label"].map(classes.index)
    if model == BASELINE:
        probability = _mean_pool(split, bags, y)
    else:
        net, sides = untrained(model, split, table, bags, k=k, seed=seed, options=options)
        fit_bags(net, *sides[:2], settings, seed=seed)
        probability = softmax(bag_logits(net, sides[2], batch=settings.batch), axis=1)
    told = rows.loc[split.test, ["case_id"]].reset_index().assign(label=y[split.test].to_numpy())
    told.insert(0, "fold", split.fold)
    told.insert(0, "model", model)
    told[[f"p_{name}" for name in classes]] = probability
    return told


def untrained(
    model: str, split: Split, table: pd.DataFrame, bags: Mapping[str, Bag], *, k: int, seed: int, options: dict
) -> tuple[nn.Module, list[Bags]]:
    """Make a model of `mil.models` and the fold's sides (train, validation, test), standardised by training tiles."""
    label, scale = table.set_index("slide_id")["label"], moments(bags, split.train)
    classes = sorted(label.unique())
    sides = [Bags(bags, slides, label[slides].map(classes.index).to_numpy(), scale) for slides in split[1:]]
    return bag_model(model, d=len(scale[0]), classes=len(classes), k=k, seed=seed, options=options), sides


def kept(file: Path, predict: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the predictions in `file`; where there are none yet, those of `predict`, written there whole."""
    if not file.exists():
        part = file.with_suffix(".part")
        predict().to_csv(part, index=False)
        part.replace(file)
    return pd.read_csv(file, dtype={"slide_id": str, "case_id": str})


def _mean_pool(split: Split, bags: Mapping[str, Bag], y: pd.Series) -> Float[np.ndarray, "s c"]:
    train, test = (_means(bags, slides) for slides in (split.train, split.test))
    return mean_pool_model().fit(train, y[split.train]).predict_proba(test)


def _means(bags: Mapping[str, Bag], slide_ids: Sequence[str]) -> Float[np.ndarray, "s d"]:
    return np.stack([bags[slide_id].x.mean(axis=0) for slide_id in slide_ids])
