"""A compressor and fusions that no closed form knows: their tokens and operations are counted, inside a decoder too."""

import pytest
import torch
from test_answer_costs import ASKED, BAGS, counted_answer
from test_flops import counted
from tiny_vlm import D, K
from torch import nn

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.result import Compressed, Compressor
from slidesieve.cost import activations, flops, measure
from slidesieve.cost.answer_costs import mean_cost
from slidesieve.cost.counted import counted_encoder, counted_fusion
from slidesieve.cost.flops import Flops
from slidesieve.cost.methods import METHODS, OPTIONS, Method, Sizes, visual_tokens
from slidesieve.cost.models import DECODERS, Case, build, decoder
from slidesieve.cost.plan_cost import step_operations, trained_tokens
from slidesieve.cost.plan_memory import Load, ours_kept
from slidesieve.cost.plan_sizes import described, model_of
from slidesieve.cost.plan_work import Item
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.decoder_families import decoder_layers
from slidesieve.models.fusion import Fusion
from slidesieve.models.longnet import SLIDE_ENCODERS, LongNetReleased
from slidesieve.models.options import defaults_of
from slidesieve.models.prefix_lm import Prefix

WIDTH, TEXT = 12, 23
TINY, QWEN = DECODERS["tiny"], DECODERS["qwen2.5-7b"]._replace(layers=3)


class Slots(Compressor):
    """So many slots whatever n and k, each the mean of tiles that have looked at each other."""

    kind = "resamples"
    width = WIDTH
    fusion = f"{__name__}.Inside"

    def __init__(self, d: int, k: int, *, slots: int = 3, seed: int = 0):
        super().__init__()
        self.slots, self.map = slots, nn.Linear(d, WIDTH)

    @classmethod
    def n_tokens(cls, n, k, *, training=False, slots=3, **options):
        return slots

    @classmethod
    def token_width(cls, d, **options):
        return WIDTH

    def forward(self, x, coords, mask, generator=None) -> Compressed:
        h = self.map(x)
        mean = ((h @ h.mT).softmax(-1) @ h).mean(1, keepdim=True)
        step = torch.arange(self.slots).expand(len(x), -1)
        return Compressed(
            mean.expand(-1, self.slots, -1), step >= 0, step, step[:, 0] + self.slots, None, x.new_zeros(())
        )


class Inside(Fusion):
    """One layer's output, the middle one's or that named, looks at the tokens, mapped to its width."""

    is_prefix = False

    def __init__(self, width: int, h: int, depth: int, *, at: int = -1):
        super().__init__()
        self.map, self.at = nn.Linear(width, h, bias=False), at if at >= 0 else depth // 2

    @classmethod
    def between(cls, lm, compressor, *, d, k, projector_width, **options):
        return cls(compressor.width, lm.get_input_embeddings().embedding_dim, len(decoder_layers(lm)), **options)

    def parts(self):
        return {"inside": self}

    def attach(self, lm):
        def look(layer, args, output):
            seen = (output @ self.tokens.mT).softmax(-1) @ self.tokens
            return output + seen

        decoder_layers(lm)[self.at].register_forward_hook(look)

    def feed(self, lm, compressed, texts) -> Prefix:
        self.tokens = self.map(compressed.tokens)
        none = compressed.positions[:, :0]
        return Prefix(self.tokens[:, :0], none.bool(), none, none.sum(-1), lambda turns: None)


class Pairs(Fusion):
    """A prefix of every second token, each mapped by two maps."""

    def __init__(self, width: int, h: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, h), nn.Linear(h, h)

    @classmethod
    def between(cls, lm, compressor, *, d, k, projector_width):
        return cls(compressor.width or d, lm.get_input_embeddings().embedding_dim)

    @classmethod
    def n_tokens(cls, m, **options):
        return (m + 1) // 2

    def parts(self):
        return {"pairs": self}

    def feed(self, lm, compressed, texts) -> Prefix:
        kept = compressed._replace(**{n: getattr(compressed, n)[:, ::2] for n in ("tokens", "mask", "positions")})
        return Prefix(self.second(self.first(kept.tokens)), kept.mask, kept.positions, kept.span)


