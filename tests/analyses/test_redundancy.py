"""Redundancy of tiles: closed forms, naive loops, floors that hold, and the notebook with and without coordinates."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from run_here import run_here
from shared_data import SHARED
from sklearn.metrics.pairwise import cosine_similarity
from tiny_clip import write_clip

from slidesieve.analyses import neighbours, redundancy, sentences
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import open_features
from slidesieve.features.readers import read_bag
from slidesieve.features.standardised import Moments
from slidesieve.features.store import write_features, write_packed
from slidesieve.provenance.files import ROOT

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")
NOTEBOOK = ROOT / "notebooks/74_tile_redundancy.ipynb"
N, D, STEP = 75, 33, 448


def places_of(n: int, across: int) -> np.ndarray:
    """A filled grid of tiles, row by row, away from the corner of the slide."""
    return np.array([(3 + i % across, 5 + i // across) for i in range(n)])


def slide(slide_id: str, n: int, *, seed: int, rank: int = D, placed: bool = True) -> object:
    """A slide of n tiles whose features lie in `rank` dimensions, about a mean far from zero."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, D)) + 4
    return make_bag(slide_id, x.astype(np.float32), STEP * places_of(n, 9) if placed else None, {})


def test_the_entropy_rank_is_r_of_r_like_axes_and_one_of_a_line():
    assert redundancy.entropy_rank(np.full(7, 1 / 7)) == pytest.approx(7)
    assert redundancy.entropy_rank(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert redundancy.entropy_rank(np.array([0.5, 0.25, 0.25])) == pytest.approx(math.exp(1.5 * math.log(2)))


def test_the_participation_ratio_counts_weak_axes_less_than_the_entropy_rank():
    assert redundancy.participation_ratio(np.full(7, 1 / 7)) == pytest.approx(7)
    assert redundancy.participation_ratio(np.array([1.0, 0, 0])) == pytest.approx(1)
    share = np.array([0.5, 0.25, 0.25])
    assert redundancy.participation_ratio(share) == pytest.approx(8 / 3)
    assert redundancy.entropy_rank(share) > 8 / 3
    x = slide("a", N, seed=3, rank=5).x.astype(np.float64)
    covariance = np.cov(x.T)
    table, _ = redundancy.spectra({"a": slide("a", N, seed=3, rank=5)}, ["a"], seed=0)
    expected = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert table["participation_ratio"].item() == pytest.approx(expected, rel=1e-4)
    assert table["participation_ratio"].item() < table["entropy_rank"].item()


def test_axes_are_counted_up_to_the_share_they_hold():
    share = np.array([0.5, 0.3, 0.1, 0.1])
    assert [redundancy.axes_holding(share, held) for held in (0.5, 0.51, 0.8, 0.9, 1.0)] == [1, 2, 2, 3, 4]


def test_spectra_find_the_planted_rank_and_the_floor_does_not():
    bags = {"a": slide("a", N, seed=0, rank=3), "b": slide("b", 20, seed=1, rank=D)}
    table, curves = redundancy.spectra(bags, ["a", "b"], seed=0)
    table = table.set_index("slide_id")
    assert table["bound"].to_dict() == {"a": D, "b": 19}
    assert table.loc["a", "entropy_rank"] <= 3 < 15 < table.loc["a", "entropy_rank_permuted"] < D
    assert table.loc["a", "axes_90"] <= 3 and table.loc["b", "entropy_rank"] < 19
    of_a = curves[curves["slide_id"] == "a"].set_index("rank")
    singular = np.linalg.svd(bags["a"].x - bags["a"].x.mean(0), compute_uv=False) ** 2
    assert np.allclose(of_a["explained"], (singular.cumsum() / singular.sum())[of_a.index - 1], atol=1e-5)
    assert (of_a.loc[3:, "explained"] > 0.9999).all() and of_a.index[[0, -1]].tolist() == [1, D]


def test_a_spectrum_is_of_directions_alone():
    bag = slide("a", N, seed=0, rank=5)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((D, D)))[0]
    turned = bag._replace(x=(3 * bag.x @ turn + 7).astype(np.float32))
    one, other = (redundancy.spectra({"a": b}, ["a"], seed=0)[0]["entropy_rank"].item() for b in (bag, turned))
    assert one == pytest.approx(other, rel=1e-3)


