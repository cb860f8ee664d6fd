"""Train one model on one fold of a labelled cohort and say what it predicts of the test slides."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import softmax
from torch import nn

from lib.classification import BASELINE, mean_pool_model
from lib.features import Bag
from lib.mil import Settings, bag_logits, fit_bags
from lib.mil_cohort import Bags, Split, moments
from lib.mil_models import bag_model


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

    `model` is one of lib.mil_models, or the mean-pool baseline of lib.classification.
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
    """Make a model of lib.mil_models and the fold's sides (train, validation, test), standardised by training tiles."""
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
