"""Are kept tiles alike: against a double loop, as many random tiles, and what a map keeps of neighbourhoods."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.analyses import diversity, sentences, token_maps
from slidesieve.features.bag import make_bag
from slidesieve.provenance.files import ROOT

TEMPLATE = ROOT / "notebooks/70_map_selected_tokens.md.j2"
SLIDES = pd.DataFrame(
    {
        "slide_id": [f"s{i}" for i in range(12)],
        "kept": [0.3, 0.31, 0.35, 0.29, 0.33, 0.32, 0.3, 0.34, 0.31, 0.3, 0.02, np.nan],
        "random": [0.1] * 12,
        "random_low": [0.05] * 12,
        "random_high": [0.2] * 12,
    }
)


def test_mean_pairwise_cosine_is_the_mean_over_pairs():
    x = np.random.default_rng(0).standard_normal((7, 13))
    pairs = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i in range(7) for j in range(i)]
    assert diversity.mean_pairwise_cosine(x) == pytest.approx(np.mean(pairs))
    assert diversity.mean_pairwise_cosine(np.tile(x[:1], (5, 1))) == pytest.approx(1)
    assert diversity.mean_pairwise_cosine(np.array([[1.0, 0], [-2, 0]])) == pytest.approx(-1)
    assert np.isnan(diversity.mean_pairwise_cosine(x[:1]))


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


def test_a_map_that_is_the_features_keeps_every_neighbour_and_one_by_chance_few():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 90)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)  # near by cosine is near on the circle
    assert diversity.kept_neighbours(circle, 3 * circle, neighbours=7, seed=0) == 1
    shuffled = [diversity.kept_neighbours(circle, rng.permutation(circle), neighbours=7, seed=0) for _ in range(30)]
    assert np.mean(shuffled) == pytest.approx(7 / 89, abs=0.02)
    assert np.isnan(diversity.kept_neighbours(circle[:1], circle[:1], neighbours=0, seed=0))


def test_spreads_hold_the_random_range_around_one(monkeypatch):
    rng = np.random.default_rng(1)
    bags = {"a": make_bag("a", rng.standard_normal((60, 5)), None, {}), "b": make_bag("b", np.eye(3, 5), None, {})}
    monkeypatch.setattr(diversity, "as_compressed", lambda model, bag: bag.x)
    none = np.empty(0, int)
    maps = [
        token_maps.TokenMap("a", 7 * rng.standard_normal((60, 2)), np.arange(9), none),
        token_maps.TokenMap("b", np.eye(3, 2), np.arange(1), none),
    ]
    table = diversity.spreads(None, bags, maps, neighbours=11, draws=200, seed=0).set_index("slide_id")
    assert table.loc["a", "spread_low"] < 1 < table.loc["a", "spread_high"]
    assert table["near_chance"].tolist() == [11 / 59, 1.0] and table.loc["b", "near"] == 1
    assert table.loc["b", ["spread", "spread_low", "spread_high"]].isna().all()  # one tile has no spread
    shown = diversity.readable(table.reset_index())
    assert shown.columns.name == "slide" and shown.loc["a", "by chance (%)"] == "18.6"


def test_likeness_is_a_mean_over_slides_and_counts_what_is_outside_of_random():
    told = diversity.likeness(SLIDES, {s: s for s in SLIDES["slide_id"]}, draws=200, seed=0)
    assert told["more"] == pytest.approx(np.nanmean(SLIDES["kept"]) - 0.1) and told["low"] < told["more"] < told["high"]
    assert (told["n_slides"], told["above"], told["below"], told["few"]) == (11, 10, 1, False)
    assert sentences.fill(TEMPLATE, "alike", **told).startswith(
        "**Kept tiles are more alike than random ones.** Over 11"
    )


@pytest.mark.parametrize(
    ("some", "begins"),
    [(SLIDES.iloc[:9], "**Too few to tell.** Over 9 slides"), (SLIDES.iloc[-1:], "**Not shown.** No slide keeps two")],
)
def test_few_slides_have_no_verdict(some, begins):
    told = diversity.likeness(some, {s: s for s in SLIDES["slide_id"]}, draws=50, seed=0)
    assert sentences.fill(TEMPLATE, "alike", **told).startswith(begins)


def test_a_map_is_named_with_its_two_numbers():
    alike = pd.DataFrame({"slide_id": ["s1", "s2"], "kept": [0.314, 0.5], "random": [0.049, 0.5]})
    spread = pd.DataFrame({"slide_id": ["s1"], "spread": [0.6]})
    assert diversity.map_titles(alike, spread) == {"s1": "s1\ncosine 0.31 (random 0.05), spread ×0.60"}
