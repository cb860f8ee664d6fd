"""One fold of a labelled cohort: standardised bags, a model trained on them, and what it says of the test slides."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
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
from slidesieve.features.standardised import Moments
from slidesieve.mil.models import bag_model
from slidesieve.mil.scores import of_fold
from slidesieve.mil.training import Settings, bag_logits, fit_bags, steps_an_epoch
from slidesieve.training.loop import cooling

TAU = (1.0, 0.1, 0.6)  # as stage 40 has it


class Bags:
    """Some slides' bags, standardised and padded together when asked for: `LabelledBags`."""

    def __init__(
        self,
        bags: Mapping[str, Bag],
        slide_ids: Sequence[str],
        y: Int[np.ndarray, " bags"],
        moments: Moments,
    ):
        self.bags, self.slide_ids, self.y, self.moments = bags, list(slide_ids), y, moments

    def __len__(self) -> int:
        return len(self.slide_ids)

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[Tensor, " b"]]:
        return collate([self._standardised(self.slide_ids[i]) for i in bags]), torch.from_numpy(self.y[bags])

    def _standardised(self, slide_id: str) -> Bag:
        bag = self.bags[slide_id]
        return bag._replace(x=self.moments.standardise(bag.x))


def predictions(
    models: Mapping[str, dict],
    cut: Sequence[Split],
    seeds: Sequence[int],
    table: pd.DataFrame,
    bags: Mapping[str, Bag],
    *,
    work: Path,
    **how,
) -> pd.DataFrame:
    """`fold_predictions` of every model, with its options, seed by seed; those in `work` are not made again."""
    parts = []
    for seed, split, model in product(seeds, cut, models):
        name = work / f"{model}_s{seed}_{split.fold}"
        own = {"options": models[model], "seed": seed, "checkpoint": name.with_suffix(".pt"), **how}
        part = kept(name.with_suffix(".csv"), partial(fold_predictions, model, split, table, bags, **own))
        told = f"{of_fold(part)['auroc']:.3f} of {len(part)} slides"
        print(f"seed {seed}, fold {split.fold}, {model}: AUROC {told}", flush=True)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


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
    checkpoint: Path,
    save_minutes: float,
    device: str,
    tau: tuple[float, float, float] = TAU,
) -> pd.DataFrame:
    """Return rows `model, seed, fold, slide_id, case_id, label, p_<class> ...` of the test slides.

    `tau`: first and last temperature of a soft selection, and the share of all steps in which it falls.

    A training cut off goes on from its `checkpoint`, on `device` "cpu" or "cuda". `model` is one of
    slidesieve.mil.models, or the mean-pool baseline of slidesieve.evaluation.auroc.
    """
    rows = table.set_index("slide_id")
    classes = sorted(table["label"].unique())
    y = rows["label"].map(classes.index)
    if model == BASELINE:
        probability = _mean_pool(split, bags, y)
    else:
        net, sides = untrained(model, split, table, bags, k=k, seed=seed, options=options)
        how = {"seed": seed, "checkpoint": checkpoint, "save_minutes": save_minutes, "device": device}
        if hasattr(net, "compressor"):
            steps = settings.epochs * steps_an_epoch(len(split.train), settings.batch)
            how["before_step"] = cooling(*tau[:2], round(tau[2] * steps))
        fit_bags(net, *sides[:2], settings, **how)
        probability = softmax(bag_logits(net, sides[2], batch=settings.batch), axis=1)
    told = rows.loc[split.test, ["case_id"]].reset_index().assign(label=y[split.test].to_numpy())
    for name, value in (("fold", split.fold), ("seed", seed), ("model", model)):
        told.insert(0, name, value)
    told[[f"p_{name}" for name in classes]] = probability
    return told


def untrained(
    model: str, split: Split, table: pd.DataFrame, bags: Mapping[str, Bag], *, k: int, seed: int, options: dict
) -> tuple[nn.Module, list[Bags]]:
    """Make a model of `mil.models` and the fold's sides (train, validation, test), standardised by training tiles."""
    label = table.set_index("slide_id")["label"]
    moments = Moments.of(bags[slide_id].x for slide_id in split.train)
    classes = sorted(label.unique())
    sides = [Bags(bags, slides, label[slides].map(classes.index).to_numpy(), moments) for slides in split[1:]]
    return bag_model(model, d=len(moments.mean), classes=len(classes), k=k, seed=seed, options=options), sides


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
