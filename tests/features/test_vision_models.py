"""Families of vision models, tiny and random: the right feature, held against their own forward pass, or a refusal."""

import numpy as np
import pytest
import torch
import transformers as t
from torch import nn
from transformers import ViTImageProcessorPil

from slidesieve.features.encoders import load_encoder
from slidesieve.features.vision_models import TransformersEncoder
from slidesieve.features.vision_models import _looked_up as looked_up
from slidesieve.features.vision_models import _values_of_pixels as values_of_pixels

SIDE, MEAN, STD = 32, [0.7, 0.5, 0.6], [0.2, 0.3, 0.25]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
VIT = SIZES | {"image_size": SIDE, "patch_size": 8}
TEXT = SIZES | {"vocab_size": 50, "max_position_embeddings": 16}
FAMILIES = {
    "vit": lambda: t.ViTModel(t.ViTConfig(**VIT)),
    "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**VIT)),
    "dinov2 with registers": lambda: t.Dinov2WithRegistersModel(
        t.Dinov2WithRegistersConfig(**VIT, num_register_tokens=3)
    ),
    "siglip": lambda: t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=VIT)),
    "siglip tower": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VIT)),
    "swin": lambda: t.SwinModel(
        t.SwinConfig(image_size=SIDE, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4)
    ),
    "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VIT, projection_dim=16)),
    "vit_mae": lambda: t.ViTMAEModel(t.ViTMAEConfig(**VIT)),
    "deit": lambda: t.DeiTModel(t.DeiTConfig(**VIT)),
}
SPECIAL = {
    "dinov2 with registers": 4,
    "deit": 2,
    "siglip": 0,
    "siglip tower": 0,
    "swin": 0,
}  # tokens of no patch; of others one


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    with torch.random.fork_rng(devices=[]):
        for name, build in FAMILIES.items():
            torch.manual_seed(3)
            made[name] = tmp_path_factory.mktemp("family")
            build().save_pretrained(made[name])
            processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=STD)
            processor.save_pretrained(made[name])
    return {name: str(folder) for name, folder in made.items()}


def tiles(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def tokens(name: str, folder: str, images: np.ndarray):
    """The vision model's own output, every patch seen in its place."""
    pixels = torch.tensor(((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2), dtype=torch.float32)
    model = t.AutoModel.from_pretrained(folder).eval()
    if name in ("siglip", "clip"):
        model = model.vision_model
    if name == "vit_mae":  # as a plain ViT: all patches, in order
        embeddings = model.embeddings
        hidden = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
        cls = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(images), -1, -1)
        hidden = torch.cat([cls, hidden], 1)
        encoder = getattr(model, "encoder", None)
        for layer in encoder.layer if encoder is not None else model.layers:
            out = layer(hidden)
            hidden = out[0] if isinstance(out, tuple) else out
        return model.layernorm(hidden), None
    out = model(pixel_values=pixels)
    return out.last_hidden_state, getattr(out, "pooler_output", None)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean", "cls_mean", "pooler"])
def test_a_family_gives_the_right_feature_or_is_refused(folders, name, pooling):
    special = SPECIAL.get(name, 1)
    if pooling in ("cls", "cls_mean") and not special:
        with pytest.raises(ValueError, match="has no class token: cls would be its first patch, the tile's corner"):
            load_encoder(folders[name], pooling=pooling)
        return
    if pooling == "pooler" and name == "vit_mae":
        with pytest.raises(ValueError, match="has no pooler output; set pooling"):
            load_encoder(folders[name], pooling=pooling)
        return
    images = tiles()
    encoder = load_encoder(folders[name], pooling=pooling, batch_tiles=3)
    with torch.no_grad():
        hidden, pooler = tokens(name, folders[name], images)
    cls, mean = hidden[:, 0], hidden[:, special:].mean(1)
    expected = {"cls": cls, "mean": mean, "cls_mean": torch.cat([cls, mean], 1), "pooler": pooler}[pooling]
    assert np.allclose(encoder.encode(images), expected.numpy(), atol=1e-4) and encoder.d == expected.shape[1]
    assert np.array_equal(encoder.encode(images), encoder.encode(images))


def test_tiles_of_the_models_side_get_the_processors_values_without_it(folders, monkeypatch):
    encoder = load_encoder(folders["vit"], batch_tiles=3)
    images, made = tiles(7), encoder._processor(images=list(tiles(7)), return_tensors="pt")["pixel_values"]
    assert torch.equal(looked_up(encoder.prepare(images), encoder._values), made)
    by_processor = np.concatenate([encoder.encode_prepared(part) for part in made.split(3)])
    monkeypatch.setattr(encoder, "_processor", None)
    assert np.array_equal(encoder.encode(images), by_processor)
    assert np.array_equal(encoder.encode(images[:, ::-1]), encoder.encode(images[:, ::-1].copy()))


def test_a_processor_that_does_more_than_that_is_asked(folders):
    """It crops, or its output is of another side, or it mixes pixels: no table stands for it."""
    one = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=STD)
    assert values_of_pixels(one, SIDE).shape == (3, 256) and values_of_pixels(one, None) is None
    assert values_of_pixels(one, SIDE + 8) is None and values_of_pixels(one, 15) is None

    def mixing(images, return_tensors):
        made = one(images=images, return_tensors=return_tensors)
        return {"pixel_values": made["pixel_values"].roll(1, -1)}

    assert values_of_pixels(mixing, SIDE) is None
    encoder = load_encoder(folders["vit"])
    larger = np.random.default_rng(2).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    assert encoder.prepare(larger).shape == (2, 3, SIDE, SIDE)


class Odd(nn.Module):
    """A model that does not do what an encoder does, in one of three ways."""

    def __init__(self, how: str):
        super().__init__()
        self.how, self.config, self.dtype = how, t.ViTConfig(), torch.float32
        self.cls_token = nn.Parameter(torch.zeros(1))

    def forward(self, pixel_values):
        x = pixel_values.flatten(2).transpose(1, 2)  # (b n 3)
        if self.how == "at random":
            x = x + torch.rand_like(x)
        if self.how == "of others":
            x = x - x.mean(0, keepdim=True)
        if self.how == "nothing":
            x = x * float("nan")
        cls = pixel_values[:, :, :2, :2].flatten(1).repeat(1, 9) if self.how == "corner" else x.mean(1).repeat(1, 9)
        return t.modeling_outputs.BaseModelOutput(torch.cat([cls[:, None, :9], x.repeat(1, 1, 3)], 1))


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("at random", "one tile has two features when it is asked again"),
        ("of others", "one tile has two features alone and in company"),
        ("corner", r"its cls follows the tile's corner .* more than all the rest .*; set pooling to another"),
        ("nothing", "features of a fixed tile are"),
    ],
)
def test_what_no_rule_knows_the_probe_finds(folders, monkeypatch, how, fault):
    monkeypatch.setattr("slidesieve.features.vision_models._vision_model", lambda name, dtype: Odd(how))
    with pytest.raises(ValueError, match=fault):
        TransformersEncoder(folders["vit"], device="cpu", batch_tiles=8, pooling="cls")
