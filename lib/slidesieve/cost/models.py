"""The models whose cost is measured: a decoder of random weights, and ours in front of it or in it.

Weights, words and slides are noise: neither operations nor seconds nor bytes depend on what they are.
"""

from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from slidesieve.compressors.result import Compressor
from slidesieve.cost.methods import Decoder, Sizes, method_named
from slidesieve.features.bag import Bag, make_bag
from slidesieve.models.fusion import Fusion
from slidesieve.models.language_model import leave_out_cudnn_attention
from slidesieve.models.longnet import SLIDE_ENCODERS
from slidesieve.models.options import own_options
from slidesieve.models.vlm import VLM

# "small" keeps Qwen2's shape (feed-forward of several widths, grouped keys) at a size that a CPU trains at 4,096 tokens
DECODERS = {
    "tiny": Decoder(width=128, ffn=512, layers=4, heads=4, kv_heads=2, vocabulary=4096),
    "small": Decoder(width=512, ffn=2048, layers=12, heads=8, kv_heads=2, vocabulary=8192),
    "qwen2.5-7b": Decoder(width=3584, ffn=18_944, layers=28, heads=28, kv_heads=4, vocabulary=152_064),
}
TILE_PX0 = 224


class Case(NamedTuple):
    """One measurement: n tiles of width d (also of latents), k tokens, text tokens in all, medians of `repeats`."""

    method: str
    decoder: str
    what: str
    n: int
    k: int
    text: int
    latents: int = 128
    d: int = 512
    scorer_attention: str = "global"
    lora_rank: int = 64
    recompute: bool = False  # blocks of the language model in the backward pass
    repeats: int = 3
    device: str = "cpu"
    threads: int = 1
    force: bool = False  # also a large decoder on a CPU

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            self.n, self.k, self.text, d=self.d, projector_width=DECODERS[self.decoder].width,
            scorer_attention=self.scorer_attention, latents=self.latents, latent_width=self.d,
        )  # fmt: skip


def build(case: Case) -> VLM:
    """The model as `checkpoints.build_vlm` makes it, where it will run: bf16 decoder on a GPU, float32 on a CPU."""
    torch.manual_seed(0)
    with torch.device(case.device):
        lm = decoder(case.decoder, torch.bfloat16 if case.device == "cuda" else torch.float32)
    encoder, compressor, fusion = made_of(case, lm)
    model = VLM(lm, words(), compressor, fusion, d=case.d, slide_encoder=encoder)
    model.config = {"compressor": method_named(case.method).compressor, "k": case.k, "seed": 0}
    return model.to(case.device)


def decoder(name: str, dtype: torch.dtype) -> nn.Module:
    leave_out_cudnn_attention()
    width, ffn, layers, heads, kv_heads, vocabulary = DECODERS[name][:6]
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, rope_theta=1e6, tie_word_embeddings=False,
        max_position_embeddings=65_536,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def made_of(case: Case, lm: nn.Module) -> tuple[nn.Module | None, Compressor, Fusion]:
    """Slide encoder, compressor and fusion of a case."""
    method, s = method_named(case.method), case.sizes
    encoder = SLIDE_ENCODERS[method.slide_encoder]
    made, fusion = method.made_by, method.carried_by
    compressor = made(s.d, s.k, **own_options(made, s.options))
    size = {"d": s.d, "k": s.k, "projector_width": s.projector_width}
    carried = fusion.between(lm, compressor, **size, **own_options(fusion, s.options))
    return encoder(s.d) if encoder else None, compressor, carried


def parts_of(case: Case, lm: nn.Module) -> dict[str, nn.Module]:
    """Everything of ours, by the names that `flops.forward` gives."""
    encoder, compressor, fusion = made_of(case, lm)
    parts = {"slide encoder": encoder} if encoder else {}
    return parts | {"compressor": compressor} | {fusion.name: nn.ModuleDict(fusion.parts())}


def parameters(case: Case) -> dict[str, int]:
    """Parameters of each part, language model included, counted without any memory for them."""
    with torch.device("meta"):
        lm = decoder(case.decoder, torch.float32)
        parts = parts_of(case, lm) | {"language model": lm}
    return {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}


def slide(n: int, d: int) -> Bag:
    """Noise on a full grid, about as wide as high."""
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    columns = 2 * max(1, round(n**0.5 / 2))
    row, column = np.divmod(np.arange(n), columns)
    return make_bag("slide", x, TILE_PX0 * np.stack([column, row], axis=1), {})


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of one-letter words: a token each."""
    names = {name: i for i, name in enumerate(("<end>", "<user>", "<assistant>", "a"))}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}<user> {{ m.content }} {% endfor %}<assistant> "
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", chat_template=template)


def prompt_of(model: VLM, tokens: int) -> str:
    """A question that makes so many text tokens in all, those of the chat turn around it included."""
    around = len(model.chat.head) + len(model.chat.turn("", []).prompt)
    if tokens <= around:
        raise ValueError(f"cost: got {tokens} text tokens; expected more than the chat turn's own {around}")
    return " ".join(["a"] * (tokens - around))
