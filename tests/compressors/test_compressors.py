"""One contract over all compressors: shapes, budget, seeds, gradients, padding, batch-mates, tile order, evaluation."""

import pytest
import torch
from torch import nn

from slidesieve.compressors.registry import BESIDE, COMPRESSORS, FLOORS, TRAINING_FREE, WITHOUT_K
from slidesieve.compressors.result import Compressed
from slidesieve.models.fusion import fusion_of

N, D, K = 75, 33, 7
SHORT = 41
LATENTS, WIDTH = 9, 16
LOCPATH = {"latents": LATENTS, "latent_width": WIDTH, "resampler_heads": 2, "resampler_blocks": 1}
OPTIONS = {"sparselearn": {"scorer_heads": 3}, "sieve": {"scorer_heads": 3}, "locpath": LOCPATH}
OPTIONS |= {"cropr": {"query_heads": 3}}
ALL = sorted(COMPRESSORS)
MIXES = [name for name in ALL if COMPRESSORS[name].kind in ("pools", "resamples") or name == "blank"]
MERGES = [name for name in ALL if COMPRESSORS[name].kind == "merges"]  # sums of tiles, each at the place of one
POOL = ("attention_topk", "cropr")  # read pooled tokens in training: tests/compressors/test_attention.py
SIEVE = "sieve"  # keeps tiles and hands on means of the rest: tests/compressors/test_sieve.py
KEEPS_TILES = [
    name for name in ALL if name not in (*MIXES, *MERGES, SIEVE)
]  # each token is one tile, untouched in evaluation
ORDERED = ("linspace", "tome", "visionzip_nocls")  # what they do follows the order of the bag

# Worked out by hand. A transformer block of width w has 12 w^2 + 13 w parameters: two layer norms (4 w), q, k, v
# (3 w^2 + 3 w), their output (w^2 + w) and a feed-forward of 4 w (8 w^2 + 5 w). SparseLearn is three of them (two
# score, one denoises), a layer norm (2 d) and a head (d + 1). The mean goes through k maps of d^2 + d. TC-SSA has a
# gate (d k + k) and for each of k slots two maps through 512 (2 * 512 d + 512 + d) and a layer norm (2 d). LoC-Path's
# merger has four d^2 maps; its resampler of width w and M latents a lift (d w + w), M w, blocks of a cross-attention, a
# self-attention and a feed-forward (16 w^2 + 13 w, and four layer norms of 2 w), and a last layer norm (2 w). Attention
# has two maps to 128 and one to 1. Each of Cropr's four queries has a vector, three d^2 maps, one of them with a bias,
# a layer norm (2 d) and a feed-forward of 4 d (8 d^2 + 5 d).
LOCPATH_AT_512 = 4 * 512**2 + 512**2 + 512 + 128 * 512 + 4 * (16 * 512**2 + 21 * 512) + 2 * 512
PARAMETERS = {  # at d = 33, k = 7 and at d = 512, k = 32
    "all": (0, 0),
    "linspace": (0, 0),
    **dict.fromkeys(TRAINING_FREE, (0, 0)),
    "locpath": (4 * D**2 + D * 16 + 16 + 9 * 16 + 16 * 16**2 + 21 * 16 + 2 * 16, LOCPATH_AT_512),
    "mean": (7_854, 8_404_992),
    "random": (0, 0),
    "sparselearn": (40_591, 9_458_689),
    "sieve": (40_591, 9_458_689),
    "attention_topk": (2 * (D * 128 + 128) + 128, 2 * (512 * 128 + 128) + 128),
    "cropr": (4 * (11 * D**2 + 9 * D), 4 * (11 * 512**2 + 9 * 512)),
    "tcssa": (241_059, 16_859_168),
    "text_only": (0, 0),
    "blank": (K * D, 32 * 512),
}


