"""What carries tokens into a language model is one class; a new one needs nothing else to be changed."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from tiny_vlm import OPTIONS
from torch import Tensor, nn

from slidesieve.compressors.baselines import AllTiles
from slidesieve.compressors.registry import COMPRESSORS, named
from slidesieve.features.bag import collate, make_bag
from slidesieve.models import checkpoints
from slidesieve.models.chat import pack
from slidesieve.models.fusion import Fusion, Projector, fusion_of
from slidesieve.models.options import all_options_of
from slidesieve.models.prefix_lm import Prefix
from slidesieve.synthetic.language import build_lm, build_tokenizer
from slidesieve.training.step import settings_of

D, K = 11, 3


class Pooled(Fusion):
    """All of a slide as one token, the mean, mapped linearly and scaled by an option."""

    def __init__(self, d: int, h: int, *, scale: float = 2.0):
        super().__init__()
        self.map, self.scale = nn.Linear(d, h), scale

    @classmethod
    def between(cls, lm, compressor, *, d, k, projector_width, **options):
        return cls(d, lm.get_input_embeddings().embedding_dim, **options)

    def parts(self):
        return {"pooled": self}

    def feed(self, lm, compressed, texts) -> Prefix:
        weight = compressed.mask.to(compressed.tokens.dtype).unsqueeze(-1)
        mean: Float[Tensor, "b 1 d"] = (compressed.tokens * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        first = compressed.positions[:, :1] * 0
        return Prefix(self.scale * self.map(mean), first >= 0, first, first[:, 0] + 1)


class Carried(AllTiles):
    fusion = f"{__name__}.Pooled"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(COMPRESSORS))
def test_a_fusion_puts_as_many_tokens_into_the_sequence_as_its_class_says(lm_folder, name, training):
    own = OPTIONS.get(name, {})
    model = checkpoints.build_vlm(str(lm_folder), name, d=33, k=7, seed=1, options=own, projector_width=9)
    model.train(training)
    bag = make_bag("a", np.random.default_rng(0).standard_normal((75, 33)), None, {})
    compressed = model.compress(collate([bag]), torch.Generator().manual_seed(0))
    prefix = model.prefix(compressed, pack([[model.chat.turn("a", ["b"])]]))
    assert int(prefix.mask.sum()) == model.fusion.n_tokens(int(compressed.mask.sum()), **own)
    assert prefix.embeds.shape[-1] == 24


@pytest.mark.parametrize(("chosen", "first"), [({}, 0), ({"adapter_layers": [2, 1]}, 1)])
def test_gradients_reach_back_to_the_first_layer_that_a_fusion_names(lm_folder, chosen, first):
    given, size = OPTIONS["locpath"] | chosen, {"d": 33, "k": 7, "seed": 1, "projector_width": 9}
    model, needed = checkpoints.build_vlm(str(lm_folder), "locpath", options=given, **size), []
    for layer in model.lm.get_decoder().layers:
        layer.register_forward_hook(lambda _, args, out: needed.append(out.requires_grad))
    bag = make_bag("a", np.random.default_rng(0).standard_normal((75, 33)), None, {})
    model(collate([bag]), pack([[model.chat.turn("a", ["b"])]]))
    assert type(model.fusion).first_layer(3, **given) == first
    assert needed == [number >= first for number in range(3)]
    assert Projector.first_layer(3) == 0


def test_a_projector_reads_tokens_as_wide_as_the_compressor_makes_them(lm_folder):
    made = COMPRESSORS["locpath"](33, 7, latents=5, latent_width=16, resampler_heads=2)
    lm = build_lm(build_tokenizer(), width=64, layers=2, heads=4, seed=0)
    carried = Projector.between(lm, made, d=33, k=7, projector_width=9)
    assert [part.weight.shape for part in carried.children() if isinstance(part, nn.Linear)] == [(9, 16), (64, 9)]


def test_each_compressor_names_its_fusion():
    assert {name: fusion_of(made).__name__ for name, made in COMPRESSORS.items()} == {
        **dict.fromkeys(COMPRESSORS, "Projector"),
        "locpath": "LatentReader",
    }
    assert [fusion_of(COMPRESSORS[name]).is_prefix for name in ("all", "locpath")] == [True, False]
    assert named(Carried.fusion).__name__ == "Pooled"


def test_a_part_without_a_rate_of_its_own_learns_at_the_projectors():
    class Model:
        fusion = Pooled(D, 5)

    given = {"weight_decay": 0.0, "warmup": 0, "beta1": 0.9, "beta2": 0.99}
    rates = {"projector": 3e-4, "compressor": 1e-3}
    assert settings_of(given, rates, Model()).rates == rates | {"pooled": 3e-4}
    assert settings_of(given, rates | {"pooled": 0.0}, Model()).rates == rates | {"pooled": 0.0}


def test_a_new_fusion_trains_is_saved_and_is_given_its_options(tmp_path, monkeypatch):
    tokenizer = build_tokenizer()
    for part in (build_lm(tokenizer, width=64, layers=2, heads=4, seed=0), tokenizer):
        part.save_pretrained(tmp_path / "lm")
    rows = COMPRESSORS._rows | {"carried": f"{__name__}.Carried"}
    monkeypatch.setattr(COMPRESSORS, "_rows", rows)
    assert list(all_options_of("carried")) == ["scale"]
    made = {"d": D, "k": K, "seed": 1, "projector_width": 9}
    model = checkpoints.build_vlm(str(tmp_path / "lm"), "carried", options={"scale": 0.5}, **made)
    assert model.trainable() == {"lm": 0, "pooled": 64 * (D + 1)}
    assert model.pooled is model.fusion and model.pooled.scale == 0.5
    assert {name for name in model.ours() if name.startswith("pooled")} == {"pooled.map.weight", "pooled.map.bias"}
    checkpoints.save_model(model, tmp_path / "model")
    again = checkpoints.load_model(tmp_path / "model", str(tmp_path / "lm"))
    assert again.pooled.scale == 0.5 and torch.equal(again.pooled.map.weight, model.pooled.map.weight)
    other = checkpoints.build_vlm(str(tmp_path / "lm"), "all", options={}, **made)
    assert "projector.0.weight" in checkpoints.start_from(other, tmp_path / "model")  # nothing of it serves another
