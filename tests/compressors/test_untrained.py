"""Rivals without training, each against a reference written from its definition with loops over dense matrices."""

import itertools
import math

import numpy as np
import pytest
import torch

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.untrained.alone import Directions, drawn, medoids
from slidesieve.compressors.untrained.coverage import TEMPERATURE, facilities
from slidesieve.compressors.untrained.dpp import greedy_map
from slidesieve.compressors.untrained.fps import farthest_points, most_apart
from slidesieve.compressors.untrained.grid import Grid, cells
from slidesieve.compressors.untrained.kmeans import KMeans, clusters
from slidesieve.compressors.untrained.outlier import Outliers
from slidesieve.compressors.untrained.remembered import Remembered
from slidesieve.compressors.untrained.tome import merged
from slidesieve.compressors.untrained.visionzip import VisionZip, salience

N, D = 53, 11


def tiles(n: int = N, d: int = D, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def bag(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    coords = torch.stack([torch.arange(len(x)) % 8, torch.arange(len(x)) // 8], -1) * 256
    return x[None], coords[None], torch.ones(1, len(x), dtype=torch.bool)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 9, N - 1])
def test_farthest_points_are_those_of_a_search_over_all_pairs(seed, k):
    u = unit(tiles(seed=seed)).numpy()
    taken = [min(range(N), key=lambda i: u[i] @ u.mean(0))]
    while len(taken) < k:
        free = [i for i in range(N) if i not in taken]
        taken.append(max(free, key=lambda i: min(1 - u[i] @ u[j] for j in taken)))
    assert farthest_points(Directions(tiles(seed=seed)), k).tolist() == taken


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 7, N - 1])
def test_outliers_are_the_tiles_farthest_from_the_mean(seed, k):
    x = tiles(seed=seed)
    far = {i: math.dist(x[i].tolist(), x.mean(0).tolist()) for i in range(N)}
    farthest = sorted(far, key=lambda i: -far[i])[:k]
    assert Outliers(D, k)(*bag(x)).kept[0].tolist() == sorted(farthest)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 7])
def test_greedy_map_takes_the_largest_determinant_at_each_step(seed, k):
    u = Directions(tiles(seed=seed))
    likeness, taken = (u[:] @ u[:].T).numpy(), [most_apart(u)]
    while len(taken) < k:
        free = [i for i in range(N) if i not in taken]
        taken.append(max(free, key=lambda i: np.linalg.det(likeness[np.ix_([*taken, i], [*taken, i])])))
    assert greedy_map(u, k).tolist() == taken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(9))
def test_where_the_rank_is_spent_farthest_points_follow(seed, dtype):
    u = Directions((tiles(d=3, seed=seed) @ tiles(n=3, seed=20)).to(dtype))  # 11 numbers a tile, of which 3 are free
    taken = greedy_map(u, 9)
    assert len(set(taken.tolist())) == 9
    assert taken.tolist() == farthest_points(u, 9, taken[:3]).tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("landmarks", [N, 20])
def test_lazy_greedy_covers_as_plain_greedy_does_and_near_the_best_there_is(seed, landmarks):
    x = tiles(seed=seed)
    u, some = unit(x), drawn(x, landmarks, seed)
    assert len(some) == landmarks == len(set(some.tolist()))
    q = ((u[some] @ u.T) / TEMPERATURE).softmax(-1).numpy()
    worth = lambda chosen: q[:, list(chosen)].max(1).sum()  # noqa: E731
    taken = []
    while len(taken) < 6:
        taken.append(max((i for i in range(N) if i not in taken), key=lambda i: worth([*taken, i])))
    assert facilities(Directions(x), 6, some).tolist() == taken
    best = max(worth(pair) for pair in itertools.combinations(range(N), 2))
    assert worth(taken[:2]) >= (1 - 1 / math.e) * best


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_lloyds(seed):
    x, k = tiles(seed=seed), 6
    u = unit(x)
    centres = u[farthest_points(Directions(x), k)].numpy()
    for step in range(11):
        of = np.array([min(range(k), key=lambda c: ((x - centres[c]) ** 2).sum()) for x in u.numpy()])
        assert set(of) == set(range(k))
        if step < 10:
            centres = np.stack([u.numpy()[of == c].mean(0) for c in range(k)])
    assert clusters(Directions(x), k).tolist() == of.tolist()


def test_each_cluster_keeps_a_tile_even_if_all_are_alike():
    x = torch.ones(N, D, dtype=torch.float64)
    x[:2, 0] = torch.tensor([2.0, -3.0])
    assert sorted(set(clusters(Directions(x), 7).tolist())) == list(range(7))
    out = KMeans(D, 7)(*bag(x))
    assert out.mask.all() and (out.weights.to_dense().sum(1) > 0).all()


def test_a_mean_stands_where_the_tile_nearest_to_it_lies():
    x = tiles()
    of = clusters(Directions(x), 5)
    for group, tile in enumerate(medoids(x, of).tolist()):
        own = (of == group).nonzero().squeeze(-1)
        far = (x[own] - x[own].mean(0)).norm(dim=-1)
        assert tile == int(own[far.argmin()])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [40, 7, 1])