def make(name: str, *, k: int = K, seed: int = 3, training: bool = False) -> nn.Module:
    return COMPRESSORS[name](D, k, seed=seed, **OPTIONS.get(name, {})).double().train(training)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slides(*lengths: int, seed: int = 0, junk: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded x, coords and mask of slides of these lengths; slide i is the same whatever its batch-mates."""
    n = max(lengths)
    x = torch.full((len(lengths), n, D), junk, dtype=torch.float64)
    coords = torch.full((len(lengths), n, 2), int(junk))
    mask = torch.arange(n)[None] < torch.tensor(lengths)[:, None]
    for i, length in enumerate(lengths):
        x[i, :length] = torch.randn(length, D, generator=generator(seed + length), dtype=torch.float64)
        coords[i, :length] = torch.stack([torch.arange(length) % 16, torch.arange(length) // 16], -1) * 64
    return x, coords, mask


def run(name: str, batch: tuple, *, training: bool = False, seed: int = 0, **options) -> Compressed:
    return make(name, training=training, **options)(*batch, generator(seed))


def budget(name: str, n: int, training: bool = False) -> int:
    return COMPRESSORS[name].n_tokens(n, K, training=training, **OPTIONS.get(name, {}))


def is_spent(name: str, counts: list[int], most: list[int]) -> bool:
    """Say whether so many tokens are what a method may hand on: all of them, or some."""
    if COMPRESSORS[name].fills:
        return counts == most
    return all(min(c, 1) <= found <= c for found, c in zip(counts, most, strict=True))


@pytest.mark.parametrize("n", [1, K - 1, K, K + 1, N])
def test_tokens_handed_on_by_hand(n):
    few = min(n, K)
    expected = {"all": n, "text_only": 0, "blank": K, "mean": K, "tcssa": K, "locpath": LATENTS}
    keep = ("linspace", "random", "sparselearn", "outlier", "fps", "dpp", "coverage", "sieve", *POOL)
    expected |= dict.fromkeys((*keep, *MERGES), few)
    assert {name: budget(name, n) for name in expected} == expected
    assert {name: budget(name, n, training=True) for name in expected} == expected | {
        "sparselearn": n,
        "sieve": n + min(n, K // 2 + 1),
        "cropr": max(few, 4),
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [1, K - 1, K, K + 1, N])
@pytest.mark.parametrize("name", ALL)
def test_a_compressor_hands_on_what_its_class_says(name, n, training):
    """Alone and beside a longer slide: so many real tokens, so wide; the options' defaults are those of the class."""
    made, own = COMPRESSORS[name], OPTIONS.get(name, {})
    model = make(name, training=training)
    for lengths in ((n,), (n, N + 2)):
        out = model(*slides(*lengths), generator())
        assert is_spent(
            name, out.mask.sum(1).tolist(), [made.n_tokens(m, K, training=training, **own) for m in lengths]
        )
        assert out.tokens.shape[-1] == made.token_width(D, **own) == (model.width or D)
    if name == "locpath":
        plain = made(D, K).train(training)(*(part.float() if part.is_floating_point() else part for part in slides(n)))
        assert plain.tokens.shape[1:] == (made.n_tokens(n, K), made.token_width(D)) == (128, 512)


def test_what_stands_in_the_registry_is_true_of_the_classes():
    assert tuple(name for name in COMPRESSORS if not COMPRESSORS[name].has_k()) == WITHOUT_K
    assert {name for name in COMPRESSORS if COMPRESSORS[name].keeps_tiles()} == {*KEEPS_TILES, SIEVE} - {"text_only"}
    assert set(MIXES) == {"mean", "tcssa", "locpath", "blank"}
    assert set(MERGES) == {"kmeans", "tome", "visionzip_nocls", "grid"}
    assert {name for name in ALL if COMPRESSORS[name].has_places()} == {*KEEPS_TILES, *MERGES, SIEVE} - {"text_only"}
    assert set(FLOORS) | set(BESIDE) <= COMPRESSORS.keys() and set(BESIDE) - set(FLOORS) == {"all"}
    pretrained = {name for name in COMPRESSORS if COMPRESSORS[name].is_pretrained}
    assert pretrained == {name for name in COMPRESSORS if not fusion_of(COMPRESSORS[name]).is_prefix} == {"locpath"}


@pytest.mark.parametrize("d_k", [(D, K), (512, 32)])
def test_exact_parameter_counts(d_k):
    at = 0 if d_k == (D, K) else 1
    scorer = {"scorer_heads": 3 if at == 0 else 8}
    heads = {"sparselearn": scorer, "sieve": scorer}
    heads |= {name: OPTIONS[name] for name in ("locpath", "cropr")} if at == 0 else {}
    counts = {
        name: sum(p.numel() for p in cls(*d_k, **heads.get(name, {})).parameters()) for name, cls in COMPRESSORS.items()
    }
    assert counts == {name: row[at] for name, row in PARAMETERS.items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_shapes_budget_and_positions(name, training):
    lengths = (SHORT, N, 3, 1)
    x, coords, mask = slides(*lengths)
    out = run(name, (x, coords, mask), training=training)
    b, m, d = out.tokens.shape
    assert (b, d) == (4, COMPRESSORS[name].token_width(D, **OPTIONS.get(name, {})))
    assert out.mask.shape == out.positions.shape == (b, m)
    assert out.span.shape == (b,)
    assert out.weights is None if name == "locpath" else out.weights.shape == (b, m, N)
    assert out.aux_loss.shape == ()
    assert is_spent(name, out.mask.sum(1).tolist(), [budget(name, n, training) for n in lengths])
    assert m == max(budget(name, n, training) for n in lengths)
    tiles = COMPRESSORS[name].has_places()
    assert out.span.tolist() == (list(lengths) if tiles else [budget(name, n, training) for n in lengths])
    for i in range(b):
        claimed = out.positions[i][out.mask[i]]
        assert (claimed.diff() >= (0 if name in (SIEVE, "cropr") and training else 1)).all()
        assert (claimed < out.span[i]).all() and (claimed >= 0).all()


LOOKED_AT = [name for name in ALL if name not in ("locpath", SIEVE)]  # latents read every token anew


@pytest.mark.parametrize(
    ("name", "training"), [(name, t) for name in LOOKED_AT for t in (True, False) if not (t and name in POOL)]
)
def test_weights_say_where_tokens_come_from_without_an_n_by_m_matrix(name, training):
    lengths = (SHORT, N)
    out = run(name, slides(*lengths), training=training)
    assert out.weights.is_sparse or out.weights.stride(1) == 0
    if out.weights.is_sparse and name not in MERGES:
        tiles_each = 2 * sum(lengths) / (2 * K) if name == "tcssa" else 1  # two slots a tile
        assert out.weights.coalesce().values().numel() == out.mask.sum() * tiles_each
    assert (out.kept is None) == (name in (*MIXES, *MERGES)) and (out.places is None) == (name in MIXES)
    dense = out.weights.to_dense()
    assert (dense[0, :, SHORT:] == 0).all()
    for i, n in enumerate(lengths):
        rows = dense[i][out.mask[i]]
        if name == "blank":
            assert not rows.any()
        elif name == "mean":
            assert (rows[:, :n] - 1 / n).abs().max() < 1e-7
        elif name in ("tcssa", *MERGES):
            whole = rows.sum(-1) if name != "visionzip_nocls" else rows.amax(-1)  # a target, and the mean of others
            assert (whole - 1).abs().max() < 1e-6
            if name in MERGES:
                x = slides(*lengths)[0]
                assert (rows.double() @ x[i] - out.tokens[i][out.mask[i]]).abs().max() < 1e-6
                assert ((rows > 0).sum(0) <= 1).all() and (rows.gather(1, out.places[i][out.mask[i], None]) > 0).all()
        else:
            tile = rows.argmax(-1)
            assert torch.equal(tile, out.positions[i][out.mask[i]])  # I25
            assert torch.equal(tile, out.kept[i][out.mask[i]])
            assert torch.equal(rows, torch.zeros_like(rows).scatter(1, tile[:, None], rows.amax(-1, keepdim=True)))
            if not training or name != "sparselearn":
                assert (rows.sum(-1) == 1).all()


@pytest.mark.parametrize("name", KEEPS_TILES)
def test_kept_tiles_are_the_tiles_themselves(name):
    x, coords, mask = slides(SHORT, N)
    out = run(name, (x, coords, mask))
    source = nn.functional.layer_norm(x, (D,)) if name == "sparselearn" else x
    for i in range(2):
        kept = out.positions[i][out.mask[i]]
        assert torch.equal(out.tokens[i][out.mask[i]], source[i, kept])
    assert (out.tokens[~out.mask] == 0).all()


@pytest.mark.parametrize("k", [7, 1, 75, 1000])
def test_linspace_keeps_first_and_last_at_even_steps(k):  # I47
    out = run("linspace", slides(SHORT, N), k=k)
    for i, n in enumerate((SHORT, N)):
        expected = list(range(n)) if k >= n else [j * (n - 1) // max(k - 1, 1) for j in range(k)]
        assert out.positions[i][out.mask[i]].tolist() == expected
    assert k == 1 or expected[-1] == N - 1


def test_mean_reads_the_mean_of_the_real_tiles_through_k_maps():
    x, coords, mask = slides(SHORT, N, junk=50)
    model = make("mean")
    out = model(x, coords, mask)
    for i, n in enumerate((SHORT, N)):
        mean = sum(x[i, j] for j in range(n)) / n
        for token in range(K):
            rows = slice(token * D, (token + 1) * D)
            expected = model.expand.weight[rows] @ mean + model.expand.bias[rows]
            assert (out.tokens[i, token] - expected).abs().max() < 1e-10


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_padding_and_batch_mates_change_nothing(name, training):
    """Copies of tiles are bitwise the same and learned tokens to 1e-10 (float64). Draws of the training paths of
    random, sparselearn and tcssa depend on the batch's shape: there the law holds for what is kept, and alpha."""
    model = make(name, training=training)
    alone = model(*slides(SHORT), generator())
    company = model(*slides(SHORT, N, 1, junk=50), generator())
    real = company.mask[0]
    assert real.sum() == alone.mask.sum()
    assert torch.equal(company.span[:1], alone.span)
    if training and name in ("random", "tcssa", *POOL):
        return
    assert torch.equal(company.positions[0][real], alone.positions[0][alone.mask[0]])
    if name == "locpath":
        assert (company.tokens[0] - alone.tokens[0]).abs().max() < 1e-10
        return
    w_company, w_alone = company.weights.to_dense()[0][real], alone.weights.to_dense()[0][alone.mask[0]]
    assert (w_company[:, :SHORT] - w_alone).abs().sum() < 1e-8
    if training and name in ("sparselearn", SIEVE):
        return
    difference = (company.tokens[0][real] - alone.tokens[0][alone.mask[0]]).abs().sum()
    assert difference == 0 if name in KEEPS_TILES else difference < 1e-10


@pytest.mark.parametrize("name", sorted(set(ALL) - {*ORDERED}))
def test_tile_order_changes_nothing_but_the_indices(name):
    x, coords, mask = slides(N, N + 1, seed=9)
    x, coords, mask = x[:1, :N], coords[:1, :N], mask[:1, :N]
    order = torch.randperm(N, generator=generator(1))
    model = make(name)
    straight, shuffled = model(x, coords, mask), model(x[:, order], coords[:, order], mask)
    if name in MERGES:  # their order is that of their places
        there = order[shuffled.places[shuffled.mask]]
        assert sorted(there.tolist()) == straight.places[straight.mask].tolist()
        moved = straight.tokens[straight.mask] - shuffled.tokens[shuffled.mask][there.argsort()]
        assert moved.abs().max() < 1e-10
        return
    if name in MIXES:
        assert (straight.tokens - shuffled.tokens).abs().max() < 1e-10
        return
    if name == SIEVE:
        there = order[shuffled.places[shuffled.mask]]
        assert sorted(there.tolist()) == straight.places[straight.mask].tolist()
        assert (straight.tokens[straight.mask] - shuffled.tokens[shuffled.mask][there.argsort()]).abs().max() < 1e-10
        return
    assert sorted(order[shuffled.positions[0]].tolist()) == straight.positions[0].tolist()
    back = order[shuffled.positions[0]].argsort()
    assert torch.equal(shuffled.tokens[0, back], straight.tokens[0])


def test_linspace_is_defined_by_the_order_of_the_bag():
    x, coords, mask = slides(N)
    assert torch.equal(
        run("linspace", (x.flip(1), coords.flip(1), mask)).positions, run("linspace", (x, coords, mask)).positions
    )


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_weights_and_tokens_whatever_the_global_generator(name):
    outs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        models = [make(name, training=training) for training in (True, False)]
        assert torch.equal(torch.get_rng_state(), before)
        outs.append([model(*slides(SHORT, N), generator(2)).tokens for model in models])
        assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(*outs, strict=True):
        assert torch.equal(first, second)
    if PARAMETERS[name][0]:
        states = [torch.cat([p.flatten() for p in make(name, seed=seed).parameters()]) for seed in (3, 4)]
        assert not torch.equal(*states)


@pytest.mark.parametrize("name", ALL)
def test_evaluation_draws_nothing(name):
    model, g = make(name), generator()
    state = g.get_state()
    first = model(*slides(SHORT, N), g)
    assert torch.equal(g.get_state(), state)
    assert torch.equal(model(*slides(SHORT, N), generator(99)).tokens, first.tokens)
    assert torch.equal(model(*slides(SHORT, N), None).tokens, first.tokens)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [1, 3, K, K + 1, N])
@pytest.mark.parametrize("name", ALL)
def test_finite_values_and_gradients_also_on_equal_tiles(name, n, training):
    x, coords, mask = slides(n, 1)
    for features in (x, torch.full_like(x, 0.5)):
        model = make(name, training=training)
        features = features.clone().requires_grad_()
        out = model(features, coords, mask, generator())
        assert out.tokens.isfinite().all() and out.aux_loss.isfinite()
        loss = (out.tokens**3).sum() + out.aux_loss
        if not loss.requires_grad:
            assert name == "text_only"
            continue
        loss.backward()
        assert (features.grad is None) == (name == "blank")
        assert name == "blank" or features.grad.isfinite().all()
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


def test_random_draws_every_tile_equally_often_and_anew_for_each_seed():
    n_slides = 601
    x = torch.randn(n_slides, N, D, generator=generator(4), dtype=torch.float64)
    coords, mask = torch.zeros(n_slides, N, 2, dtype=torch.long), torch.ones(n_slides, N, dtype=torch.bool)
    kept = {}
    for seed in (3, 4):
        out = make("random", seed=seed)(x, coords, mask)
        kept[seed] = out.weights.to_dense().sum(1)
        share = kept[seed].mean(0)  # of slides in which tile i is kept: binomial around k / n
        spread = (K / N * (1 - K / N) / n_slides) ** 0.5
        assert (share - K / N).abs().max() < 4 * spread
    overlap = (kept[3] * kept[4]).sum(1).mean()
    assert abs(overlap - K * K / N) < 0.15  # hypergeometric mean 0.65, its standard error 0.03


def test_random_draws_anew_at_every_training_step():
    model, batch, g = make("random", training=True), slides(SHORT, N), generator()
    assert not torch.equal(model(*batch, g).positions, model(*batch, g).positions)
    assert torch.equal(model(*batch, generator(7)).positions, model(*batch, generator(7)).positions)
