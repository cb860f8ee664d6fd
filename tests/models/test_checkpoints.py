"""What a training stage begins with: statistics of training slides and of no other."""

import numpy as np
import pytest
import torch
from tiny_vlm import D, K

from slidesieve.features.bag import make_bag
from slidesieve.models.checkpoints import begin_model


def bag(name: str, n: int, *, mean: float):
    rng = np.random.default_rng(n)
    return make_bag(name, mean + (1 + n % 3) * rng.standard_normal((n, D)), np.zeros((n, 2), int), {})


BAGS = {b.slide_id: b for b in (bag("a", 41, mean=0), bag("b", 75, mean=3), bag("tested", 60, mean=99))}


@pytest.mark.parametrize("standardise", [True, False])
def test_feature_statistics_are_those_of_training_slides(lm_folder, standardise):
    settings = {"projector_width": 19, "standardise": standardise}
    model = begin_model(
        lm_folder, "mean", BAGS, start=None, k=K, seed=1, settings=settings, train_slides=["b", "a"]
    )  # fmt: skip
    tiles = np.concatenate([BAGS["a"].x, BAGS["b"].x]).astype(np.float32)
    mean, std = (tiles.mean(0), tiles.std(0)) if standardise else (np.zeros(D), np.ones(D))
    assert torch.allclose(model.feature_mean, torch.tensor(mean).float(), atol=1e-5)
    assert torch.allclose(model.feature_std, torch.tensor(std).float(), atol=1e-5)
