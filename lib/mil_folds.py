"""Train one model on one fold of a labelled cohort and say what it predicts of the test slides."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.classification import INVERSE_PENALTY
from lib.features import Bag
from lib.mil import Settings, bag_logits, fit_bags
from lib.mil_cohort import Bags, Split, moments
from lib.mil_models import bag_model

MEAN_POOL = "mean_pool_lr"


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
) -> pd.DataFrame:
    """Rows `model, fold, slide_id, case_id, label, p_<class> ...` of the test slides, kept in `checkpoint`.

    `model` is one of lib.mil_models, or MEAN_POOL: standardised logistic regression (C = 0.01) on mean features. A
    finished checkpoint is read back, not trained again.
    """
    if not checkpoint.exists():
        told = _predict(model, split, table, bags, k=k, seed=seed, settings=settings, options=options)
        part = checkpoint.with_suffix(".part")
        told.to_csv(part, index=False)
        part.replace(checkpoint)
    return pd.read_csv(checkpoint, dtype={"slide_id": str, "case_id": str})


def _predict(
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
    rows = table.set_index("slide_id")
    classes = sorted(table["label"].unique())
    y = rows["label"].map(classes.index)
    if model == MEAN_POOL:
        probability = _mean_pool(split, bags, y)
    else:
        scale = moments(bags, split.train)
        sides = [Bags(bags, slides, y[slides].to_numpy(), scale) for slides in split[1:]]
        d = len(scale[0])
        net = bag_model(model, d=d, classes=len(classes), k=k, seed=seed, options=options)
        fit_bags(net, *sides[:2], settings, seed=seed)
        probability = softmax(bag_logits(net, sides[2], batch=settings.batch), axis=1)
    told = rows.loc[split.test, ["case_id"]].reset_index().assign(label=y[split.test].to_numpy())
    told.insert(0, "fold", split.fold)
    told.insert(0, "model", model)
    told[[f"p_{name}" for name in classes]] = probability
    return told


def _mean_pool(split: Split, bags: Mapping[str, Bag], y: pd.Series) -> Float[np.ndarray, "s c"]:
    train, test = (_means(bags, slides) for slides in (split.train, split.test))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=5000))
    return model.fit(train, y[split.train]).predict_proba(test)


def _means(bags: Mapping[str, Bag], slide_ids: Sequence[str]) -> Float[np.ndarray, "s d"]:
    return np.stack([bags[slide_id].x.mean(axis=0) for slide_id in slide_ids])
