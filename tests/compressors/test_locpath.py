"""The merger and the resampler of the LoC-Path-style compressor, from their equations, with loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from slidesieve.compressors.locpath import LoCPath, Merged, Merger, place_code
from slidesieve.compressors.windows import grid_step
from slidesieve.features.bag import make_bag

D, STEP = 13, 224


def slide(n_columns: int = 9, n_rows: int = 7, *, keep: float = 0.7, seed: int = 0, origin: tuple[int, int] = (96, 33)):
    """A ragged slide of tiles on a grid: x (1 n d), coords (1 n 2) in level-0 px, mask."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(torch.arange(n_columns), torch.arange(n_rows))
    grid = grid[torch.rand(len(grid), generator=generator) < keep]
    coords = grid * STEP + torch.tensor(origin)
    x = torch.randn(len(grid), D, generator=generator, dtype=torch.float64)
    return x[None], coords[None], torch.ones(1, len(grid), dtype=torch.bool)


def merger(window: int = 2, merge_above: float = -1.0, *, trained: bool = False) -> Merger:
    torch.manual_seed(3)
    model = Merger(D, window, merge_above).double()
    if trained:
        torch.nn.init.normal_(model.out.weight, std=0.5)
    return model


def naive(model: Merger, x: torch.Tensor, coords: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """Merged token of each occupied window, tile by tile."""
    members: dict[tuple[int, int], list[int]] = {}
    for i, (left, top) in enumerate(coords.tolist()):
        members.setdefault((top // STEP // model.window, left // STEP // model.window), []).append(i)
    tokens = {}
    for cell, tiles in members.items():
        mean = sum(x[i] for i in tiles) / len(tiles)
        logits = [(model.query.weight @ mean) @ (model.key.weight @ x[i]) / math.sqrt(D) for i in tiles]
        total = sum(logit.exp() for logit in logits)
        pooled = sum(logit.exp() / total * (model.value.weight @ x[i]) for logit, i in zip(logits, tiles, strict=True))
        tokens[cell] = mean + model.out.weight @ pooled
    return tokens


@pytest.mark.parametrize("window", [1, 2, 4])
def test_merged_tokens_are_those_of_the_loops(window):
    x, coords, mask = slide()
    model = merger(window, trained=True)
    expected = naive(model, x[0], coords[0])
    merged = model(x, coords, mask)
    rows = [expected[cell] for cell in sorted(expected)]  # row by row
    assert merged.tokens.shape == (1, len(rows), D)
    assert (merged.tokens[0] - torch.stack(rows)).abs().max() < 1e-10


@pytest.mark.parametrize("window", [1, 2, 4])
def test_windows_hold_every_tile_once_and_there_are_at_most_as_many(window):  # I38
    x, coords, mask = slide()
    n = x.shape[1]
    merged = merger(window)(x, coords, mask)
    assert n / window**2 <= merged.mask.sum() <= n
    assert merged.sizes.sum() == n and merged.sizes.max() <= window**2
    assert torch.equal(merged.window[0].bincount(), merged.sizes[0])
    for token in range(merged.tokens.shape[1]):
        own = merged.window[0] == token
        assert (merged.places[0, token] - (coords[0, own] // STEP).double().mean(0)).abs().max() < 1e-5


def test_at_first_a_window_is_its_mean_and_equal_tiles_stay_what_they_are():  # I38
    x, coords, mask = slide()
    merged = merger()(x, coords, mask)
    for token in range(merged.tokens.shape[1]):
        own = merged.window[0] == token
        assert (merged.tokens[0, token] - x[0, own].mean(0)).abs().max() < 1e-12
    assert torch.equal(merged.tokens, merged.mean)
    same = torch.full_like(x, 0.37)
    assert (merger()(same, coords, mask).tokens - 0.37).abs().max() < 1e-12


def test_neither_tile_order_nor_batch_mates_change_a_merged_token():  # I38
    (x, coords, mask), other = slide(), slide(5, 3, seed=1)
    model, n = merger(trained=True), x.shape[1]
    straight = model(x, coords, mask)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(2))
    shuffled = model(x[:, order], coords[:, order], mask)
    assert (straight.tokens - shuffled.tokens).abs().max() < 1e-12
    padding = n - other[0].shape[1]
    both = [
        torch.cat([F.pad(b.double(), [0, 0, 0, padding], value=7.0), a.double()])
        for a, b in zip((x, coords), other[:2], strict=True)
    ]
    real = torch.arange(n)[None] < torch.tensor([n - padding, n])[:, None]
    company = model(both[0], both[1].long(), real)
    assert (company.tokens[1] - straight.tokens[0]).abs().max() < 1e-12
    assert company.mask[0].sum() == model(*other).mask.sum()
    assert (company.tokens[~company.mask] == 0).all()


def test_tiles_without_places_are_not_merged_though_they_follow_each_other():
    """Alone and beside a slide whose places are known; the line of a bag without any has steps of 1 px."""
    (x, coords, mask), model = slide(), merger(trained=True)
    bag = make_bag("s", x[0].numpy(), None, {})
    line = torch.from_numpy(bag.coords)[None]
    alone = model(x, line, mask)
    assert alone.sizes.tolist() == [[1] * x.shape[1]] and torch.equal(alone.mean[0], x[0])
    assert torch.equal(alone.tokens, merger(1, trained=True)(x, line, mask).tokens)
    both = model(x.repeat(2, 1, 1), torch.cat([coords, line]), mask.repeat(2, 1))
    assert (both.tokens[1] - alone.tokens[0]).abs().max() < 1e-12
    assert (both.tokens[0][both.mask[0]] - model(x, coords, mask).tokens[0]).abs().max() < 1e-12


def test_a_tile_unlike_its_window_stays_a_token_of_its_own():
    x = torch.ones(1, 4, D, dtype=torch.float64)
    x[0, 3] = -2
    coords = torch.tensor([[[0, 0], [STEP, 0], [0, STEP], [STEP, STEP]]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert merger()(x, coords, mask).sizes.tolist() == [[4]]
    merged = merger(merge_above=0.0)(x, coords, mask)
    assert merged.sizes.tolist() == [[3, 1]]
    assert torch.equal(merged.tokens[0], torch.stack([x[0, 0], x[0, 3]]))


def test_the_step_of_a_grid_is_its_commonest_gap():
    _, coords, _ = slide(keep=0.4)
    assert grid_step(coords[0]) == STEP
    shifted = torch.cat(
        [coords[0], coords[0] + torch.tensor([50 * STEP + 17, 31])]
    )  # a second contour, off the first grid
    assert grid_step(shifted) == STEP
    assert grid_step(torch.tensor([[5, 5]])) == 1
    assert grid_step(torch.tensor([[5, 5], [900, 70]])) == 1


@pytest.mark.parametrize("n", [(1, 1), (2, 1), (9, 7), (40, 30)])
def test_as_many_latents_whatever_the_slide(n):  # I39
    model = LoCPath(D, 4, latents=11, latent_width=24, resampler_heads=3, resampler_blocks=2).double().eval()
    assert model(*slide(*n, keep=1)).tokens.shape == (1, 11, 24)


def test_latents_do_not_depend_on_the_order_of_tokens_but_on_their_places():  # I39
    x, coords, mask = slide()
    model = LoCPath(D, 4, latents=11, latent_width=24, resampler_heads=3, resampler_blocks=2).double().eval()
    merged = model.merger(x, coords, mask)
    order = torch.randperm(merged.tokens.shape[1], generator=torch.Generator().manual_seed(2))
    mixed = Merged(*(part[:, order] for part in merged[:5]), merged.window)
    assert (model.resampler(mixed) - model.resampler(merged)).abs().max() < 1e-12
    moved = merged._replace(places=merged.places[:, order])
    assert (model.resampler(moved) - model.resampler(merged)).abs().max() > 1e-3


def test_two_copies_of_a_token_weigh_as_one_token_of_twice_the_size():
    """Proportional attention: log n_t on the logits is what n_t copies would do."""
    model = LoCPath(D, 4, latents=11, latent_width=24, resampler_heads=3, resampler_blocks=2).double().eval()
    merged = model.merger(*slide())
    twice = merged._replace(sizes=merged.sizes * 2)
    copied = Merged(*(torch.cat([part, part], dim=1) for part in merged[:5]), merged.window)
    assert (model.resampler(twice) - model.resampler(merged)).abs().max() < 1e-12  # a common factor is none
    first = merged._replace(sizes=merged.sizes + (torch.arange(merged.sizes.shape[1]) == 0) * merged.sizes)
    one_more = Merged(*(torch.cat([part, part[:, :1]], dim=1) for part in merged[:5]), merged.window)
    assert (model.resampler(first) - model.resampler(one_more)).abs().max() < 1e-10
    assert (model.resampler(copied) - model.resampler(merged)).abs().max() < 1e-10


def test_places_are_counted_from_the_slides_own_corner():
    x, coords, mask = slide()
    moved = coords + torch.tensor([5 * 2 * STEP, 11 * 2 * STEP])  # whole windows further
    assert torch.equal(merger()(x, moved, mask).places, merger()(x, coords, mask).places)
    both = [torch.cat([part, part]) for part in (x, coords, mask)]
    both[1] = torch.cat([coords, moved])
    places = merger()(*both).places
    assert torch.equal(places[0], places[1])


def test_a_place_is_told_by_sines_and_cosines():
    code = place_code(torch.tensor([[[2.5, 4.0]]]), 16)[0, 0]
    rates = [10 ** (-4 * i / 3) for i in range(4)]
    angles = [2.5 * r for r in rates] + [4.0 * r for r in rates]
    expected = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    assert (code - expected).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{"window": 0}, {"latents": 0}, {"latent_width": 20}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="locpath: got"):
        LoCPath(D, 4, **({"latents": 11, "latent_width": 24, "resampler_heads": 3} | options))
