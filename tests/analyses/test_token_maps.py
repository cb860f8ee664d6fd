"""UMAP's structure on two clear clusters, which slides are mapped, and what stands beside a map."""

import numpy as np
import pandas as pd
import pytest
from slide_files import smooth_noise, write_manifest, write_slide

from slidesieve.analyses import token_maps
from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag import make_bag


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


def test_an_archived_slide_has_no_picture(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(300, 500))
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", [{"slide_id": "a", "slide_path": "a.tif"}]))
    bag = make_bag("a", np.ones((3, 5)), np.zeros((3, 2)), {"patch_size_level0": 64})
    assert token_maps.picture(manifest, "a", bag)[0].shape == (300, 500, 3)
    path.unlink()
    assert token_maps.picture(manifest, "a", bag) is None


def test_a_map_knows_its_kept_and_planted_tiles(monkeypatch):
    rng = np.random.default_rng(0)
    coords = np.stack([np.arange(9) * 64, np.zeros(9, int)], 1)
    bags = {"a": make_bag("a", rng.standard_normal((9, 5)), coords, {})}
    monkeypatch.setattr(token_maps, "as_compressed", lambda model, bag: bag.x)
    truth = pd.DataFrame(
        [("a", 128, 0, "finding"), ("a", 192, 0, "tissue")], columns=["slide_id", "x_px0", "y_px0", "kind"]
    )
    how = {"neighbours": 3, "seed": 0}
    (one,) = token_maps.mapped(None, bags, ["a"], {"a": np.array([4, 1])}, truth=truth, **how)
    assert one.planted.tolist() == [2] and one.place.shape == (9, 2)
    table = token_maps.table_of([one])
    assert np.flatnonzero(table["kept"]).tolist() == [1, 4] and np.flatnonzero(table["planted"]).tolist() == [2]
    assert table.columns.tolist() == ["slide_id", "tile", "umap_1", "umap_2", "kept", "planted"]
    (unknown,) = token_maps.mapped(None, bags, ["a"], {"a": np.array([4, 1])}, truth=None, **how)
    assert len(unknown.planted) == 0 and np.array_equal(unknown.place, one.place)
