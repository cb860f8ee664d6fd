"""Kept sets: pooled recall by hand, heuristics on bags whose answer is known, overlaps."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.answers.select import planted_tiles, selection_by_slide
from slidesieve.evaluation.floors import heuristic_selection, norm, outlier, rarity, top
from slidesieve.evaluation.selection import jaccard, rates, retained
from slidesieve.features.bag import Bag


def bag(slide_id, x):
    n = len(x)
    coords = np.stack([64 * (np.arange(n) % 5), 64 * (np.arange(n) // 5)], axis=1).astype(np.int64)
    return Bag(slide_id, np.asarray(x, dtype=np.float32), coords, {})


def truth_of(slide_id, tiles, kinds):
    rows = [
        (slide_id, 64 * (tile % 5), 64 * (tile // 5), kind, "cyst") for tile, kind in zip(tiles, kinds, strict=True)
    ]
    return pd.DataFrame(rows, columns=["slide_id", "x_px0", "y_px0", "kind", "name"])


def test_rates_pool_tiles_over_slides_by_hand():
    """Found 2 of 3 and 0 of 1 planted; 7 of 75 and 2 of 10 kept: chance (3 * 7/75 + 1 * 2/10) / 4."""
    slides = pd.DataFrame({"n_tiles": [75, 10], "n_planted": [3, 1], "n_kept": [7, 2], "n_kept_planted": [2, 0]})
    assert rates(slides) == pytest.approx((2 / 4, (0.28 + 0.2) / 4, 2 / 9))


def test_keeping_all_tiles_has_the_recall_of_chance():
    slides = pd.DataFrame({"n_tiles": [75, 10], "n_planted": [3, 1], "n_kept": [75, 10], "n_kept_planted": [3, 1]})
    assert rates(slides)[:2] == (1.0, 1.0)


def test_rates_without_planted_tiles_are_nan():
    slides = pd.DataFrame({"n_tiles": [9], "n_planted": [0], "n_kept": [2], "n_kept_planted": [0]})
    assert np.isnan(rates(slides)).all()


def test_each_heuristic_finds_what_it_is_made_for():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(75, 33)) * 0.1 + 5
    x[11] *= 1.2  # longest
    x[40:46] = -5 + generator.normal(size=(6, 33)) * 0.01  # far from the mean, but six close together
    x[60] += 1.0 * np.where(np.arange(33) % 2, 1, -1)  # alone
    assert norm(x).argmax() == 11
    assert set(top(outlier(x), 6)) == set(range(40, 46))
    assert rarity(x).argmax() == 60


def test_rarity_is_the_mean_distance_to_five_neighbours_by_hand():
    x = np.arange(7, dtype=np.float32)[:, None] ** 2  # 0 1 4 9 16 25 36
    assert rarity(x)[0] == pytest.approx((1 + 4 + 9 + 16 + 25) / 5)
    assert rarity(x[:2]).tolist() == [1, 1] and rarity(x[:1]).tolist() == [0]


def test_top_is_ascending_breaks_ties_by_place_and_never_overruns():
    assert top(np.array([1.0, 3.0, 2.0, 3.0, 3.0]), 2).tolist() == [1, 3]
    assert top(np.array([1.0, 3.0]), 7).tolist() == [0, 1]


def test_planted_tiles_are_evidence_only_and_must_be_on_the_grid():
    truth = truth_of("a", [3, 7, 7, 9, 11], ["finding", "grade", "finding", "decoy", "tissue"])
    assert planted_tiles(bag("a", np.zeros((13, 2))), truth).tolist() == [3, 7]
    assert planted_tiles(bag("b", np.zeros((13, 2))), truth).tolist() == []
    with pytest.raises(ValueError, match=r"a: no tile at \(128, 64\) px0"):
        planted_tiles(bag("a", np.zeros((6, 2))), truth)


def test_of_a_thinned_bag_planted_tiles_that_were_left_out_were_not_kept(tmp_path):
    whole = bag("a", np.zeros((13, 2)))
    thin = whole._replace(x=whole.x[::2], coords=whole.coords[::2], index=np.arange(0, 13, 2), length=13)
    truth = truth_of("a", [2, 3, 4], ["finding", "grade", "finding"])
    assert planted_tiles(thin, truth).tolist() == [1, 2]
    truth.to_csv(tmp_path / "truth.csv", index=False)
    kept = pd.DataFrame({"slide_id": ["a", "a"], "index": [1, 5]})
    row = selection_by_slide(kept, {"a": thin}, tmp_path / "truth.csv").iloc[0]
    assert row.tolist() == ["a", 13, 3, 2, 1]


def test_heuristic_rows_by_hand():
    x = np.arange(1, 8, dtype=np.float32)[:, None]
    rows = heuristic_selection({"a": bag("a", x)}, truth_of("a", [6, 0], ["finding", "grade"]), ks=[1, 3])
    by_norm = rows[rows["method"] == "norm"]
    assert by_norm[["k", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]].to_numpy().tolist() == [
        [1, 7, 2, 1, 1],
        [3, 7, 2, 3, 1],
    ]
    assert set(rows["method"]) == {"norm", "outlier", "knn"} and len(rows) == 6


def test_overlaps_by_hand():
    full, part, offered = np.array([1, 4, 6, 9]), np.array([4, 5, 9]), np.array([1, 4, 5, 9])
    assert jaccard(full, part) == 2 / 5
    assert retained(full, part, offered) == 2 / 3  # 6 was not offered again
    assert jaccard(full, full) == 1 and jaccard(np.array([], int), np.array([], int)) == 1
    assert np.isnan(retained(np.array([6]), part, offered))
