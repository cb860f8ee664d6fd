"""Diversity of a selection against a double loop, and UMAP's structure on two clear clusters."""

import numpy as np
import pandas as pd
import pytest
from slide_files import smooth_noise, write_manifest, write_slide

from slidesieve.analyses import diversity, token_maps
from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag import make_bag


def test_mean_pairwise_cosine_is_the_mean_over_pairs():
    x = np.random.default_rng(0).standard_normal((7, 13))
    pairs = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i in range(7) for j in range(i)]
    assert diversity.mean_pairwise_cosine(x) == pytest.approx(np.mean(pairs))
    assert diversity.mean_pairwise_cosine(np.tile(x[:1], (5, 1))) == pytest.approx(1)
    assert diversity.mean_pairwise_cosine(np.array([[1.0, 0], [-2, 0]])) == pytest.approx(-1)
    assert np.isnan(diversity.mean_pairwise_cosine(x[:1]))


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_short_slides_are_embedded_too(n):
    x = np.random.default_rng(n).standard_normal((n, 6))
    place = token_maps.embed(x, neighbours=15, seed=0)
    assert place.shape == (n, 2) and np.isfinite(place).all()


def test_two_clusters_stay_apart():
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(2, 11), 41, axis=0) + 0.05 * rng.standard_normal((82, 11))
    place = token_maps.embed(x, neighbours=10, seed=0)
    a, b = place[:41], place[41:]
    between = np.linalg.norm(a.mean(0) - b.mean(0))
    assert between > 2 * max(np.linalg.norm(a - a.mean(0), axis=1).mean(), np.linalg.norm(b - b.mean(0), axis=1).mean())


def test_typical_slides_are_of_the_longer_half():
    bags = {f"s{n}": make_bag(f"s{n}", np.ones((n, 2)), None, {}) for n in (5, 3, 9, 1, 7, 8)}
    assert token_maps.typical(bags, 2) == ["s7", "s9"]
    assert token_maps.typical(bags, 9) == ["s7", "s8", "s9"]


def test_the_title_counts_planted_tiles_where_they_are_known():
    found = pd.DataFrame(
        [("s1", 128, 5, 8, 4)], columns=["slide_id", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]
    )
    assert token_maps.title("s1", found).endswith("4 of 5 planted tiles kept")
    assert token_maps.title("s2", found) == "s2: kept tiles framed in orange"


def test_spread_is_against_as_many_random_tiles():
    rng = np.random.default_rng(0)
    place, kept = rng.standard_normal((75, 2)), np.arange(7)
    drawn = np.random.default_rng(3)
    scattered = []
    for _ in range(50):
        some = place[drawn.choice(75, 7, replace=False)]
        scattered.append(np.mean([np.hypot(*(point - some.mean(0))) for point in some]))
    centre = place[kept].mean(0)
    own = np.mean([np.hypot(*(place[i] - centre)) for i in kept])
    found = diversity.relative_spread(place, kept, draws=50, seed=3)
    assert found == pytest.approx(own / np.mean(scattered))
    assert diversity.relative_spread(7 * place + 3, kept, draws=50, seed=3) == pytest.approx(found)
    place[:7] = (9.0, 9.0)
    assert diversity.relative_spread(place, kept, draws=50, seed=3) == pytest.approx(0, abs=1e-12)
    assert np.isnan(diversity.relative_spread(place, kept[:1], draws=5, seed=3))


def test_a_map_is_named_with_its_two_numbers():
    alike = pd.DataFrame({"slide_id": ["s1", "s2"], "kept": [0.314, 0.5], "random": [0.049, 0.5]})
    spread = pd.DataFrame({"slide_id": ["s1"], "spread": [0.6]})
    assert diversity.map_titles(alike, spread) == {"s1": "s1\ncosine 0.31 (random 0.05), spread ×0.60"}


def test_an_archived_slide_has_no_picture(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(300, 500))
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", [{"slide_id": "a", "slide_path": "a.tif"}]))
    bag = make_bag("a", np.ones((3, 5)), np.zeros((3, 2)), {"patch_size_level0": 64})
    assert token_maps.picture(manifest, "a", bag)[0].shape == (300, 500, 3)
    path.unlink()
    assert token_maps.picture(manifest, "a", bag) is None
