"""The toy task is neither blind nor trivial: classes can be told apart, and oddness does not find the evidence."""

from functools import partial

import numpy as np
import pytest
import torch
from openslide import OpenSlide
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from slidesieve.features.encoders import StainTexture
from slidesieve.synthetic.classes import DECOYS, FINDINGS, GRADES, INDEX
from slidesieve.synthetic.drawing import HEIGHT, WIDTH, draw_slide
from slidesieve.synthetic.plans import COLS, ROWS, TILE_PX0, Plan, draw_plan
from slidesieve.synthetic.pyramids import write_pyramid

CONTENT = {"evidence_tiles": (2, 4), "n_decoys": 12}


def tiles_in(pixels):
    return pixels.reshape(ROWS, TILE_PX0, COLS, TILE_PX0, 3).swapaxes(1, 2).reshape(-1, TILE_PX0, TILE_PX0, 3)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, atlas):
    """Features and labels of slides, through JPEG files: 36 of mixed tiles to fit on, 24 of the cohort to test on."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("slides") / "a.tif"
    mixed = [Plan(900 + i, rng.permutation(np.arange(128) % 40).reshape(ROWS, COLS)) for i in range(36)]
    natural = [draw_plan(0, i, **CONTENT) for i in range(48)]

    def tiles(plan):
        write_pyramid(path, draw_slide(0, plan, atlas), mpp=1.0, description="")
        with OpenSlide(path) as slide:
            return tiles_in(np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))[..., :3])

    encoder = StainTexture()
    fit, test = natural[:24], natural[24:]
    torch.set_num_threads(1)
    encoder.fit(np.concatenate([tiles(plan) for plan in fit]))
    x_fit = np.concatenate([encoder.encode(tiles(plan)) for plan in mixed])
    x_test = np.stack([encoder.encode(tiles(plan)) for plan in test])
    return x_fit, np.concatenate([p.labels.ravel() for p in mixed]), x_test, np.stack([p.labels.ravel() for p in test])


def test_every_class_can_be_told_from_its_tiles(encoded):
    x_fit, y_fit, x_test, y_test = encoded
    y = y_test.ravel()
    for model, bar in ((NearestCentroid(), 0.85), (LogisticRegression(C=0.05, max_iter=300), 0.90)):
        guess = model.fit(x_fit, y_fit).predict(x_test.reshape(len(y), -1))
        recall = [(guess[y == c] == c).mean() for c in np.unique(y)]
        assert np.mean(recall) >= bar, model


def test_planted_tiles_are_not_found_by_being_odd(encoded):
    """If norm, distance from the mean or rarity found the evidence, a learned selector would prove nothing."""
    _, _, x_test, y_test = encoded
    planted = np.isin(y_test, [INDEX[n] for n in FINDINGS + GRADES])
    decoy = np.isin(y_test, [INDEX[n] for n in DECOYS])

    def rarity(x):
        return NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)[0][:, -1]

    def distance(x):
        return np.linalg.norm(x - x.mean(0), axis=1)

    for score in (partial(np.linalg.norm, axis=1), distance, rarity):
        top = np.stack([np.argsort(-score(x), kind="stable")[:8] for x in x_test])
        recall = np.take_along_axis(planted, top, 1).sum(1) / planted.sum(1)
        assert recall.mean() <= 0.20
        assert np.take_along_axis(decoy, top, 1).mean() > 2 * decoy.mean()