def test_permuted_columns_keep_their_values_and_lose_their_correlation():
    x = np.repeat(np.random.default_rng(0).standard_normal((501, 1)), 4, axis=1)
    floor = redundancy.permuted_columns(x, seed=3)
    assert np.array_equal(np.sort(floor, axis=0), np.sort(x, axis=0))
    assert np.abs(np.corrcoef(floor.T) - np.eye(4)).max() < 0.15


def test_pairs_apart_are_those_of_a_loop_over_all_tiles():
    rng = np.random.default_rng(0)
    places = np.array(list(itertools.product(range(7), range(5))))[rng.permutation(35)[:23]]
    for distance in (1, 2, 4):
        loop = {
            frozenset((i, j))
            for i, j in itertools.combinations(range(23), 2)
            if sorted(abs(places[i] - places[j])) == [0, distance]
        }
        found = neighbours.pairs_apart(places, distance)
        assert {frozenset(pair) for pair in found.tolist()} == loop and len(found) == len(loop)


def test_random_pairs_are_of_different_tiles_and_any():
    found = neighbours.random_pairs(3, 2000, np.random.default_rng(0))
    assert (found[:, 0] != found[:, 1]).all()
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 250


def test_neighbours_are_as_alike_as_a_loop_says():
    bag = slide("a", N, seed=0)
    mean, _ = Moments.of([bag.x])
    told = neighbours.neighbours({"a": bag}, ["a"], mean=mean, distances=[1, 3, 50], pairs=10**5, seed=0)
    assert told["distance"].tolist() == [1, 3]  # no two tiles are 50 steps apart
    places = places_of(N, 9)
    for row in told.itertuples():
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(N), 2)
            if sorted(abs(places[i] - places[j])) == [0, row.distance]
        ]
        assert row.pairs == len(pairs)
        for name, x in (("cosine", bag.x), ("centred", bag.x - mean)):
            cosine = cosine_similarity(x)
            assert getattr(row, name) == pytest.approx(np.mean([cosine[pair] for pair in pairs]), abs=1e-5)
            alone = cosine[~np.eye(N, dtype=bool)].mean()
            assert getattr(row, f"random{'_centred' * (name == 'centred')}") == pytest.approx(alone, abs=0.01)


def test_a_slide_that_changes_slowly_has_neighbours_more_alike_than_chance():
    places = places_of(200, 20)
    wave = np.sin(places[:, :1] / 4 + np.arange(D)) + np.random.default_rng(0).normal(0, 0.1, (200, D))
    bag = make_bag("a", wave.astype(np.float32) + 9, STEP * places, {})
    told = neighbours.neighbours({"a": bag}, ["a"], mean=bag.x.mean(0), distances=[1, 8], pairs=5000, seed=0)
    near, far = told.itertuples()
    assert near.centred > 0.85 > 0.5 > abs(near.random_centred) and near.centred > far.centred
    assert near.cosine > near.random > 0.98  # features of one sign are all alike before they are centred


@pytest.mark.shared
@needs_shared
def test_neighbours_on_a_real_slide_are_more_alike_than_chance_and_less_than_its_clusters():
    bag = read_bag(SHARED / "mil/real_coords/TCGA-AD-6964-01Z-00-DX1.h5", "s")
    told = neighbours.neighbours({"s": bag}, ["s"], mean=bag.x.mean(0), distances=[1, 2, 4, 8], pairs=5000, seed=0)
    assert (told["random"] > 0.95).all() and told["centred"].is_monotonic_decreasing
    assert told["centred"][0] > 0.5 and told["random_centred"].abs().max() < 0.05
    rows = redundancy.reconstructions({"s": bag}, ["s"], centroids=[], sides=[4], seed=0)
    chance, windows, clusters = rows.set_index("method").loc[["random_groups", "window_mean", "k_means"], "r2"]
    assert chance + 0.2 < windows < clusters - 0.2


