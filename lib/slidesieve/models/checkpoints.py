"""Models on disk: what a training stage begins with, what it leaves, and how it is rebuilt."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.features.bag import Bag, Batch, collate, linspace_cap
from slidesieve.models.fusion import fusion_of
from slidesieve.models.language_model import load_lm
from slidesieve.models.longnet import SLIDE_ENCODERS
from slidesieve.models.options import all_options_of, check_options, options_of
from slidesieve.models.positions import PositionIds
from slidesieve.models.vlm import VLM, without_peft_warnings
from slidesieve.provenance.files import read_json
from slidesieve.provenance.weights import fingerprint

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
    config = {
        "d": next(iter(bags.values())).x.shape[1],
        "k": k,
        "seed": seed,
        "options": _known_options(compressor, settings),
    }
    config |= {name: settings[name] for name in (*OF_THE_START, *OF_THE_STAGE) if name in settings}
    place = {"dtype": dtype, "device": device}
    if start is None:
        model = build_vlm(lm_path, compressor, **config, **place)
        if model.standardise:
            model.fit_features(statistics_batch(bags, train_slides))
        return model
    before = read_json(start / "model" / "model.json")
    config |= {name: before[name] for name in (*OF_THE_START, "chat", "lm") if name in before}
    if before["compressor"] == compressor:
        config["options"] = config["options"] | before["options"]
    model = _with_own_lm(start / "model", lm_path, compressor, config | place)
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
    _call(language_model, tokenizer, base["name"])
    shape = {"chat_template": chat_template, "standardise": standardise}
    shape |= {"position_ids": position_ids, "position_span": position_span}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = {name: value for name, value in options.items() if name in options_of(_class_of(compressor))}
        module = _class_of(compressor)(d, k, seed=seed, **own)
        encoder = _slide_encoder(slide_encoder, d)
        rest = {name: value for name, value in options.items() if name not in own}
        size = {"d": d, "k": k, "projector_width": projector_width}
        fusion = fusion_of(_class_of(compressor)).between(language_model, module, **size, **rest)
        model = VLM(language_model, tokenizer, module, fusion, d=d, slide_encoder=encoder, chat=chat, **shape)
    model.config = {"compressor": compressor, "k": k, "seed": seed, "d": d, "options": options} | shape
    model.config["projector_width"] = projector_width
    model.config |= {"slide_encoder": slide_encoder, "chat": model.chat.rendered, "lm": base}
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


def _call(language_model: nn.Module, tokenizer, name: str) -> None:
    """Libraries write down what a model was loaded from with whatever they save: a name, no path of this machine's."""
    language_model.name_or_path = language_model.config.name_or_path = tokenizer.name_or_path = name


def statistics_batch(bags: Mapping[str, Bag], slides: list[str]) -> Batch:
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


def save_model(model: VLM, folder: Path) -> None:
    """Write what we trained and how to rebuild it: compressor, projector, and LoRA adapters or the language model."""
    write_parts(model.ours(), model.config, folder)
    if hasattr(model.lm, "peft_config"):
        for adapter in model.lm.peft_config.values():
            adapter.base_model_name_or_path = model.config["lm"]["name"]
            adapter.target_modules = sorted(adapter.target_modules)  # a set, written in another order by each process
        model.lm.save_pretrained(folder / "lora", save_embedding_layers=False)  # never resized; "auto" asks the hub
    elif model.own_lm:
        model.lm.save_pretrained(folder / "lm", max_shard_size="5GB")
        model.tokenizer.save_pretrained(folder / "lm")


def write_parts(tensors: dict[str, Tensor], config: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(config, indent=1))


def load_model(folder: Path, lm_path: str, *, device: str = "cpu", dtype: str = "auto") -> VLM:
    """Rebuild a saved model on a language model given by folder or id; ready for evaluation."""
    config = read_json(Path(folder) / "model.json")
    if "projector_width" not in config:
        raise ValueError(f"{folder}: a pre-trained compressor, which answers nothing; give a folder of stage 40 or 50")
    model = _with_own_lm(Path(folder), lm_path, config.pop("compressor"), config | {"dtype": dtype, "device": device})
    fresh = start_from(model, folder)
    if fresh:
        raise ValueError(f"{folder}: incomplete, no {fresh}; rerun the stage that wrote it")
    if (Path(folder) / "lora").exists():
        from peft import PeftModel  # seconds to import

        with without_peft_warnings():
            model.lm = PeftModel.from_pretrained(model.lm, Path(folder) / "lora", is_trainable=True)
    return model.to(device).eval()


def _with_own_lm(folder: Path, lm_path: str, compressor: str, config: dict) -> VLM:
    """A fresh model around the language model that was tuned in full, if the folder holds one."""
    own = folder / "lm"
    if not own.exists():
        return build_vlm(lm_path, compressor, **config)
    model = build_vlm(str(own), compressor, **(config | {"lm": None}))
    model.config["lm"], model.own_lm = config["lm"], True  # what it grew from
    _call(model.lm, model.tokenizer, config["lm"]["name"])
    return model


def start_from(model: VLM, folder: Path) -> list[str]:
    """Start from an earlier stage's weights; return the names of the tensors that stay fresh.

    Feature statistics and what is taken must fit. The compressor's weights are taken if the same method wrote them, a
    fusion's also if it serves any: after the all-tile alignment, a stage begins with a trained projector and a new
    compressor.
    """
    saved = load_file(Path(folder) / "model.safetensors")
    if read_json(Path(folder) / "model.json")["compressor"] != model.config["compressor"]:
        served = set(model.fusion.parts()) if model.fusion.serves_any else set()
        served |= {"feature_mean", "feature_std", "slide_encoder"}
        saved = {name: value for name, value in saved.items() if name.split(".")[0] in served}
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
