"""Encoders: the laws of the descriptor on images whose statistics are known, and any transformers model from disk."""

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessorPil, ViTModel

from slidesieve.features.encoders import StainTexture, load_encoder
from slidesieve.features.stain_texture import (
    LAMP,
    correlations,
    describe,
    filter_bank,
    histogram,
    moments,
    stain_densities,
    structure,
)
from slidesieve.features.vision_models import TransformersEncoder

N, SIDE = 451, 50  # more tiles than raw values, a side that no pooling divides


@pytest.fixture(scope="module")
def tiles():
    """Random blotches of differing coarseness."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 250, (N, SIDE // 2, SIDE // 2, 3)).repeat(2, 1).repeat(2, 2)
    share = rng.uniform(0, 1, (N, 1, 1, 3))
    return (share * coarse + (1 - share) * rng.integers(60, 250, coarse.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(tiles):
    encoder = StainTexture()
    encoder.fit(tiles)
    return encoder


# the descriptor


def test_unmixing_recovers_known_densities():
    vectors = np.array([(0.563, 0.720, 0.406), (0.216, 0.801, 0.558)])
    rng = np.random.default_rng(1)
    amount = rng.uniform(0, 1.2, (1, 41, 43, 2))
    pixels = np.rint(LAMP * np.exp(-amount @ vectors) - 1)
    found = stain_densities(torch.tensor(pixels.astype(np.uint8))).numpy()
    assert np.abs(found[0, :2] - amount[0].transpose(2, 0, 1)).max() < 0.05
    assert np.abs(found[0, 2]).max() < 0.05


def test_filters_are_zero_mean_and_unit_norm():
    bank = filter_bank(3)
    assert bank.mean((2, 3)).abs().max() < 1e-6
    assert torch.allclose((bank**2).sum((1, 2, 3)), torch.ones(len(bank)))
    assert torch.equal(bank, filter_bank(3)) and not torch.equal(bank, filter_bank(4))


def test_stripes_point_along_their_axis():
    wave = torch.sin(torch.arange(37) * 0.9)
    across = wave.expand(1, 3, 41, 37)  # changes with x only
    energy, axis, diagonal = structure(across).split(3, dim=1)
    assert torch.allclose(axis, torch.ones(1, 3), atol=0.01) and diagonal.abs().max() < 1e-6
    energy_t, axis_t, _ = structure(across.transpose(2, 3)).split(3, dim=1)
    assert torch.allclose(axis_t, -axis) and torch.allclose(energy_t, energy)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(37.0), indexing="ij")
    _, axis, diagonal = structure(torch.sin(0.5 * (x + y)).expand(1, 3, 40, 37)).split(3, dim=1)
    assert axis.abs().max() < 0.02 and torch.allclose(diagonal, torch.ones(1, 3), atol=0.02)


def test_moments_correlations_and_histogram_by_hand():
    x = torch.zeros(1, 3, 10, 10)
    x[:, :, :1] = 2.0  # one pixel in ten: mean 0.2, variance 0.36, skewness 0.8 / 0.3
    log_variance, skew = moments(x).split(3, dim=1)
    assert torch.allclose(log_variance, torch.tensor(0.361).log().expand(1, 3), atol=1e-5)
    assert torch.allclose(skew, torch.full((1, 3), 0.8 / 0.3), atol=1e-3)
    x[:, 1] *= -1
    assert torch.allclose(correlations(x), torch.tensor([[-1.0, 1.0, -1.0]]), atol=1e-4)
    assert torch.allclose(histogram(x)[0, 6:8], torch.tensor([0.1, 0.0]), atol=1e-3)  # share above 0.7, in h and in e


def test_a_flat_tile_has_finite_features():
    flat = torch.full((2, 64, 64, 3), 240, dtype=torch.uint8)
    assert describe(flat).isfinite().all() and describe(flat * 0).isfinite().all()


def test_small_tiles_and_foreign_arrays_are_refused(fitted):
    with pytest.raises(ValueError, match=r"got tiles of \(47, 64\) px, expected at least 48"):
        fitted.encode(np.zeros((1, 47, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"got float32 \(1, 64, 64, 3\), expected uint8"):
        fitted.encode(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 4\)"):
        fitted.encode(np.zeros((1, 64, 64, 4), np.uint8))


# the stand-in


def test_whitening_of_the_tiles_it_was_fitted_on(tiles, fitted):
    raw = fitted.raw(tiles).astype(np.float64)
    z = (raw - raw.mean(0)) / (raw.std(0) + 1e-6)
    variance = np.sort(np.linalg.eigvalsh(np.cov(z.T)))[::-1]
    state = fitted._state
    x = (raw - state["mean"]) @ state["project"].astype(np.float64)
    expected = variance[:96] / (variance[:96] + 0.02 * variance.mean())
    assert np.abs(x.mean(0)).max() < 1e-3
    assert np.allclose(np.cov(x.T), np.diag(expected), atol=2e-3)
    features = fitted.encode(tiles)
    assert features.dtype == np.float32 and features.shape == (N, 96)
    assert np.allclose(features, np.clip(x, -5, 5), atol=1e-3)


def test_neighbours_and_batches_change_no_bit(tiles, fitted):
    features = fitted.encode(tiles)
    for part in (slice(0, 1), slice(5, 22), slice(31, 97)):
        assert np.array_equal(fitted.encode(tiles[part]), features[part])
    assert np.array_equal(fitted.encode(tiles[::-1]), features[::-1])
    assert fitted.encode(tiles[:0]).shape == (0, 96)


def test_state_survives_saving(tiles, fitted, tmp_path):
    fitted.save(tmp_path / "state.npz")
    again = load_encoder("stain-texture")
    assert again.needs_fit and again.d == 96 and again.tile_px is None
    again.load_state(tmp_path / "state.npz")
    assert again.state_hash == fitted.state_hash
    assert np.array_equal(again.encode(tiles[:7]), fitted.encode(tiles[:7]))
    other = StainTexture()
    other.fit(tiles[:-1])
    assert other.state_hash != fitted.state_hash


def test_an_unfitted_or_wrongly_fitted_encoder_says_so(tiles, tmp_path):
    encoder = StainTexture()
    for act in (lambda: encoder.encode(tiles[:2]), lambda: encoder.state_hash, lambda: encoder.save(tmp_path / "a")):
        with pytest.raises(ValueError, match="not fitted; call fit"):
            act()
    with pytest.raises(ValueError, match="got 245 tiles to fit on, expected more than 245"):
        encoder.fit(tiles[:245])
    np.savez(tmp_path / "b.npz", mean=np.zeros(3), project=np.zeros((3, 95)))
    with pytest.raises(ValueError, match="expected mean and project with 96 columns"):
        encoder.load_state(tmp_path / "b.npz")


# transformers


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A ViT of 12 thousand random weights with its image processor."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        image_size=48,
        patch_size=16,
        hidden_dropout_prob=0.3,
    )
    ViTModel(config).save_pretrained(folder)
    size = {"height": 48, "width": 48}
    ViTImageProcessorPil(size=size, image_mean=[0.7, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_a_vit_from_disk_gives_the_features_of_its_own_forward_pass(vit_folder, pooling):
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    encoder = load_encoder(vit_folder, device="cpu", batch_tiles=3, pooling=pooling)
    pixels = (images / 255 - [0.7, 0.5, 0.6]) / [0.2, 0.3, 0.25]
    model = ViTModel.from_pretrained(vit_folder).eval()
    with torch.no_grad():
        out = model(pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32))
    hidden = out.last_hidden_state
    expected = {"cls": hidden[:, 0], "mean": hidden[:, 1:].mean(1), "pooler": out.pooler_output}[pooling]
    features = encoder.encode(images)
    assert features.dtype == np.float32 and features.shape == (5, encoder.d) == (5, 24)
    assert np.allclose(features, expected.numpy(), atol=1e-5)


def test_a_vit_treats_each_tile_alone_and_resizes_it(vit_folder):
    tiles = np.random.default_rng(1).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    encoder = TransformersEncoder(vit_folder, device="cpu", batch_tiles=4, pooling="cls")
    assert encoder.tile_px == 48 and not encoder.needs_fit and encoder.name == vit_folder
    features = encoder.encode(tiles)
    assert np.allclose(features, np.concatenate([encoder.encode(tiles[i : i + 1]) for i in range(7)]), atol=1e-5)
    assert np.array_equal(features, encoder.encode(tiles))
    parts = [encoder.encode_prepared(encoder.prepare(tiles[i : i + 4])) for i in (0, 4)]
    assert np.array_equal(features, np.concatenate(parts))  # as stage 20 does it, the first half in other threads
    assert encoder.encode(tiles[:0]).shape == (0, 24)


def test_the_state_hash_is_of_the_weights(vit_folder):
    encoder = load_encoder(vit_folder)
    before = encoder.state_hash
    assert load_encoder(vit_folder, pooling="mean").state_hash == before
    with torch.no_grad():
        next(encoder._model.parameters())[..., 0] += 1
    assert encoder.state_hash != before


def test_a_model_without_tokens_needs_its_pooler(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(tmp_path)
    for pooling, fault in (("cls", "has no class token"), ("mean", "not tokens; set pooling to 'pooler'")):
        with pytest.raises(ValueError, match=fault):
            load_encoder(str(tmp_path), pooling=pooling)
    assert load_encoder(str(tmp_path), pooling="pooler").d == 12


def test_an_unknown_pooling_is_refused(vit_folder):
    with pytest.raises(ValueError, match="pooling: got 'max', expected one of cls, mean, cls_mean, pooler"):
        load_encoder(vit_folder, pooling="max")