def test_slides_without_coordinates_have_no_neighbours_and_no_windows():
    bag = slide("a", 20, seed=0, placed=False)
    assert neighbours.neighbours({"a": bag}, ["a"], mean=bag.x.mean(0), distances=[1], pairs=9, seed=0).empty
    assert set(redundancy.reconstructions({"a": bag}, ["a"], centroids=[2], sides=[2], seed=0)["side"]) == {0}


def test_reconstructions_keep_planted_clusters_and_fall_to_the_floor_without():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((4, D))
    x = centres[np.arange(N) % 4] + rng.standard_normal((N, D))
    bag = make_bag("a", x.astype(np.float32), STEP * places_of(N, 9), {})
    rows = redundancy.reconstructions({"a": bag}, ["a"], centroids=[1, 4, 16, N, 2 * N], sides=[2, 3], seed=0)
    told = rows.set_index(["method", "side", "m"])["r2"]
    assert sorted(rows.loc[rows["side"] == 0, "m"].unique()) == [1, 4, 16]  # m < n only
    assert told["k_means", 0, 1] == pytest.approx(0, abs=1e-6)
    within = sum(((x[i::4] - x[i::4].mean(0)) ** 2).sum() for i in range(4)) / ((x - x.mean(0)) ** 2).sum()
    assert told["k_means", 0, 4] == pytest.approx(1 - within, abs=1e-5)
    assert told["k_means_permuted", 0, 4] < 0.3 < 0.95 < told["k_means", 0, 4]
    assert (told["k_means"][0] >= told["random_tiles"][0] - 1e-6).all()
    occupied = {
        2: 5 * 5,
        3: 3 * 4,
    }  # columns 3 to 11 and rows 5 to 13, in windows that begin at the whole slide's corner
    for side, m in occupied.items():
        assert told["random_groups", side, m] == pytest.approx((m - 1) / (N - 1))
        assert told["window_mean", side, m] < told["k_means", side, m]  # neighbours are of different clusters here


def test_the_nearest_of_some_vectors_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    x, centres = rng.standard_normal((19, 5)), rng.standard_normal((3, 5))
    loss = sum(min(((tile - centre) ** 2).sum() for centre in centres) for tile in x)
    assert redundancy.nearest_r2(x, centres) == pytest.approx(1 - loss / ((x - x.mean(0)) ** 2).sum())


