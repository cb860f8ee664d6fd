"""What a training stage begins with: statistics of training slides and of no other. What it leaves: no path in it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_vlm import D, K

from slidesieve.features.bag import collate, make_bag
from slidesieve.models.checkpoints import begin_model, load_model, save_model


def bag(name: str, n: int, *, mean: float):
    rng = np.random.default_rng(n)
    return make_bag(name, mean + (1 + n % 3) * rng.standard_normal((n, D)), np.zeros((n, 2), int), {})


BAGS = {b.slide_id: b for b in (bag("a", 41, mean=0), bag("b", 75, mean=3), bag("tested", 60, mean=99))}


@pytest.mark.parametrize("standardise", [True, False])
def test_feature_statistics_are_those_of_training_slides(lm_folder, standardise):
    settings = {"projector_width": 19, "standardise": standardise}
    model = begin_model(
        lm_folder, "mean", BAGS, start=None, k=K, seed=1, settings=settings, train_slides=["b", "a"]
    )  # fmt: skip
    tiles = np.concatenate([BAGS["a"].x, BAGS["b"].x]).astype(np.float32)
    mean, std = (tiles.mean(0), tiles.std(0)) if standardise else (np.zeros(D), np.ones(D))
    assert torch.allclose(model.feature_mean, torch.tensor(mean).float(), atol=1e-5)
    assert torch.allclose(model.feature_std, torch.tensor(std).float(), atol=1e-5)


def trained(lm_folder: str, how: str):
    model = begin_model(
        lm_folder, "mean", BAGS, start=None, k=K, seed=1, settings={"projector_width": 19}, train_slides=["b", "a"]
    )
    model.let_lm_learn(how, rank=2, alpha=4, dropout=0.0)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def text_of(folder: Path) -> str:
    return "".join(file.read_bytes().decode(errors="ignore") for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("how", ["lora", "full"])
def test_a_saved_model_holds_no_folder_of_this_machine_and_loads_in_any_other(lm_folder, tmp_path, monkeypatch, how):
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", None)  # nobody is asked
    model, name = trained(lm_folder, how), Path(lm_folder).name
    save_model(model, tmp_path / "saved")
    assert str(Path(lm_folder).parent) not in text_of(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/model.json").read_text())["lm"]["name"] == name
    if how == "lora":
        config = json.loads((tmp_path / "saved/lora/adapter_config.json").read_text())
        assert config["target_modules"] == sorted(config["target_modules"])  # the same bytes in every process
        assert config["base_model_name_or_path"] == name and f"base_model: {name}" in text_of(tmp_path / "saved/lora")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    shutil.copytree(lm_folder, tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    again = load_model(Path("../moved"), "../elsewhere")
    batch, ids = collate([BAGS["a"]]), torch.arange(7)[None]
    assert torch.equal(again.compress(batch).tokens, model.compress(batch).tokens)
    assert torch.equal(again.lm(input_ids=ids).logits, model.lm(input_ids=ids).logits)
    save_model(again, tmp_path / "again")
    text = text_of(tmp_path / "again")
    assert str(tmp_path) not in text and "../" not in text


def test_a_path_that_an_older_adapter_names_is_not_handed_on(lm_folder, tmp_path):
    save_model(trained(lm_folder, "lora"), tmp_path / "old")
    path = tmp_path / "old/lora/adapter_config.json"
    path.write_text(path.read_text().replace(f'"{Path(lm_folder).name}"', '"/home/someone/lm"'))
    assert "/home/someone/lm" in path.read_text()
    save_model(load_model(tmp_path / "old", lm_folder), tmp_path / "new")
    assert "/home/someone" not in text_of(tmp_path / "new")
