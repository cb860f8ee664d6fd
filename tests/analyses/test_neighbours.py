"""Nearest tiles against sorting all cosines, axes against the definition."""

import numpy as np
import pytest

from slidesieve.analyses import neighbours
from slidesieve.features.bag import make_bag


@pytest.fixture
def bags():
    some = np.random.default_rng(0)
    made = {f"s{i}": (some.normal(size=(n, 5)) + 3, some.integers(0, 999, (n, 2))) for i, n in enumerate((7, 11, 3))}
    return {name: make_bag(name, *parts, {}) for name, parts in made.items()}


def unit(bags) -> np.ndarray:
    x = np.concatenate([bag.x for bag in bags.values()])
    x = x - x.mean(0)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_nearest_are_those_of_the_highest_cosine_itself_first(bags):
    table = neighbours.nearest(bags, "s1", [0, 9], most=4)
    every = unit(bags)
    names = [(name, i) for name, bag in bags.items() for i in range(len(bag.x))]
    for query in (0, 9):
        own = table[table["query"] == query]
        cosine = every @ every[7 + query]
        order = np.argsort(-cosine)[:5]
        assert list(zip(own["slide_id"], own["index"], strict=True)) == [names[i] for i in order]
        assert own["cosine"].to_numpy() == pytest.approx(cosine[order], abs=1e-5) and own["rank"].tolist() == [
            *range(5)
        ]
    place = table.iloc[3]
    assert (place["x_px0"], place["y_px0"]) == tuple(bags[place["slide_id"]].coords[place["index"]])


def test_fewer_tiles_than_asked_for_are_all_there_are(bags):
    assert len(neighbours.nearest({"s2": bags["s2"]}, "s2", [1], most=9)) == 3


def test_axes_are_those_of_most_variance_and_place_each_tile(bags):
    table = neighbours.principal_axes(bags["s1"], axes=3)
    x = bags["s1"].x - bags["s1"].x.mean(0)
    u, size, _ = np.linalg.svd(x, full_matrices=False)
    assert np.abs(table[["pc1", "pc2", "pc3"]].to_numpy()) == pytest.approx(np.abs(u * size)[:, :3], abs=1e-4)
    assert table[["x_px0", "y_px0"]].to_numpy().tolist() == bags["s1"].coords.tolist()
    narrow = make_bag("n", x[:, :2], bags["s1"].coords, {})
    assert (neighbours.principal_axes(narrow, axes=3)["pc3"] == 0).all()


def test_the_cosine_by_chance_is_that_of_all_pairs(bags):
    every = unit(bags) @ unit(bags).T
    all_pairs = every[~np.eye(len(every), dtype=bool)].mean()
    assert neighbours.chance_cosine(bags, pairs=40_000, seed=0) == pytest.approx(all_pairs, abs=0.01)
