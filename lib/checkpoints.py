"""Models on disk: what a training stage begins with, what it leaves, and how it is rebuilt."""

import inspect
import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from lib.batch import collate
from lib.compressors import COMPRESSORS
from lib.features import Bag
from lib.prefix_lm import load_lm
from lib.vlm import VLM, without_peft_warnings

MOST_SLIDES_FOR_STATISTICS = 200


def begin_model(
    lm_path: str,
    compressor: str,
    bags: dict[str, Bag],
    *,
    start: Path | None,
    k: int,
    seed: int,
    settings: dict,
    projector_width: int,
    train_slides: list[str],
) -> VLM:
    """The model a training stage begins with: fresh, or an earlier stage's projector (and compressor, if the same).

    `settings` are options for any compressor; each takes those that it knows. An earlier stage's options win. A fresh
    model takes its feature statistics from the bags of `train_slides`.
    """
    d = next(iter(bags.values())).x.shape[1]
    if start is None:
        options = _known_options(compressor, settings)
        model = build_vlm(lm_path, compressor, d=d, k=k, seed=seed, options=options, projector_width=projector_width)
        model.fit_features(collate([bags[slide] for slide in train_slides[:MOST_SLIDES_FOR_STATISTICS]]))
        return model
    before = json.loads((start / "model" / "model.json").read_text())
    same = before["compressor"] == compressor
    options = before["options"] if same else _known_options(compressor, settings)
    width = before["projector_width"]
    model = build_vlm(lm_path, compressor, d=d, k=k, seed=seed, options=options, projector_width=width)
    start_from(model, start / "model")
    return model


def build_vlm(lm_path: str, compressor: str, *, d: int, k: int, seed: int, options: dict, projector_width: int) -> VLM:
    """A fresh model: weights of the compressor and projector drawn from `seed`."""
    lm, tokenizer = load_lm(lm_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _class_of(compressor)(d, k, seed=seed, **options)
        model = VLM(lm, tokenizer, module, d=d, projector_width=projector_width)
    model.recipe = {
        "compressor": compressor,
        "k": k,
        "seed": seed,
        "d": d,
        "options": options,
        "projector_width": projector_width,
    }
    return model


def _class_of(compressor: str) -> type[nn.Module]:
    if compressor not in COMPRESSORS:
        raise ValueError(f"compressor: got {compressor!r}; expected one of {sorted(COMPRESSORS)}")
    return COMPRESSORS[compressor]


def _known_options(compressor: str, settings: dict) -> dict:
    known = inspect.signature(_class_of(compressor)).parameters
    return {name: value for name, value in settings.items() if name in known}


def save_model(model: VLM, folder: Path) -> None:
    """Write what we trained: compressor and projector, LoRA adapters if any, and how to rebuild them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.ours().items()}, folder / "model.safetensors")
    if isinstance(model.lm, PeftModel):
        model.lm.save_pretrained(folder / "lora")
    (folder / "model.json").write_text(json.dumps(model.recipe, indent=1))


def load_model(folder: Path, lm_path: str, *, device: str = "cpu") -> VLM:
    """Rebuild a saved model on a language model given by folder or id; ready for evaluation."""
    recipe = json.loads((Path(folder) / "model.json").read_text())
    model = build_vlm(lm_path, recipe.pop("compressor"), **recipe)
    fresh = start_from(model, folder)
    if fresh:
        raise ValueError(f"{folder}: incomplete, no {fresh}; rerun the stage that wrote it")
    if (Path(folder) / "lora").exists():
        with without_peft_warnings():
            model.lm = PeftModel.from_pretrained(model.lm, Path(folder) / "lora", is_trainable=True)
    return model.to(device).eval()


def start_from(model: VLM, folder: Path) -> list[str]:
    """Start from an earlier stage's weights; return the names of the tensors that stay fresh.

    Projector and feature statistics must fit. The compressor's weights are taken if the same method wrote them: after
    the all-tile alignment, a stage begins with a trained projector and a new compressor.
    """
    saved = load_file(Path(folder) / "model.safetensors")
    if json.loads((Path(folder) / "model.json").read_text())["compressor"] != model.recipe["compressor"]:
        saved = {name: value for name, value in saved.items() if not name.startswith("compressor.")}
    own = model.ours()
    wrong = [
        f"{name}: got {tuple(value.shape)}, expected {tuple(own[name].shape) if name in own else 'no such tensor'}"
        for name, value in saved.items()
        if name not in own or own[name].shape != value.shape
    ]
    if wrong:
        raise ValueError(f"{folder}: made for another model ({'; '.join(wrong)}); rerun the stage that wrote it")
    model.load_state_dict(saved, strict=False)
    return sorted(set(own) - set(saved))