NEW = {"slots": Method("slots"), "slots_pairs": Method("slots", fusion=f"{__name__}.Pairs")}


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    monkeypatch.setattr(COMPRESSORS, "_rows", COMPRESSORS._rows | {"slots": f"{__name__}.Slots"})
    for name, method in NEW.items():
        monkeypatch.setitem(METHODS, name, method)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("lm", "slots"), [(TINY, 3), (TINY, 70), (QWEN, 70)])
def test_tokens_and_operations_of_a_new_method_by_hand(slots, training, lm):
    n, d, h = 91, 40, lm.width
    sizes = Sizes(n, K, TEXT, d=d).with_options({"slots": slots})
    tiles = Flops(2 * n * d * WIDTH, 4 * n**2 * WIDTH)
    inside = flops.forward(NEW["slots"], lm, sizes, training=training)
    assert visual_tokens(NEW["slots"], sizes, training=training) == 0
    read = Flops(2 * slots * WIDTH * h, 4 * TEXT * slots * h)
    assert inside == {"compressor": tiles, "fusion": read, "language model": flops.decoder(lm, TEXT)}
    before = flops.forward(NEW["slots_pairs"], lm, sizes, training=training)
    m = (slots + 1) // 2
    assert visual_tokens(NEW["slots_pairs"], sizes, training=training) == m
    mapped = Flops(2 * slots / 2 * (WIDTH * h + h * h), 0)  # half a token, where their number is odd
    assert before == {"compressor": tiles, "fusion": mapped, "language model": flops.decoder(lm, m + TEXT)}


def test_a_step_behind_a_new_fusion_passes_the_whole_decoder():
    sizes = Sizes(91, K, TEXT, d=40)
    grown = flops.step(NEW["slots"], TINY, sizes)
    once = flops.forward(NEW["slots"], TINY, sizes, training=True)
    assert grown["fusion"] == Flops(3 * once["fusion"].linear, 3 * once["fusion"].attention)
    assert grown["language model"].linear == 2 * once["language model"].linear


def test_a_first_token_of_a_new_method_is_what_the_counter_sees():
    for method in NEW:
        case = Case(method, "tiny", "first_token", 91, K, TEXT, d=40)
        model = build(case).requires_grad_(False)
        expected = flops.total(flops.forward(METHODS[method], TINY, case.sizes)).total + flops.lm_head(TINY).total
        odd = WIDTH * 128 + 128 * 128 if method == "slots_pairs" else 0  # of three slots two, where the form has 1.5
        assert counted(measure.ready(model, case)) == expected + odd


def test_answers_of_a_new_method_cost_what_the_counter_sees(lm_folder):
    model = build_vlm(lm_folder, "slots", d=D, k=K, seed=1, options={"slots": 5, "at": 2}, projector_width=19).eval()
    cost = mean_cost(model.requires_grad_(False), ASKED, BAGS)
    assert cost.tflops * 1e12 == pytest.approx(sum(counted_answer(model, q) for q in ASKED[:3]) / 3, rel=1e-9)
    assert cost.visual_tokens == 0