def test_windows_are_those_of_a_loop():
    places = np.random.default_rng(1).permutation(list(itertools.product(range(3, 11), range(5, 12))))[:41]
    x = np.random.default_rng(0).standard_normal((41, 5))
    for side in (1, 2, 3):
        groups = {}
        for tile, place in zip(x, places // side, strict=True):
            groups.setdefault(tuple(place), []).append(tile)
        within = sum(((np.array(g) - np.mean(g, axis=0)) ** 2).sum() for g in groups.values())
        m, r2 = redundancy.window_r2(x, places, side)
        assert m == len(groups) and r2 == pytest.approx(1 - within / ((x - x.mean(0)) ** 2).sum())


def test_random_groups_explain_one_less_than_their_number_over_one_less_than_n_on_average():
    rng = np.random.default_rng(0)
    x, places, found = rng.standard_normal((31, 5)) ** 3, places_of(31, 7), []
    for _ in range(400):
        m, r2 = redundancy.window_r2(x[rng.permutation(31)], places, 2)
        found.append(r2)
    assert np.mean(found) == pytest.approx((m - 1) / 30, abs=0.01)


def test_medians_leave_out_what_is_not_known_and_cover_the_middle():
    values = np.arange(101.0)
    told = redundancy.medians({"a": [*values, np.nan], "b": [3.0], "c": []}, draws=500, seed=0).set_index("quantity")
    assert told["slides"].to_dict() == {"a": 101, "b": 1, "c": 0}
    assert told.loc["a", "value"] == 50 and 35 < told.loc["a", "low"] < 45 < 55 < told.loc["a", "high"] < 65
    assert (
        told.loc["b", "value"] == 3 and told.loc["b", ["low", "high"]].isna().all() and np.isnan(told.loc["c", "value"])
    )


def test_a_verdict_is_told_with_its_interval_or_as_not_shown():
    verdict = redundancy.medians({"a": np.arange(101.0), "b": [3.0], "c": []}, draws=500, seed=0)
    shown = redundancy.readable(verdict)["median"]
    assert shown["a"].startswith("50 (4") and shown[["b", "c"]].tolist() == ["3", "not shown"]


def test_tiles_that_are_all_alike_are_refused():
    bag = make_bag("flat", np.ones((40, D), np.float32), None, {})
    with pytest.raises(ValueError, match="flat: its 40 tiles are all alike; expected features that vary"):
        redundancy.spectra({"flat": bag}, ["flat"], seed=0)


def test_a_folder_of_feature_files_is_read_and_an_empty_one_told(tmp_path):
    with pytest.raises(ValueError, match=r"no feature file in this folder; expected <slide_id>\.h5"):
        open_features(tmp_path)
    for name, n in (("b", 11), ("a", 7)):
        write_features(tmp_path / f"{name}.h5", slide(name, n, seed=n), {})
    bags = open_features(tmp_path)
    assert list(bags) == ["a", "b"] and bags.n_tiles("b") == 11 and bags["a"].attrs["has_coords"]
    assert np.array_equal(bags["a"].coords, slide("a", 7, seed=7).coords)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of 40 patients' slides, half with one tile of 25 that tells them, half with coordinates.

    One more slide is short, one has no label.
    """
    folder, rng, rows = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0), []
    (folder / "bags").mkdir()
    for i in range(42):
        x = rng.standard_normal((8 if i == 40 else 25, D)).astype(np.float32)
        x[3, :9] += 15 * (i % 2)
        coords = STEP * places_of(len(x), 9) if i < 20 else None
        write_features(folder / f"bags/s{i:02}.h5", make_bag(f"s{i:02}", x, coords, {}), {})
        rows += [(f"c{i}", f"s{i:02}.svs", f"class {i % 2}")] * (i < 41)
    pd.DataFrame(rows, columns=["case_id", "slide_id", "kind"]).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.slow
def test_the_notebook_shows_everything_of_slides_with_coordinates_labels_and_a_text(labelled, tmp_path):
    write_clip(tmp_path / "clip", d=D)
    given = {"features": str(labelled / "bags"), "labels": str(labelled / "labels.csv"), "label_column": "kind"}
    given |= {"fewest_tiles": 20, "most_slides": 6, "folds": [0], "n_folds": 4, "epochs": 15, "lr": 6e-3, "draws": 100}
    given |= {"text_encoder": str(tmp_path / "clip"), "prompts": ["tumour", "lung"], "centroids": [2, 8, 64]}
    result = run_here(NOTEBOOK, tmp_path / "74", given)
    assert result.status == "ran", result.error
    table = pd.read_csv(tmp_path / "74/redundancy.csv").set_index("slide_id")
    assert table.index.tolist() == ["s00", "s08", "s16", "s24", "s32", "s41"]  # six, evenly, s40 left out
    assert table["has_coords"].tolist() == table["cosine"].notna().tolist() == [True] * 3 + [False] * 3
    shares = pd.read_csv(tmp_path / "74/relevance.csv").set_index("source")
    assert shares.index.value_counts()[["tumour", "lung", "random directions"]].tolist() == [6, 6, 12]
    trained, before = shares.loc["attention, trained"], shares.loc["attention, untrained"]
    assert len(trained) == len(before) >= 10 and (trained["auroc"] > 0.95).all()
    top, random, rest = (trained[f"auroc_{part}"].iloc[0] for part in ("top", "random", "rest"))
    assert top > 0.8 and max(random, rest) < top - 0.15  # what tells is in one tile
    positive = trained["slide_id"].str[1:].astype(int) % 2 == 1
    assert trained.loc[positive, "share_50"].median() < 0.25 < before["share_50"].median()
    medians = pd.read_csv(tmp_path / "74/medians.csv").set_index("quantity")["slides"]
    assert medians["R2 of 2 x 2 windows"] == 3 and medians["R2 of k-means, M = 8"] == 6
    page = result.printed
    assert "42 slides, 1 of them below 20 tiles and left out; 6 taken" in page
    assert "3 slides have no coordinates: neighbours and windows cannot be shown for them" in page


def test_the_notebook_says_what_a_bare_store_cannot_show(tmp_path):
    write_packed(tmp_path / "store.h5", [slide(name, 35, seed=i, placed=False) for i, name in enumerate("abc")])
    given = {"features": str(tmp_path / "store.h5"), "centroids": [1, 4], "draws": 100}
    result = run_here(NOTEBOOK, tmp_path / "74", given)
    assert result.status == "ran", result.error
    assert pd.read_csv(tmp_path / "74/relevance.csv").empty and pd.read_csv(tmp_path / "74/neighbours.csv").empty
    assert "3 slides have no coordinates: neighbours and windows cannot be shown for them" in result.printed
    assert not (tmp_path / "74/relevance.png").exists()


TEMPLATE = NOTEBOOK.with_suffix(".md.j2")


def medians(**values):
    """Medians of so many slides, each value with an interval of a hundredth about it."""
    rows = [(name, n, value, value - 0.01, value + 0.01) for name, (n, value) in values.items()]
    return pd.DataFrame(rows, columns=["quantity", "slides", "value", "low", "high"])


def spectra_of(n, over):
    named = {"rank the slide allows": 96.0, "entropy rank": 48.6, "participation ratio": 35.2}
    named |= {"axes that hold 90 %": 44.0, "axes that hold 90 %, columns permuted": 55.0}
    named |= {f"{index} over that with columns permuted": over for index in ("entropy rank", "participation ratio")}
    return medians(**{name: (n, value) for name, value in named.items()})


@pytest.mark.parametrize(
    ("told", "begins"),
    [
        (spectra_of(40, 0.75), "**The tiles are redundant over the whole slide.** Of 96 axes"),
        (spectra_of(40, 0.995), "**No redundancy over the whole slide is seen beyond the floor.**"),
        (spectra_of(3, 0.75), "**Too few to tell:** 3 slides"),
    ],
)
def test_redundancy_is_said_where_both_indices_are_below_their_floor(told, begins):
    said = sentences.fill(TEMPLATE, "whole", told=told)
    assert said.startswith(begins) and "entropy rank" in said and "35.2" in said


def test_neighbours_and_clusters_and_sources_are_said_or_why_they_are_not():
    none = medians(**{"neighbours minus random, centred": (0, np.nan)})
    assert sentences.fill(TEMPLATE, "near", told=none).startswith("**Not shown.** No slide has coordinates")
    few = {"R2 of k-means, M = 8": (40, 0.5), "R2 of k-means minus columns permuted, M = 8": (40, 0.2)}
    said = sentences.fill(TEMPLATE, "few", told=medians(**few))
    assert said.startswith("**The tiles form clusters.** The gap is widest at M = 8: there k-means keeps 50.0")
    assert "+20.0 points (+19.0 to +21.0)" in said and "no windows could be merged" in said
    assert sentences.fill(TEMPLATE, "few", told=medians()).startswith("**Not shown.**")
    assert sentences.fill(TEMPLATE, "sources", labels="", text_encoder="").startswith("**Not shown.** No labels")
    assert "no text encoder" in sentences.fill(TEMPLATE, "sources", labels="x.csv", text_encoder="")


@pytest.mark.parametrize(
    ("n", "auroc", "trained", "begins"),
    [
        (40, 0.93, 0.12, "**Attention is sparse.**"),
        (40, 0.93, 0.47, "**Attention is no sparser than before training.**"),
        (40, 0.52, 0.12, "**Attention says nothing here:**"),
        (9, 0.93, 0.12, "**Too few to tell:** 9 slides"),
    ],
)
def test_attention_is_sparse_only_beside_its_untrained_floor(n, auroc, trained, begins):
    half = {"trained": trained, "untrained": 0.47}
    told = medians(**{f"tiles that hold 50%, attention, {name}": (n, value) for name, value in half.items()})
    table = pd.DataFrame({"source": ["attention, trained"], "auroc": [auroc]})
    assert sentences.fill(TEMPLATE, "sparse", told=told, table=table).startswith(begins)
