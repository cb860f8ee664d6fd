"""Models on disk: what a training stage begins with, what it leaves, and how it is rebuilt."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lib.batch import Batch, collate, linspace_cap
from lib.compressors.locpath import LoCPath
from lib.compressors.registry import COMPRESSORS, SLIDE_ENCODERS
from lib.features import Bag
from lib.language_model import load_lm
from lib.latent_reader import LatentReader
from lib.mae import MaskedAutoencoder
from lib.method_options import all_options_of, check_options, defaults_of, options_of
from lib.positions import PositionIds
from lib.vlm import VLM, without_peft_warnings
from lib.weight_hashes import fingerprint

MOST_SLIDES_FOR_STATISTICS = 200
OF_THE_STAGE = ("position_ids", "position_span")
OF_THE_START = ("projector_width", "slide_encoder", "chat_template", "standardise")
MOST_TILES_FOR_STATISTICS = 2048  # of each slide, evenly spaced


def begin_model(
    lm_path: str,
    compressor: str,
    bags: Mapping[str, Bag],
    *,
    start: Path | None,
    k: int,
    seed: int,
    settings: dict,
    train_slides: list[str],
    dtype: str = "auto",
    device: str = "cpu",
) -> VLM:
    """The model a training stage begins with: fresh, or an earlier stage's parts (the compressor only if the same).

    `settings` are options for any part of any model; each takes those that it knows, and the compressor all of
    `settings["options"]`, which must be its own. What an earlier stage was built
    with wins, but for positions, which no weight's shape depends on. A fresh model takes its feature statistics from
    the bags of the first of `train_slides` (`site_order.over_sites` puts them in an order that serves).
    """
    recipe = {
        "d": next(iter(bags.values())).x.shape[1],
        "k": k,
        "seed": seed,
        "options": _known_options(compressor, settings),
    }
    recipe |= {name: settings[name] for name in (*OF_THE_START, *OF_THE_STAGE) if name in settings}
    place = {"dtype": dtype, "device": device}
    if start is None:
        model = build_vlm(lm_path, compressor, **recipe, **place)
        if model.standardise:
            model.fit_features(_sample(bags, train_slides))
        return model
    before = json.loads((start / "model" / "model.json").read_text())
    recipe |= {name: before[name] for name in (*OF_THE_START, "chat", "lm") if name in before}
    if before["compressor"] == compressor:
        recipe["options"] = recipe["options"] | before["options"]
    model = _with_own_lm(start / "model", lm_path, compressor, recipe | place)
    start_from(model, start / "model")
    return model


def build_vlm(
    lm_path: str,
    compressor: str,
    *,
    d: int,
    k: int,
    seed: int,
    options: dict,
    projector_width: int,
    slide_encoder: str = "none",
    chat_template: str = "own",
    position_ids: PositionIds = "original",
    position_span: int = 4096,
    standardise: bool = True,
    chat: dict[str, str] | None = None,
    lm: dict[str, str] | None = None,
    dtype: str = "auto",
    device: str = "cpu",
) -> VLM:
    """A fresh model: weights of all parts but the language model's drawn from `seed`.

    `chat` is the chat turn as an earlier stage rendered it, `lm` the language model that it was trained with.
    """
    language_model, tokenizer = load_lm(lm_path, dtype=dtype, device=device)
    base = same_lm(lm_path, lm)
    parts = {"projector_width": projector_width, "chat_template": chat_template, "standardise": standardise}
    parts |= {"position_ids": position_ids, "position_span": position_span}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = {name: value for name, value in options.items() if name in options_of(_class_of(compressor))}
        module = _class_of(compressor)(d, k, seed=seed, **own)
        reader = None
        if _read_by_adapters(compressor):
            rest = {name: value for name, value in options.items() if name not in own}
            reader = LatentReader(language_model, module.width, k, **rest)
        encoder = _slide_encoder(slide_encoder, d)
        model = VLM(language_model, tokenizer, module, d=d, **parts, slide_encoder=encoder, reader=reader, chat=chat)
    model.recipe = {"compressor": compressor, "k": k, "seed": seed, "d": d, "options": options} | parts
    model.recipe |= {"slide_encoder": slide_encoder, "chat": model.chat.rendered, "lm": base}
    return model


def same_lm(lm_path: str, before: dict[str, str] | None) -> dict[str, str]:
    """The language model's name and the fingerprint of its weights; ValueError if those of `before` are others."""
    now = {"name": Path(lm_path).name if Path(lm_path).is_dir() else lm_path, "weights": fingerprint(lm_path)}
    if before is not None and before["weights"] != now["weights"]:
        raise ValueError(
            f"trained with the language model {before['name']} (weights {before['weights']}), got {lm_path} "
            f"(weights {now['weights']}); give the one it was trained with, or train again"
        )
    return now


def _sample(bags: Mapping[str, Bag], slides: list[str]) -> Batch:
    """What feature statistics are taken from."""
    known = sorted(slides[:MOST_SLIDES_FOR_STATISTICS])
    return collate([linspace_cap(bags[slide], MOST_TILES_FOR_STATISTICS) for slide in known])