@pytest.mark.parametrize("rates", [{"projector": 1e-3, "compressor": 1e-3}, {"lm": 1e-3}])
def test_a_plan_counts_a_new_method(rates):
    with torch.device("meta"):
        lm = described(decoder("tiny", torch.float32))
    given = {"compressor": "slots", "k": K, "slots": 5, "projector_width": 9, "slide_encoder": "none"}
    planned = model_of(given | {"lora_rank": 3 if "lm" in rates else 0}, lm, d=40, rates=rates)
    assert set(planned.learns) == ({"lm"} if "lm" in rates else {"compressor", "inside"})
    item = Item(91, TEXT, 2)
    assert trained_tokens(planned, item, head=3, cap=4096) == 3 + TEXT
    ours = flops.forward(NEW["slots"], TINY, Sizes(91, K, TEXT + 3, d=40).with_options({"slots": 5}))
    spent = {again: step_operations(planned, item, head=3, cap=4096, recompute=again) for again in (False, True)}
    free = flops.step(NEW["slots"], TINY, Sizes(91, K, TEXT + 3, d=40).with_options({"slots": 5}))
    if "lm" not in rates:
        assert spent[False] == flops.total(free).total + 2 * flops.lm_head(TINY, 2).total
    assert spent[True] - spent[False] > ours["fusion"].total  # the fusion's blocks are recomputed
    values = given | {"mixed_precision": "no"}
    kept = ours_kept(planned, Load(2, 91, 40, 5, 2), values) / (4 * 2 * 91)
    assert kept >= 40 + 2 * 91 / 40  # values a tile: itself, and more


def test_bytes_of_a_new_prefix_are_found_and_those_inside_a_decoder_are_refused():
    case = Case("slots_pairs", "tiny", "step", 91, K, TEXT, d=40)
    alone = Case("slots", "tiny", "step", 91, K, TEXT, d=40)
    assert activations.step_bytes(case)["saved in our parts"] > 4 * 91 * 91
    with pytest.raises(ValueError, match="slots: bytes that Inside saves in a decoder are not known here"):
        activations.step_bytes(alone)


@pytest.mark.parametrize(
    ("lm", "m", "text", "importance"), [(TINY, 5, 23, "question"), (TINY, 129, 300, "none"), (QWEN, 5, 300, "question")]
)
def test_the_counter_knows_the_fusions_that_have_a_closed_form(lm, m, text, importance):
    """To the last operation, but for the mean of the question's embeddings, which the form leaves out."""
    given = {"latents": m, "latent_width": 64, "adapter_layers": (1, 2), "adapter_width": 24, "importance": importance}
    sizes = Sizes(50, K, text, d=64, projector_width=19).with_options(given)
    found = Flops(*counted_fusion(METHODS["locpath_prefix"], lm, sizes, m=m, width=64))
    assert found == flops.fusion(METHODS["locpath_prefix"], lm, sizes) == flops.projector(64, 19, lm.width, m)
    known = flops.fusion(METHODS["locpath"], lm, sizes)
    linear, attention = counted_fusion(METHODS["locpath"], lm, sizes, m=m, width=64)
    assert (linear - 2 * (text - 1) * lm.width, attention) == pytest.approx(known, rel=1e-12)


def test_a_slide_encoder_without_a_form_is_counted(monkeypatch):
    known = flops.slide_encoder("longnet_released", Sizes(501, K, TEXT, d=40))
    assert counted_encoder("longnet_released", d=40, n=501) == known
    monkeypatch.delitem(flops.ENCODERS, "longnet_released")
    assert flops.forward(Method("all", "longnet_released"), TINY, Sizes(501, K, TEXT, d=40))["slide encoder"] == known
    assert SLIDE_ENCODERS["longnet_released"] is LongNetReleased


@pytest.mark.parametrize("denoiser", ["off", "global", "diagonal"])
def test_each_denoiser_is_counted_exactly(denoiser):
    sizes = Sizes(75, K, TEXT, d=64).with_options({"denoiser": denoiser})
    model = COMPRESSORS["sparselearn"](64, K, denoiser=denoiser).train()
    tiles = (torch.randn(1, 75, 64), torch.zeros(1, 75, 2, dtype=torch.long), torch.ones(1, 75, dtype=torch.bool))
    with torch.no_grad():
        found = counted(lambda: model(*tiles))
    assert found == flops.compressor("sparselearn", sizes, training=True).total


def test_sizes_are_what_the_parts_take_unasked():
    known = {}
    for name in COMPRESSORS:
        known |= {option: default for option, default in defaults_of(name).items() if option in OPTIONS}
    own = Sizes(0, 0, 0).options
    assert {name: list(v) if isinstance(v, tuple) else v for name, v in own.items()} == known
