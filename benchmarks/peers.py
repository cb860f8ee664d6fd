"""The peers of the needle benchmark: torchmil's attention pooling, and logistic regression on mean tokens."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchmil.models import ABMIL

from benchmarks.needle_bags import NeedleBags

INVERSE_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)


class TorchmilABMIL(nn.Module):
    """torchmil 1.0.2's ABMIL as a two-class model of our interface.

    Plain: its defaults. Gated: gated attention behind Linear(d, 256), ReLU and dropout 0.25, the stronger setting.
    """

    def __init__(self, d: int, *, gated: bool, seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lift = nn.Sequential(nn.Linear(d, 256), nn.ReLU(), nn.Dropout(0.25)) if gated else nn.Identity()
            self.model = ABMIL(in_shape=(d,), gated=gated, feat_ext=lift)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 2"]:
        """Logits (0, z): their cross-entropy is torchmil's binary cross-entropy of z."""
        logit = self.model(x, mask.to(x.dtype))
        return torch.stack([torch.zeros_like(logit), logit], dim=-1)

    def attention(
        self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Attention before its softmax."""
        return self.model(x, mask.to(x.dtype), return_att=True)[1]


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