def test_token_merging_is_that_of_plain_lists(seed, k):
    x = tiles(seed=seed).numpy()
    groups = [[i] for i in range(N)]
    while len(groups) > k:
        u = [x[g].mean(0) / np.linalg.norm(x[g].mean(0)) for g in groups]
        pairs = []
        for a in range(0, len(groups), 2):
            b = max(range(1, len(groups), 2), key=lambda b: u[a] @ u[b])
            pairs.append((-(u[a] @ u[b]), a, b))
        gone = set()
        for _, a, b in sorted(pairs)[: min(len(groups) - k, len(groups) // 2)]:
            groups[b] = groups[b] + groups[a]
            gone.add(a)
        groups = [g for i, g in enumerate(groups) if i not in gone]
    of = merged(torch.from_numpy(x), k).tolist()
    assert [sorted(g) for g in groups] == [[i for i in range(N) if of[i] == token] for token in range(k)]


@pytest.mark.parametrize("joined", ["published", "mean"])
@pytest.mark.parametrize("k", [1, 7, 32])
def test_visionzip_keeps_the_salient_and_gathers_the_rest(joined, k):
    x = tiles(n=N, seed=4)
    attention = np.exp(x.numpy() @ x.numpy().T / D**0.5)
    a = (attention / attention.sum(1, keepdims=True)).mean(0)
    assert np.abs(salience(x, torch.arange(N)).numpy() - a).max() < 1e-12
    stay = sorted(range(N), key=lambda i: -a[i])[: round(54 / 64 * k)]
    left = [i for i in range(N) if i not in stay]
    target = left[:: len(left) // (k - len(stay))][: k - len(stay)] if k > len(stay) else []
    u, tokens = unit(x).numpy(), {i: x[i].numpy() for i in stay}
    joins = {t: [] for t in target}
    for i in [i for i in left if i not in target] if target else []:
        joins[max(target, key=lambda t: u[i] @ u[t])].append(i)
    for t, others in joins.items():
        if joined == "mean":
            tokens[t] = x[[t, *others]].mean(0).numpy()
        else:
            tokens[t] = x[t].numpy() + (x[others].mean(0).numpy() if others else 0)
    out = VisionZip(D, k, joined=joined)(*bag(x))
    found = sorted(map(tuple, out.tokens[0].numpy().round(9)))
    assert np.abs(np.array(found) - np.array(sorted(map(tuple, np.stack([*tokens.values()]).round(9))))).max() < 1e-8


def test_a_grid_is_the_finest_with_at_most_k_cells_that_hold_tiles():
    rng = np.random.default_rng(0)
    coords = rng.integers(0, 40, (300, 2)) * 256
    coords = coords[(coords[:, 0] < 3000) | (coords[:, 1] > 8000)]  # tissue with a hole
    for k in (1, 5, 32):
        of = cells(torch.from_numpy(coords), k).numpy()
        low, extent = coords.min(0), np.ptp(coords, axis=0) + 1
        count = {}
        for g in range(1, 8 * max(1, round(k**0.5)) + 1):
            places = [tuple((xy - low) * g // extent) for xy in coords]
            count[g] = len(set(places))
            if count[g] <= k:
                finest = places
        groups = {tuple(np.flatnonzero(of == c)) for c in range(of.max() + 1)}
        assert groups == {tuple(i for i, p in enumerate(finest) if p == place) for place in set(finest)}


def test_tiles_without_places_are_averaged_in_segments_of_the_bag():
    x = tiles(n=60)
    line = torch.stack([torch.arange(60), torch.zeros(60, dtype=torch.long)], -1)[None]
    out = Grid(D, 6)(x[None], line, torch.ones(1, 60, dtype=torch.bool))
    assert torch.allclose(out.tokens[0], x.view(6, 10, D).mean(1))


def test_a_draw_by_hash_is_the_same_set_whatever_the_order_and_another_for_another_seed():
    x = tiles(n=500)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    here, there = drawn(x, 40, 3), drawn(x[order], 40, 3)
    assert sorted(order[there].tolist()) == here.tolist() != drawn(x, 40, 4).tolist()


@pytest.mark.parametrize("name", ["fps", "kmeans", "grid"])
def test_a_slide_is_looked_through_once(name, monkeypatch):
    made = COMPRESSORS[name](D, 7).double()
    x, coords, mask = bag(tiles())
    first = made(x, coords, mask)
    work = "choose" if name == "fps" else "group"
    monkeypatch.setattr(made, work, lambda *_: pytest.fail("looked through again"))
    longer = torch.nn.functional.pad(x, (0, 0, 0, 3)), torch.nn.functional.pad(coords, (0, 0, 0, 3))
    again = made(*longer, torch.nn.functional.pad(mask, (0, 3)))
    assert torch.equal(again.tokens, first.tokens) and torch.equal(again.places, first.places)
    x[0, 5, 2] += 1e-9
    with pytest.raises(pytest.fail.Exception, match="looked through again"):
        made(x, coords, mask)


def test_what_is_remembered_is_bounded_and_the_longest_unused_goes_first():
    once, calls = Remembered(most_bytes=3 * 8 * 10), []

    def find(i):
        calls.append(i)
        return (torch.full((10,), i),)

    for i in (0, 1, 2, 0, 3, 0, 1):  # 3 puts 1 out, then 1 puts 2 out
        assert once([torch.tensor([float(i)])], lambda i=i: find(i))[0].tolist() == [i] * 10
    assert calls == [0, 1, 2, 3, 1] and once.held == 240
    assert once([torch.tensor([[3.0]])], lambda: find(9))[0][0] == 9  # another shape is another key


@pytest.mark.parametrize("name", ["fps", "kmeans"])
def test_a_slide_without_a_real_tile_gives_no_token(name):
    x, coords, _ = bag(tiles())
    out = COMPRESSORS[name](D, 7).double()(x, coords, torch.zeros(1, N, dtype=torch.bool))
    assert not out.mask.any() and not out.tokens.any()
