"""The floors and the ceiling of the needle benchmark: logistic regression on mean tokens."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.needle_bags import NeedleBags

INVERSE_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)


def mean_regression(
    bags: dict[str, NeedleBags], pool: Callable[[NeedleBags], Float[np.ndarray, "bags d"]]
) -> dict[str, float]:
    """Return validation and test AUC of standardised logistic regression on pooled tokens, C chosen on validation."""
    pooled = {name: pool(part) for name, part in bags.items()}
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(pooled["train"], bags["train"].y)
        for c in INVERSE_PENALTIES
    ]

    def auc(model, split: str) -> float:
        return float(roc_auc_score(bags[split].y, model.decision_function(pooled[split])))

    best = max(models, key=lambda model: auc(model, "validation"))
    return {f"{split}_auc": auc(best, split) for split in ("validation", "test")}


def mean_of_all(bags: NeedleBags) -> Float[np.ndarray, "bags d"]:
    """Average every token of a bag."""
    return np.stack([bags.tokens[torch.from_numpy(rows)].mean(0).numpy() for rows in bags.rows])


def mean_of_needle(bags: NeedleBags) -> Float[np.ndarray, "bags d"]:
    """Average the needle's tokens alone, as if one were told where it lies: a ceiling, not a competitor."""
    found = [rows[mark] for rows, mark in zip(bags.rows, bags.is_needle, strict=True)]
    return np.stack([bags.tokens[torch.from_numpy(rows)].mean(0).numpy() for rows in found])
