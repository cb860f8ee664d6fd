"""Closed forms of operations against PyTorch's own counter on small models, and against the published figures."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slidesieve.compressors.baselines import AllTiles
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.sparselearn import SparseLearn
from slidesieve.compressors.tcssa import TCSSA
from slidesieve.compressors.untrained.kmeans import STEPS
from slidesieve.cost import counted as counter
from slidesieve.cost import flops
from slidesieve.cost.flops import Decoder, Flops
from slidesieve.cost.measure import ready
from slidesieve.cost.methods import METHODS, Sizes, method_named, visual_tokens
from slidesieve.cost.models import DECODERS, TILE_PX0, Case, build, decoder, slide
from slidesieve.cost.tables import beside_published
from slidesieve.models.longnet import LongNet

D, K, LATENTS, TEXT = 64, 7, 5, 23
TINY, QWEN = DECODERS["tiny"], DECODERS["qwen2.5-7b"]


def counted(call) -> int:
    """Operations as PyTorch counts them; attention by the kernel that multiplies whole matrices, which it can count."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def case(method: str, what: str, n: int) -> Case:
    return Case(method, "tiny", what, n, K, TEXT, latents=LATENTS, d=D)


@pytest.mark.parametrize("n", [50, 5001])
@pytest.mark.parametrize("training", [False, True])
def test_what_has_no_closed_form_is_counted_and_nothing_is_free(n, training):
    """The counter knows TC-SSA to the last operation, and SparseLearn but for the tokens that a short bag lacks."""
    sizes = Sizes(n, K, TEXT, d=D)
    known = flops.compressor("tcssa", sizes, training=training)
    assert sum(counter.counted("tcssa", d=D, k=K, n=n, training=training)) == known.total
    known = flops.compressor("sparselearn", sizes._replace(scorer_width=D), training=training)
    assert counter.counted("sparselearn", d=D, k=K, n=n, training=training) == pytest.approx(known, rel=1e-6)


@pytest.mark.parametrize(("name", "k"), [("kmeans", K), ("sieve", 2 * K)])
def test_what_may_stop_early_is_counted_to_its_last_step_at_any_length(name, k):
    """Lloyd's steps, each n k d products, and no pair of tiles among them."""
    n, options = 1777, {} if name == "kmeans" else {"scorer_attention": "none"}
    part = COMPRESSORS[name](D, k, seed=0, **options).eval()
    part.stops_early = False
    found, pairs = counter.counted(name, d=D, k=k, n=n, training=False, options=options)
    assert pairs == 0 and found == pytest.approx(counted(lambda: part(*tiles(n))), rel=1e-6)
    if name == "kmeans":
        assert found >= (STEPS + 1) * 2 * n * k * D


def test_a_compressor_that_is_new_is_not_counted_as_free(monkeypatch):
    class Doubled(AllTiles):
        def forward(self, x, coords, mask, generator=None):
            return super().forward(x @ torch.eye(x.shape[-1]), coords, mask, generator)

    rows = {**COMPRESSORS, "doubled": Doubled}
    monkeypatch.setattr(counter, "COMPRESSORS", rows)
    assert flops.compressor("doubled", Sizes(321, K, TEXT, d=D)) == Flops(2 * 321 * D * D, 0)


