"""The leak against its formulas: matched filters, Gaussian codewords, chance; tiles whose patients never meet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.stats import binom, norm
from shared_data import SHARED

from slidesieve.analyses import leak, leak_tiles
from slidesieve.analyses.leak import (
    Tiles,
    gaussian_classes,
    half_skill,
    identified,
    narrowed,
    normalise,
    participation_ratio,
    probe,
)
from slidesieve.features.bag import make_bag
from slidesieve.features.readers import read_bag
from slidesieve.features.store import write_features, write_packed


def gaussian(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def two_points(n: int, d: int, delta: float, *, within: float = 0.0, seed: int = 0) -> Tiles:
    """Two classes delta apart along a random direction, each with variance `within` in every dimension."""
    direction = gaussian(1, d, seed=9)[0]
    label = np.arange(n) % 2
    x = np.outer(label - 0.5, delta * direction / np.linalg.norm(direction)) + within**0.5 * gaussian(n, d, seed=seed)
    return Tiles(x.astype(np.float32), label, np.array([f"s{i}" for i in range(n)]))


# --- normalisation and width


def test_tiles_are_standardised_by_the_training_tiles_and_layer_normalised():
    x, fit = gaussian(7, 33), 3 * gaussian(75, 33, seed=1) + 2
    for row, got in zip(x, normalise(x, fit=fit), strict=True):
        z = np.array([(row[j] - fit[:, j].mean()) / fit[:, j].std() for j in range(33)])
        assert got == pytest.approx((z - z.mean()) / np.sqrt(z.var() + 1e-5), abs=1e-4)


def test_projections_are_orthonormal_and_the_own_width_is_left_alone():
    down = narrowed(33, 7, seed=3)
    assert np.abs(down.T @ down - np.eye(7)).max() < 1e-5
    x = gaussian(75, 33)
    assert np.array_equal(leak.at_width(x, 33, fit=x, seed=0), normalise(x, fit=x))
    assert leak.at_width(x, 7, fit=x, seed=0).std(axis=1) == pytest.approx(1, abs=1e-3)


def test_participation_ratio_counts_equal_dimensions():
    x = gaussian(20_011, 33)
    assert participation_ratio(x) == pytest.approx(33, rel=0.01)
    x[:, 11:] *= 1e-3
    assert participation_ratio(x) == pytest.approx(11, rel=0.01)
    assert participation_ratio(np.outer(gaussian(75, 1)[:, 0], np.ones(7))) == pytest.approx(1)


# --- one tile among its slide's


def test_untouched_tiles_are_all_identified_and_erased_ones_by_chance():
    x, n = normalise(gaussian(75, 33), fit=gaussian(75, 33)), 75
    assert identified(x, 1.0, seed=0).all()
    hits = sum(int(identified(x, 0.0, seed=i).sum()) for i in range(60))
    assert binom.ppf(1e-4, 60 * n, 1 / n) <= hits <= binom.ppf(1 - 1e-4, 60 * n, 1 / n)


def test_equal_tiles_count_as_one():
    x = np.repeat(normalise(gaussian(25, 33), fit=gaussian(25, 33)), 3, axis=0)
    assert identified(x, 1.0, seed=0).all()
    assert identified(x, 0.9, seed=0).all()


@pytest.mark.parametrize("alpha", [0.01, 0.03, 0.1])
def test_independent_tokens_are_identified_as_often_as_the_highest_of_n_gaussians_allows(alpha):
    """E_z[Phi(sqrt(alpha d) + sqrt(1 - alpha) z)^(n - 1)]: own token against n - 1 others, each of unit variance."""
    n, d = 301, 257
    z, weight = hermegauss(120)
    won = norm.cdf(np.sqrt(alpha * d) + np.sqrt(1 - alpha) * z) ** (n - 1)
    expected = float((weight * won).sum() / weight.sum())
    x = normalise(gaussian(n, d), fit=gaussian(n, d))
    measured = np.mean([identified(x, alpha, seed=i).mean() for i in range(5)])
    assert measured == pytest.approx(expected, abs=0.04)


def test_identification_table_stands_on_its_laws():
    table = leak.identification_leak(gaussian(75, 33), alphas=[0.0, 0.1, 1.0], widths=[7, 33, 500], trials=200, seed=0)
    assert table.groupby("d").size().to_dict() == {7: 3, 33: 3}  # no width beyond the features' own
    clean = table[table["alpha"] == 1]
    assert (clean[["share", "expected", "expected_own", "skill"]] == 1).all(axis=None)
    assert (table["chance"] == 1 / 75).all() and table["share"].between(table["low"], table["high"]).all()
    part = table[table["alpha"] == 0.1].set_index("d")
    assert part.loc[33, "share"] > part.loc[7, "share"]
    assert part.loc[33, "snr"] == pytest.approx(np.sqrt(0.1 / 0.9 * 2 * 33), rel=0.05)  # two tokens lie sqrt(2d) apart


# --- the class of a tile


@pytest.mark.parametrize("alpha", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("within", [0.0, 0.5])
def test_gaussian_classes_follow_the_matched_filter(alpha, within):
    """Phi(SNR / 2), SNR = sqrt(alpha) delta / sqrt(1 - alpha + alpha within)."""
    tiles = two_points(20_011 if within else 2_000, 9, 3.7, within=within)
    expected = norm.cdf(np.sqrt(alpha) * 3.7 / np.sqrt(1 - alpha + alpha * within) / 2)
    assert gaussian_classes(tiles, alpha, seed=0) == pytest.approx(expected, abs=0.015)
    if not within:
        assert expected == pytest.approx(norm.cdf(leak.matched_filter_snr(alpha, 3.7) / 2))


@pytest.mark.parametrize("alpha", [0.03, 0.1, 0.3])
def test_probe_follows_the_matched_filter(alpha):
    train, test = two_points(6_000, 33, 5.1), two_points(6_000, 33, 5.1)
    expected = norm.cdf(leak.matched_filter_snr(alpha, 5.1) / 2)
    assert probe(train, test, alpha, seed=0).mean() == pytest.approx(expected, abs=0.02)


def test_probe_reads_nothing_of_an_erased_tile_and_everything_of_a_clear_one():
    train, test = two_points(2_000, 33, 30.0), two_points(2_000, 33, 30.0)
    assert probe(train, test, 1.0, seed=0).all()
    hits = int(probe(train, test, 0.0, seed=0).sum())
    assert binom.ppf(1e-4, 2_000, 0.5) <= hits <= binom.ppf(1 - 1e-4, 2_000, 0.5)


def test_distances_by_naive_loop():
    x = gaussian(7, 33).astype(float)
    squares = [np.square(x[i] - x[j]).sum() for i in range(7) for j in range(i)]
    assert leak.rms_distance(x) == pytest.approx(np.sqrt(np.mean(squares)))


def test_half_skill_is_where_a_line_in_amplitude_says():
    alpha = np.array([0.0, 0.01, 0.04, 1.0])
    table = pd.DataFrame({"alpha": alpha, "skill": 0.8 * np.sqrt(alpha)})
    assert half_skill(table.sample(frac=1, random_state=0)) == pytest.approx(0.25)
    assert half_skill(pd.DataFrame({"alpha": [0.01, 1.0], "skill": [0.7, 0.8]})) == pytest.approx(0.01)  # or earlier


# --- tiles of known class


def store(path: Path, patients: dict[str, int], *, n: int = 15, seed: int = 0) -> Path:
    """A packed store of so many slides a patient, n tiles each."""
    names = [f"{patient}-01Z-00-DX{i}" for patient, slides in patients.items() for i in range(slides)]
    write_packed(path, [make_bag(name, gaussian(n, 9, seed=seed + i), None, {}) for i, name in enumerate(names)])
    return path


def test_stores_give_equal_classes_of_patients_that_never_meet(tmp_path):
    few = store(tmp_path / "LUNG.h5", {f"TCGA-05-{i:04d}": 2 for i in range(5)})
    many = store(tmp_path / "SKIN.h5", {f"TCGA-06-{i:04d}": 1 for i in range(9)}, seed=50)
    rare = store(tmp_path / "RARE.h5", {f"TCGA-07-{i:04d}": 1 for i in range(2)}, n=19, seed=90)
    names, train, test = leak_tiles.tiles_of_stores([few, many, rare], most=1000, seed=0)
    assert names == ["LUNG", "SKIN"]  # a patient of RARE has 19 tiles: one too few
    assert np.bincount(train.label).tolist() == [60, 60]  # 2 patients of 2 slides of 15 tiles; SKIN's 4 patients
    assert np.bincount(test.label).tolist() == [75, 75]
    assert not set(train.slide) & set(test.slide)
    assert {s[:7] for s in train.slide[train.label == 1]} == {"TCGA-06"}
    capped = leak_tiles.tiles_of_stores([few, many, rare], most=31, seed=0)
    assert np.bincount(capped.test.label).tolist() == [31, 31]


def test_a_single_slide_is_no_class(tmp_path):
    write_features(tmp_path / "one.h5", make_bag("one", gaussian(75, 9), None, {}), {})
    with pytest.raises(ValueError, match="holds one slide; expected a packed store or a folder"):
        leak_tiles.tiles_of_stores([tmp_path / "one.h5"], most=10, seed=0)
    one = store(tmp_path / "A.h5", {f"TCGA-05-{i:04d}": 3 for i in range(3)})
    with pytest.raises(ValueError, match="1 classes with 20 tiles on either side"):
        leak_tiles.tiles_of_stores([one], most=10, seed=0)


def test_truth_names_the_tiles_by_their_place():
    coords = np.stack([64 * np.arange(75), np.zeros(75)], axis=1).astype(int)
    x = np.arange(75.0)[:, None] * np.ones(9)
    bags = {name: make_bag(name, x, coords, {}) for name in ("a", "b")}
    rows = [(s, 64 * i, 0, "tissue", "fat" if i < 25 else "nerve") for s in bags for i in range(60)]
    truth = pd.DataFrame(rows, columns=["slide_id", "x_px0", "y_px0", "kind", "name"])
    names, train, test = leak_tiles.tiles_of_truth({"a": bags["a"]}, {"b": bags["b"]}, truth, most=99, seed=0)
    assert names == ["fat", "nerve"] and len(train.x) == len(test.x) == 50
    assert set(train.slide) == {"a"} and set(test.slide) == {"b"}
    assert set(train.x[train.label == 0, 0]) == set(range(25))
    assert train.x[train.label == 1, 0].min() >= 25 and train.x[:, 0].max() < 60  # unnamed tiles are in no class
    with pytest.raises(ValueError, match="no column name among"):
        leak_tiles.tiles_of_truth(bags, bags, truth.drop(columns="name"), most=9, seed=0)


# --- real features


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")
def test_real_tiles_at_alpha_003_are_recognised_far_more_often_than_their_participation_ratio_suggests():
    x = read_bag(SHARED / "mil" / "real_coords" / "TCGA-AD-6964-01Z-00-DX1.h5", "TCGA-AD-6964-01Z-00-DX1").x
    table = leak.identification_leak(x, alphas=[0.03], widths=[64], trials=777, seed=0).set_index("d")
    assert table.loc[512, "n_tiles"] == 777 and table.loc[512, "participation_ratio"] < 30
    assert 0.4 < table.loc[512, "share"] < table.loc[512, "expected"]
    assert table.loc[64, "share"] < 0.1 and table.loc[512, "expected_rank"] < 0.05
