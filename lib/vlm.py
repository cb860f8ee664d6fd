"""The vision-language model: compressor -> projector -> causal language model, visual tokens as a prefix.

    [head of the user's turn | visual tokens | the question ... | the answer]

Visual tokens claim the positions their compressor gives them; text starts at the end of the visual span. Any
`transformers` causal LM works: only `inputs_embeds`, `position_ids` and a four-dimensional mask are used.
"""

import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from lib.batch import Batch, collate
from lib.compressors import COMPRESSORS, Compressed
from lib.features import Bag
from lib.prompts import ChatFormat, Texts

MOST_SLIDES_FOR_STATISTICS = 200


class Prefix(NamedTuple):
    """Embedded visual tokens, ready for the language model."""

    embeds: Float[Tensor, "b m h"]
    mask: Bool[Tensor, "b m"]
    positions: Int[Tensor, "b m"]
    span: Int[Tensor, " b"]


class Projector(nn.Sequential):
    """Two linear maps with a GELU between, from tile features to the language model's embeddings (SlideChat)."""

    def __init__(self, d: int, hidden: int, h: int):
        super().__init__(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, h))


class VLM(nn.Module):
    """A compressor and a projector in front of a language model.

    Features are standardised per dimension (`fit_features`) and layer-normalised before any compressor sees them, the
    same for every method. The language model itself is frozen; `add_lora` lets it change.
    """

    def __init__(self, lm: nn.Module, tokenizer, compressor: nn.Module, *, d: int, projector_width: int):
        super().__init__()
        self.lm, self.tokenizer, self.compressor = lm, tokenizer, compressor
        self.projector = Projector(d, projector_width, lm.get_input_embeddings().embedding_dim)
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))
        self.chat = ChatFormat(tokenizer)
        self.lm.requires_grad_(False)

    def fit_features(self, batch: Batch) -> None:
        """Take each dimension's mean and standard deviation from these tiles (training slides only)."""
        tiles = batch.x[batch.mask]
        self.feature_mean.copy_(tiles.mean(0))
        self.feature_std.copy_(tiles.std(0, correction=0).clamp(min=1e-6))

    def compress(self, batch: Batch, generator: torch.Generator | None = None) -> Compressed:
        return self.compressor(self.normalise(batch), batch.coords, batch.mask, generator)

    def normalise(self, batch: Batch) -> Float[Tensor, "b n d"]:
        x = (batch.x - self.feature_mean) / self.feature_std
        return F.layer_norm(x, x.shape[-1:])

    def log_probs(self, compressed: Compressed, texts: Texts) -> Float[Tensor, "b t"]:
        """Log-probability of each answer token given the slide and its own prompt; 0 elsewhere."""
        return answer_log_probs(self.lm, self.chat.head, self.prefix(compressed), texts)

    def prefix(self, compressed: Compressed) -> Prefix:
        """Project a slide's tokens into the language model's embeddings."""
        c = compressed
        dtype = self.lm.get_input_embeddings().weight.dtype
        return Prefix(self.projector(c.tokens).to(dtype), c.mask, c.positions, c.span)

    def count(self, part: str) -> int:
        """Trainable parameters of "compressor", "projector" or "lm"."""
        return sum(p.numel() for p in getattr(self, part).parameters() if p.requires_grad)

    def forward(
        self, batch: Batch, texts: Texts, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, ""]]:
        """Log-probabilities of the answers' tokens, and the compressor's own loss."""
        compressed = self.compress(batch, generator)
        return self.log_probs(compressed, texts), compressed.aux_loss

    def add_lora(self, *, rank: int, alpha: int, dropout: float) -> None:
        """Put low-rank adapters on every linear map of the language model's blocks."""
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]), _without_peft_warnings():
            torch.manual_seed(self.recipe["seed"])
            self.lm = get_peft_model(self.lm, config)

    def ours(self) -> dict[str, Tensor]:
        """State of everything but the language model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("lm.")}


def answer_log_probs(lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts) -> Float[Tensor, "b t"]:
    """Log-probability of each answer token after [head | prefix | its prompt]; 0 elsewhere."""
    predicted = text_logits(lm, head, prefix, texts).float().log_softmax(-1)
    row = predicted.gather(1, texts.predictor.unsqueeze(-1).expand(-1, -1, predicted.shape[-1]))
    chosen = row.gather(-1, texts.ids.unsqueeze(-1)).squeeze(-1)
    return chosen * (texts.answer >= 0)


def text_logits(lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts) -> Float[Tensor, "b t v"]:
    """Run [head | prefix | texts] through the language model; the logits at the text's tokens."""
    embed = lm.get_input_embeddings()
    device, b = texts.ids.device, len(texts.ids)
    start = embed(torch.tensor(head, dtype=torch.long, device=device)).expand(b, -1, -1)
    embeds = torch.cat([start, prefix.embeds, embed(texts.ids)], dim=1)
    heads = torch.arange(len(head), device=device).expand(b, -1)
    after = (len(head) + prefix.span).unsqueeze(-1)
    positions = torch.cat([heads, len(head) + prefix.positions, after + texts.offset], dim=1)
    real = torch.cat([torch.ones_like(heads, dtype=torch.bool), prefix.mask], dim=1)
    out = lm(
        inputs_embeds=embeds,
        attention_mask=additive_mask(prefix_sees(real, texts.sees), embeds.dtype),
        position_ids=positions,
        logits_to_keep=texts.ids.shape[1],
        use_cache=False,
    )
    return out.logits


def prefix_sees(real: Bool[Tensor, "b m"], sees: Bool[Tensor, "b t t"]) -> Bool[Tensor, "b l l"]:
    """Who attends to whom: the prefix causally to itself, text to the whole prefix and as `sees` says.

    Every token sees itself, padding too: a row of nothing would be NaN in the softmax.
    """
    b, m = real.shape
    t = sees.shape[1]
    allowed = torch.zeros(b, m + t, m + t, dtype=torch.bool, device=real.device)
    allowed[:, :m, :m] = torch.ones(m, m, dtype=torch.bool, device=real.device).tril() & real.unsqueeze(1)
    allowed[:, m:, :m] = real.unsqueeze(1)
    allowed[:, m:, m:] = sees
    return allowed | torch.eye(m + t, dtype=torch.bool, device=real.device)


def additive_mask(allowed: Bool[Tensor, "b l l"], dtype: torch.dtype) -> Float[Tensor, "b 1 l l"]:
    """The mask as every attention backend of `transformers` takes it: 0 where allowed, the lowest number elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )[:, None]


def load_lm(path_or_id: str) -> tuple[nn.Module, object]:
    """Load any causal language model and its tokenizer by folder or hub id."""
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(path_or_id)
    return AutoModelForCausalLM.from_pretrained(path_or_id, dtype="auto"), tokenizer


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
        with _without_peft_warnings():
            model.lm = PeftModel.from_pretrained(model.lm, Path(folder) / "lora", is_trainable=True)
    return model.to(device).eval()


@contextmanager
def _without_peft_warnings() -> Iterator[None]:
    """peft asks a model for attributes by their former names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


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