def tiles(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n tiles of noise, in one row."""
    coords = torch.stack([224 * torch.arange(n), torch.zeros(n, dtype=torch.long)], dim=-1)
    return torch.randn(1, n, D), coords[None], torch.ones(1, n, dtype=torch.bool)


@pytest.mark.parametrize("t", [1, 37, 130])
def test_a_decoder_is_counted_exactly(t):
    lm = decoder("tiny", torch.float32)
    ids = torch.zeros(1, t, dtype=torch.long)
    with torch.no_grad():
        found = counted(lambda: lm(input_ids=ids, use_cache=False, logits_to_keep=2))
    assert found == flops.decoder(TINY, t).total + flops.lm_head(TINY, min(t, 2)).total


def test_a_decoder_has_the_weights_of_its_matrices():
    for name, lm in DECODERS.items():
        with torch.device("meta"):
            made = decoder(name, torch.float32)
        matrices = [p.numel() for p in made.get_decoder().layers.parameters() if p.ndim == 2]
        assert sum(matrices) == lm.weights
    assert QWEN.weights == 6_525_288_448


@pytest.mark.parametrize("n", [1, 75, 2049, 5000])
def test_longnet_is_counted_exactly(n):
    encoder = LongNet(D, layers=1).eval()
    x, _, mask = tiles(n)
    with torch.no_grad():
        assert counted(lambda: encoder(x, mask)) == flops.longnet(D, n, layers=1).total


def test_longnet_within_one_segment_is_attention_of_all_pairs():
    """Without dilation: five branches that are all full attention, each 6 d a pair."""
    assert flops.longnet(D, 100, layers=1, segments=(100,) * 5, dilations=(1,) * 5).attention == 5 * 6 * D * 100**2


@pytest.mark.parametrize("width", [D, 24])
@pytest.mark.parametrize("attention", ["global", "none"])
def test_sparselearn_is_counted_exactly(attention, width):
    n = 75
    sizes = Sizes(n, K, TEXT, d=D, scorer_width=width, scorer_attention=attention)
    model = SparseLearn(D, K, scorer_width=width, scorer_attention=attention)
    with torch.no_grad():
        assert counted(lambda: model.eval()(*tiles(n))) == flops.compressor("sparselearn", sizes).total
        trained = flops.compressor("sparselearn", sizes, training=True)
        assert counted(lambda: model.train()(*tiles(n))) == trained.total
    assert (flops.compressor("sparselearn", sizes).attention > 0) == (attention == "global")


def test_tcssa_is_counted_exactly_and_is_linear_in_tiles():
    n, hidden = 75, 19
    model = TCSSA(D, K, expert_hidden=hidden).eval()
    with torch.no_grad():
        assert counted(lambda: model(*tiles(n))) == flops.tcssa(D, n, K, hidden=hidden).total
    more = [flops.tcssa(D, n, K, hidden=hidden).linear for n in (100, 200, 300)]
    assert more[2] - more[1] == more[1] - more[0] == 100 * 4 * D * K


@pytest.mark.parametrize("method", [m for m in METHODS if m != "sparselearn_longnet"])
def test_a_first_token_is_counted_exactly(method):
    """Slide, prefix or adapters, language model and one row of its head, for an odd number of tiles."""
    n = 91
    model = build(case(method, "first_token", n)).requires_grad_(False)
    found = counted(ready(model, case(method, "first_token", n)))
    windows = len(np.unique(slide(n, D).coords // (2 * TILE_PX0), axis=0))
    sizes = case(method, "first_token", n).sizes._replace(windows=windows)
    expected = flops.total(flops.forward(METHODS[method], TINY, sizes)).total + flops.lm_head(TINY).total
    if not METHODS[method].carried_by.is_prefix:  # the mean of the question's embeddings is left out
        expected += 2 * (TEXT - len(model.chat.head)) * TINY.width
    assert found == expected


@pytest.mark.parametrize("method", ["slidechat", "all", "sparselearn", "tcssa", "locpath", "locpath_prefix", "mean"])
def test_a_training_step_is_counted_within_three_per_cent(method):
    """Gradients that nobody needs (of the tiles) are not told apart: the form is no smaller than the counter."""
    n = 256
    now = case(method, "step", n)
    found = counted(ready(build(now), now))
    expected = flops.total(flops.step(METHODS[method], TINY, now.sizes)).total + 2 * flops.lm_head(TINY, 2).total
    assert 0.97 < found / expected < 1.005


def test_tokens_in_the_language_model():
    sizes = Sizes(1000, 32, 98)
    seen = {name: visual_tokens(method, sizes) for name, method in METHODS.items()}
    assert seen == {
        "slidechat": 1000, "all": 1000, "sparselearn_longnet": 32, "sparselearn": 32, "tcssa": 32, "locpath": 0,
        "locpath_prefix": 128, "linspace": 32, "random": 32, "mean": 32, "text_only": 0,
    }  # fmt: skip
    assert visual_tokens(METHODS["sparselearn"], sizes, training=True) == 1000
    assert visual_tokens(METHODS["linspace"], sizes._replace(n=9)) == 9
    with pytest.raises(ValueError, match="got 'slots'; expected one of slidechat"):
        method_named("slots")


def test_a_worked_case_by_hand():
    """One layer of width 4, two heads, one of keys: q and o 16 each, k and v 8 each, three times 4 x 6."""
    lm = Decoder(width=4, ffn=6, layers=1, heads=2, kv_heads=1, vocabulary=10)
    assert lm.weights == 16 + 16 + 8 + 8 + 72
    assert flops.decoder(lm, 3) == Flops(2 * 120 * 3, 4 * 4 * 9)
    assert flops.projector(5, 6, 4, 3) == Flops(2 * 3 * (30 + 24), 0)
    assert flops.lm_head(lm, 3).total == 240


def test_published_figures_are_met_within_two_per_cent():
    """Linear terms, Qwen2.5-7B, 10,000 tiles, 98 text tokens; SparseLearn's only without its scorer over all tiles."""
    table = beside_published(text=98).set_index(["method", "counted"])
    off = table["linear_off"].abs()
    assert off["SlideChat", "whole method"] < 2 and off["TC-SSA", "whole method"] < 2
    assert off["32 visual tokens", "language model alone"] < 0.5
    assert off["SparseLearn", "language model alone"] < 2 < 5 < off["SparseLearn", "whole method, no slide encoder"]
    assert table["with_attention_off"]["SlideChat", "whole method"] > 25
