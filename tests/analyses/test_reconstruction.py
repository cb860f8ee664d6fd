"""What needs no learning, tile by tile, and pictures of hidden tokens; a pre-trained compressor as a start."""

import numpy as np
import pytest
import torch
from tiny_autoencoder import D, bag, model

from slidesieve.analyses.reconstruction import cosines, mean_of_visible, nearest, picture
from slidesieve.features.bag import collate
from slidesieve.models.checkpoints import begin_model, load_model
from slidesieve.training.masked import begin_autoencoder, save_pretrained
from slidesieve.training.masked_loop import Settings

SETTINGS = {"window": 2, "merge_above": -1.0, "latents": 7, "latent_width": 24, "resampler_blocks": 1}
SETTINGS |= {"resampler_heads": 3, "n_adapters": 2, "adapter_width": 12, "adapter_heads": 3}
BAGS = {name: bag(name, columns, 5) for name, columns in (("a", 9), ("b", 6), ("c", 2))} | {"d": bag("d", 1, 1)}


def normed(vector: np.ndarray) -> np.ndarray:
    return (vector - vector.mean()) / np.sqrt(vector.var() + 1e-5)


@torch.no_grad()
def test_the_guesses_without_learning_are_those_of_the_loops():
    masked = model().double()(
        collate(list(BAGS.values()))._replace(x=collate(list(BAGS.values())).x.double()),
        torch.Generator().manual_seed(2),
    )
    close, mean = nearest(masked), mean_of_visible(masked)
    for row in range(3):
        seen = [normed(v.numpy()) for v in masked.visible.mean[row][masked.visible.mask[row]]]
        where = masked.visible.places[row][masked.visible.mask[row]].double().numpy()
        for token in masked.hidden.mask[row].nonzero()[:, 0].tolist():
            away = np.linalg.norm(where - masked.hidden.places[row, token].numpy(), axis=1)
            assert np.abs(close[row, token].numpy() - seen[int(away.argmin())]).max() < 1e-6
            assert np.abs(mean[row, token].numpy() - np.mean(seen, axis=0)).max() < 1e-6


def test_cosines_are_means_over_the_hidden_tokens_and_one_token_hides_nothing():
    ours = model()
    table = cosines(ours, BAGS, sorted(BAGS), Settings(0.1, 1, 2), seed=4).set_index("slide_id")
    assert sorted(table.index) == ["a", "b", "c"]
    tokens = {"a": 5 * 3, "b": 3 * 3, "c": 1 * 3}  # windows of 2 x 2 over columns x 5 rows
    for slide, n in tokens.items():
        assert table.loc[slide, "n_tokens"] == n and table.loc[slide, "n_hidden"] == n - -(-n // 4)
    assert table[["predicted", "nearest", "mean"]].abs().max().max() <= 1


@torch.no_grad()
def test_a_picture_holds_every_token_once_and_predictions_only_where_hidden():
    ours = model()
    merged = ours.compressor.merger(*collate([BAGS["a"]]).tiles)
    masked = ours(collate([BAGS["a"]]), torch.Generator().manual_seed(2))
    drawn = picture(masked, 0)
    assert sorted(map(tuple, drawn.places.tolist())) == sorted(map(tuple, merged.places[0].tolist()))
    assert drawn.hidden.sum() == masked.hidden.mask.sum()
    assert (drawn.target[~drawn.hidden] == drawn.predicted[~drawn.hidden]).all()
    assert (drawn.target[drawn.hidden] != drawn.predicted[drawn.hidden]).any(1).all()


def begun(tmp_path):
    made = begin_autoencoder(BAGS, options=SETTINGS, mask_ratio=0.75, decoder_blocks=2, seed=3, train_slides=["a", "b"])
    save_pretrained(made, tmp_path / "model")
    return made


def test_a_stage_starts_from_a_pre_trained_compressor_with_a_fresh_reader(lm_folder, tmp_path):
    made = begun(tmp_path)
    wanted = SETTINGS | {"latents": 99, "adapter_width": 24}  # what the pre-training was built with wins
    model, other = (
        begin_model(
            lm_folder, "locpath", BAGS, start=tmp_path, k=4, seed=seed, settings=wanted | {"projector_width": 19},
            train_slides=["c"],
        )
        for seed in (5, 6)
    )  # fmt: skip
    for name, value in made.compressor.state_dict().items():
        assert torch.equal(model.compressor.state_dict()[name], value), name
    assert torch.equal(model.feature_mean, made.feature_mean) and torch.equal(model.feature_std, made.feature_std)
    assert model.config["k"] == 4 and model.config["options"]["latents"] == 7
    assert model.config["options"]["adapter_width"] == 24
    assert not torch.equal(model.reader.adapters[0].query.weight, other.reader.adapters[0].query.weight)


def test_a_pre_trained_compressor_is_no_model_that_answers(lm_folder, tmp_path):
    begun(tmp_path)
    with pytest.raises(ValueError, match="a pre-trained compressor, which answers nothing; give a folder of stage"):
        load_model(tmp_path / "model", lm_folder)


def test_features_of_another_width_are_refused(lm_folder, tmp_path):
    begun(tmp_path)
    wide = {"w": bag("w", 3, 3)._replace(x=np.ones((9, D + 1), dtype=np.float32))}
    with pytest.raises(ValueError, match=r"made for another model .*feature_mean: got \(13,\), expected \(14,\)"):
        begin_model(
            lm_folder, "locpath", wide, start=tmp_path, k=4, seed=5, settings=SETTINGS | {"projector_width": 19},
            train_slides=["w"],
        )  # fmt: skip
