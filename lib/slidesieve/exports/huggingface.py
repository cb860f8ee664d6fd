"""A run as a Hugging Face model folder, which `AutoModel` loads where slidesieve is not installed.

config.json, modeling_slidesieve.py and what it imports (see `source`), model.safetensors (compressor, fusion, slide
encoder, feature statistics), lora/ (PEFT's format, not merged), tokenizer/, preprocessor_config.json, README.md,
lm/ (the language model: if it was tuned whole, or if asked for)
"""

import json
import shutil
from importlib import metadata
from pathlib import Path

import pandas as pd
from safetensors import safe_open
from transformers import AutoTokenizer

from slidesieve.exports.card import CardFacts, Told, card
from slidesieve.exports.configuration import SlideSieveConfig
from slidesieve.exports.modeling import LM, LORA, TOKENIZER, WEIGHTS
from slidesieve.exports.runs import Run, placed
from slidesieve.exports.source import Cut
from slidesieve.exports.whole_folder import whole_folder
from slidesieve.provenance.weights import WEIGHTS as WEIGHT_FILES
from slidesieve.provenance.weights import fingerprint, snapshot

KIND = "hf"
ROOTS = {
    "slidesieve.exports.modeling.SlideSieveModel": "modeling_slidesieve",
    "slidesieve.exports.configuration.SlideSieveConfig": "configuration_slidesieve",
}
ASKING = ("answer_form", "rotations", "max_tiles", "dtype")
OF_THE_LM = ("config.json", "generation_config.json", "*.index.json", "tokenizer*", "special_tokens_map.json")
OF_THE_LM += ("added_tokens.json", "vocab*", "merges.txt", "*.model", "*.jinja", "LICENSE*")


def publish(run: Run, out: Path, *, command: str, include_lm: bool = False) -> list[str]:
    """Write the folder; say what was written. Raises ValueError, before any is, for a run that cannot be published."""
    own = (run.checkpoint / "model" / LM).is_dir()
    with whole_folder(out, KIND) as aside:
        base, tiles = language_model(run), encoder_of(run)
        for name, text in source_of(run).items():
            (aside / name).write_text(text, encoding="utf-8")
        copy_model(run, aside)
        tokenizer = AutoTokenizer.from_pretrained(run.checkpoint / "model" / LM if own else base)
        tokenizer.save_pretrained(aside / TOKENIZER)
        if include_lm and not own:
            copy_lm(base, aside / LM)
        _write_json(aside / "config.json", config_of(run, own_lm=own))
        _write_json(aside / "preprocessor_config.json", tiles)
        included = "tuned whole, in the folder" if own else "in the folder" if include_lm else "given at load"
        text = card(run, CardFacts(Told.of(run), tiles, included, own or include_lm, command, out.name))
        (aside / "README.md").write_text(text, encoding="utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return [f"{run.method}, k {run.k}, seed {run.seed}: {size / 1e6:.1f} MB, language model {included}"]


def language_model(run: Run) -> str:
    """The base model's folder or id. Raises ValueError for one whose weights are not those that were trained with."""
    given, model = run.given["lm"], run.model["lm"]
    path = str(placed(given, run.root, of=f"lm of {run.folder}")) if _is_folder(given, run) else given
    if fingerprint(path) != model["weights"]:
        raise ValueError(
            f"{path}: other weights than {model['name']} ({model['weights']}); give back those trained with"
        )
    return path


def source_of(run: Run) -> dict[str, str]:
    """File name -> text of the code that the folder needs, cut out of this package."""
    picks = {name: frozenset({run.model[name]}) for name in ("compressor", "slide_encoder")}
    return Cut(ROOTS, picks, version=f"slidesieve {metadata.version('slidesieve')}").files()


def copy_model(run: Run, folder: Path) -> None:
    """Weights as they were trained: the very files."""
    model = run.checkpoint / "model"
    shutil.copyfile(model / WEIGHTS, folder / WEIGHTS)
    if (model / LM).is_dir():
        shutil.copytree(model / LM, folder / LM)
    if (model / LORA).is_dir():
        shutil.copytree(model / LORA, folder / LORA, ignore=shutil.ignore_patterns("README.md"))


def copy_lm(base: str, folder: Path) -> None:
    """The base model's files, of its weights the kind that is fingerprinted, links followed."""
    source = Path(base) if Path(base).is_dir() else snapshot(base)
    folder.mkdir()
    weights = next(found for kind in WEIGHT_FILES if (found := list(source.glob(kind))))
    for file in sorted({*weights, *(file for kind in OF_THE_LM for file in source.glob(kind))}):
        shutil.copyfile(file, folder / file.name)


def config_of(run: Run, *, own_lm: bool) -> dict:
    """What `config.json` says (`configuration`)."""
    places = {full.rpartition(".")[2]: file for full, file in ROOTS.items()}
    modules = {f"Auto{made.removeprefix('SlideSieve')}": f"{file}.{made}" for made, file in places.items()}
    return {
        "model_type": SlideSieveConfig.model_type,
        "architectures": ["SlideSieveModel"],
        "auto_map": modules,
        "model": run.model,
        "own_lm": own_lm,
        "asking": {name: run.given[name] for name in ASKING},
        "transformers_version": metadata.version("transformers"),
    }


def encoder_of(run: Run) -> dict:
    """What tiles and features must be: as the feature file of a slide that was answered about says; null: not said."""
    slides = pd.read_csv(run.folder / "answers.csv", usecols=["Slide"], dtype=str)["Slide"].unique().tolist()
    bags = run.bags(slides)
    if not len(bags):
        raise ValueError(f"{run.folder}: no slide that was asked about has features; expected some; put them back")
    attrs = bags[next(iter(bags))].attrs
    with safe_open(run.checkpoint / "model" / WEIGHTS, framework="np") as weights:
        width = weights.get_slice("feature_mean").get_shape()[0]
    standardised = "feature_mean and feature_std of model.safetensors, then layer norm over a tile's numbers"
    return {
        "encoder": attrs.get("encoder"),
        **{name: value for name, value in attrs.items() if name.startswith("encoder_")},
        "feature_width": width,
        "tile_px": attrs.get("patch_size"),
        "tile_size_um": attrs.get("tile_size_um"),
        "mpp": attrs.get("mpp"),
        "feature_normalisation": standardised if run.model["standardise"] else None,
        "coords": "top-left corners, level-0 pixels",
    }


def _is_folder(given: str, run: Run) -> bool:
    return given.startswith(("~/", "DATA_ROOT/", "/")) or (run.root / given).exists()


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, default=lambda value: value.item()) + "\n", encoding="utf-8")
