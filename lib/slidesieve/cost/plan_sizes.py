"""The model that a stage will train or ask, before there is one: its sizes, and what of it learns.

Parts are built without memory for their weights, so that they are counted as they will be. A language model is known
by its configuration, from its folder or the hub's cache; by a table, for the presets' own; or not at all.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.cost.methods import Decoder, Method, Sizes, visual_tokens
from slidesieve.cost.models import decoder
from slidesieve.cost.plan_work import Item
from slidesieve.models.checkpoints import SLIDE_ENCODERS
from slidesieve.models.fusion import fusion_of
from slidesieve.models.options import all_options_of, defaults_of, options_of

KNOWN = {"qwen/qwen2.5-7b-instruct": "qwen2.5-7b"}  # hub id -> a name of slidesieve.cost.models
KEPT = ("projector_width", "slide_encoder", "chat_template")  # what a model keeps of the stage that it starts from


class LanguageModel(NamedTuple):
    """A causal language model by its sizes; `lora_sides` is the sum of in + out over its blocks' linear maps."""

    decoder: Decoder
    parameters: int
    lora_sides: int
    shell: nn.Module  # without memory for its weights


class Model(NamedTuple):
    """What a stage trains or asks. `parameters` are of each part; `learns` those of them that this stage changes."""

    lm: LanguageModel
    method: Method
    sizes: Sizes  # for no tiles and no text as yet
    parameters: dict[str, int]
    learns: dict[str, int]
    scores: bool  # a scorer: soft in training, hard at inference
    lora_rank: int
    window: int = 2  # side of the windows whose tiles are merged, where any are

    @property
    def learnt(self) -> int:
        return sum(self.learns.values())


@lru_cache(maxsize=8)
def language_model(path_or_id: str) -> LanguageModel | None:
    """Open a language model's configuration, asking no network; None where nothing is known of it."""
    try:
        config = AutoConfig.from_pretrained(path_or_id, local_files_only=True)
    except (OSError, ValueError):
        known = KNOWN.get(path_or_id.lower())
        with torch.device("meta"):
            return described(decoder(known, torch.bfloat16)) if known else None
    with torch.device("meta"):
        return described(AutoModelForCausalLM.from_config(config))


def described(lm: nn.Module) -> LanguageModel:
    config, head = lm.config.get_text_config(), lm.get_output_embeddings()
    maps = [m.weight.shape for m in lm.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    heads = config.num_attention_heads
    sizes = Decoder(
        config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        config.num_hidden_layers, heads, getattr(config, "num_key_value_heads", None) or heads, config.vocab_size,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        matrices=sum(a * b for a, b in maps),
    )  # fmt: skip
    return LanguageModel(sizes, sum(p.numel() for p in lm.parameters()), sum(a + b for a, b in maps), lm)


def model_of(values: Mapping[str, object], lm: LanguageModel, *, d: int, rates: Mapping[str, float]) -> Model:
    """Describe the model of a stage's values (see `inherited`), where parts with a rate above 0 learn."""
    name, k, rank = str(values["compressor"]), int(values.get("k", 0)), int(values.get("lora_rank", 0))
    with torch.device("meta"):
        parts = {"compressor": COMPRESSORS[name](d, k, seed=0, **_options(COMPRESSORS[name], values))}
        made = fusion_of(COMPRESSORS[name])
        size = {"d": d, "k": k, "projector_width": int(values["projector_width"])}
        fusion = made.between(lm.shell, parts["compressor"], **size, **_options(made, values))
        parts |= fusion.parts()
        if encoder := SLIDE_ENCODERS[str(values["slide_encoder"])]:
            parts["slide_encoder"] = encoder(d)
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    rates = {**dict.fromkeys(fusion.parts(), rates.get("projector", 0.0)), **rates}
    counts["lm"] = lm.parameters if values.get("train_lm") == "full" else rank * lm.lora_sides
    given = {option: values.get(option, default) for option, default in defaults_of(name).items()}
    return Model(
        lm, Method(name, str(values["slide_encoder"])),
        Sizes(0, k, 0, d=d, projector_width=size["projector_width"]).with_options(given), counts,
        {part: n for part, n in counts.items() if n and rates.get(part)},
        COMPRESSORS[name].softens, rank,
        int(values.get("window", 2)),
    )  # fmt: skip


def rates_of(kind: str, values: Mapping[str, object]) -> dict[str, float]:
    """Each part's learning rate, as notebooks 40 and 50 give them to the optimiser."""
    named = {part: values.get(f"lr_{part}", 0.0) for part in ("projector", "compressor", "slide_encoder", "reader")}
    if kind == "40" and values["compressor"] == "all":
        return {"projector": values["lr_alignment"], "slide_encoder": named["slide_encoder"]}
    return named | {"lm": values.get("lr_lora", 0.0)}


def inherited(values: Mapping[str, object], before: Mapping[str, object]) -> dict[str, object]:
    """A stage's values where it starts from another's model: what that was built with wins."""
    if "compressor" not in values:  # it answers, by the other's model
        return {**before, **values}
    kept = {name: before[name] for name in KEPT if name in before}
    if before.get("compressor") == values["compressor"]:
        kept |= {name: before[name] for name in all_options_of(str(values["compressor"])) if name in before}
    return {**values, **kept}


def saved_values(folder: Path) -> dict[str, object]:
    """What a finished stage's model was built with; nothing where there is none."""
    path = folder / "model" / "model.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return config | config.pop("options", {})


def _options(made: type[nn.Module], values: Mapping[str, object]) -> dict[str, object]:
    return {name: values[name] for name in options_of(made) if name in values}


def seen_tokens(model: Model, item: Item, *, cap: int, soft: bool) -> int:
    """Visual tokens of one item, `soft` as in training."""
    return visual_tokens(model.method, sizes_at(model, item, 0, cap), training=soft)


def passes(model: Model, *, wrong_slide: bool = False) -> list[bool]:
    """The passes of one reading, True as in training: hard; from another slide; soft where tiles are scored."""
    again = wrong_slide and COMPRESSORS[model.method.compressor].kind != "sees nothing"
    return [False, *([False] if again else []), *([True] if model.scores else [])]


def sizes_at(model: Model, item: Item, head: int, cap: int) -> Sizes:
    n = min(item.tiles, cap)
    return model.sizes._replace(n=n, text=head + item.text, windows=math.ceil(n / model.window**2))