def _slide_encoder(name: str, d: int) -> nn.Module | None:
    if name not in SLIDE_ENCODERS:
        raise ValueError(f"slide_encoder: got {name!r}; expected one of {sorted(SLIDE_ENCODERS)}")
    made = SLIDE_ENCODERS[name]
    return made(d) if made else None


def _class_of(compressor: str) -> type[nn.Module]:
    if compressor not in COMPRESSORS:
        raise ValueError(f"compressor: got {compressor!r}; expected one of {sorted(COMPRESSORS)}")
    return COMPRESSORS[compressor]


def _known_options(compressor: str, settings: dict) -> dict:
    """A compressor's own `options`, checked, and those of the other settings that are an option of it, too."""
    _class_of(compressor)
    known, own = all_options_of(compressor), settings.get("options", {})
    check_options(known, own, of=compressor)
    return {name: value for name, value in settings.items() if name in known} | own


def _read_by_adapters(compressor: str) -> bool:
    return _class_of(compressor).read_by_adapters


def begin_autoencoder(
    bags: Mapping[str, Bag],
    *,
    options: dict,
    mask_ratio: float,
    decoder_blocks: int,
    seed: int,
    train_slides: list[str],
    standardise: bool = True,
) -> MaskedAutoencoder:
    """A fresh LoC-Path-style compressor and the decoder that pre-trains it; `options` are the compressor's."""
    d = next(iter(bags.values())).x.shape[1]
    check_options(all_options_of("locpath"), options, of="locpath")
    given = defaults_of("locpath") | options
    own = {name: given[name] for name in options_of(LoCPath)}
    shape = {"mask_ratio": mask_ratio, "decoder_blocks": decoder_blocks, "heads": own["resampler_heads"]}
    shape["standardise"] = standardise
    model = MaskedAutoencoder(LoCPath(d, own["latents"], seed=seed, **own), d, **shape, seed=seed)
    model.recipe = {"compressor": "locpath", "k": own["latents"], "seed": seed, "d": d, "options": own}
    model.recipe["standardise"] = standardise
    if standardise:
        model.fit_features(_sample(bags, train_slides))
    return model


def save_model(model: VLM, folder: Path) -> None:
    """Write what we trained and how to rebuild it: compressor, projector, and LoRA adapters or the language model."""
    _save(model.ours(), model.recipe, folder)
    if isinstance(model.lm, PeftModel):
        model.lm.save_pretrained(folder / "lora")
    elif model.own_lm:
        model.lm.save_pretrained(folder / "lm", max_shard_size="5GB")
        model.tokenizer.save_pretrained(folder / "lm")


def save_pretrained(model: MaskedAutoencoder, folder: Path) -> None:
    """Write a pre-trained compressor as a checkpoint to start from; its decoder is thrown away."""
    ours = {name: value for name, value in model.state_dict().items() if not name.startswith("decoder.")}
    _save(ours, model.recipe, folder)


def _save(tensors: dict[str, Tensor], recipe: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(recipe, indent=1))


def load_model(folder: Path, lm_path: str, *, device: str = "cpu", dtype: str = "auto") -> VLM:
    """Rebuild a saved model on a language model given by folder or id; ready for evaluation."""
    recipe = json.loads((Path(folder) / "model.json").read_text())
    if "projector_width" not in recipe:
        raise ValueError(f"{folder}: a pre-trained compressor, which answers nothing; give a folder of stage 40 or 50")
    model = _with_own_lm(Path(folder), lm_path, recipe.pop("compressor"), recipe | {"dtype": dtype, "device": device})
    fresh = start_from(model, folder)
    if fresh:
        raise ValueError(f"{folder}: incomplete, no {fresh}; rerun the stage that wrote it")
    if (Path(folder) / "lora").exists():
        with without_peft_warnings():
            model.lm = PeftModel.from_pretrained(model.lm, Path(folder) / "lora", is_trainable=True)
    return model.to(device).eval()


def _with_own_lm(folder: Path, lm_path: str, compressor: str, recipe: dict) -> VLM:
    """A fresh model around the language model that was tuned in full, if the folder holds one."""
    own = folder / "lm"
    if not own.exists():
        return build_vlm(lm_path, compressor, **recipe)
    model = build_vlm(str(own), compressor, **(recipe | {"lm": None}))
    model.recipe["lm"], model.own_lm = recipe["lm"], True  # what it grew from
    return model


def start_from(model: VLM, folder: Path) -> list[str]:
    """Start from an earlier stage's weights; return the names of the tensors that stay fresh.

    Projector and feature statistics must fit. The compressor's weights are taken if the same method wrote them: after
    the all-tile alignment, a stage begins with a trained projector and a new compressor.
    """
    saved = load_file(Path(folder) / "model.safetensors")
    if json.loads((Path(folder) / "model.json").read_text())["compressor"] != model.recipe["compressor"]:
        saved = {name: value for name, value in saved.items() if not name.startswith(("compressor.", "reader."))}
    if model.projector is None:  # an all-tile stage's, for a model that reads latents otherwise
        saved = {name: value for name, value in saved.items() if not name.startswith("projector.")}
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
