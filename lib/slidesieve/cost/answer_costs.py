"""Operations of answers: compressor, projector or adapters, and the language model on a question's prompt.

By the closed forms of `cost.flops`, from the model's own sizes and each slide's own tiles. Low-rank adapters count as
merged into the weights. Every question is counted as asked alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.cost import flops
from slidesieve.cost.methods import Decoder, Method, Sizes, visual_tokens
from slidesieve.datasets.questions import Question, prompt
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.fusion import fusion_of
from slidesieve.models.options import defaults_of
from slidesieve.models.vlm import VLM

TERA = 1e12


class AnswerCost(NamedTuple):
    """Means over the answers: tiles, visual tokens, text tokens, 10^12 operations, of these those between tokens."""

    n_tiles: float
    visual_tokens: float
    text_tokens: float
    tflops: float
    tflops_attention: float


def mean_cost(model: VLM, questions: Sequence[Question], bags: Mapping[str, Bag]) -> AnswerCost:
    """Average the cost of a prompt over the questions whose slide has a bag; nan if there are none.

    Operations are nan where the decoder's sizes are not of Qwen2's and Llama's kind.
    """
    method, lm, known = method_of(model), decoder_of(model), sizes_of(model)
    asked = [question for question in questions if question.slide_id in bags]
    slides = {s: (n_tiles(bags, s), n_windows(model, bags[s])) for s in {q.slide_id for q in asked}}
    rows = []
    for question in asked:
        n, windows = slides[question.slide_id]
        text = len(model.chat.head) + len(model.chat.turn(prompt(question), []).prompt)
        sizes = known._replace(n=n, text=text, windows=windows)
        total = flops.total(flops.forward(method, lm, sizes)) if lm else flops.Flops(np.nan, np.nan)
        seen = visual_tokens(method, sizes)
        rows.append((n, seen, text, total.total / TERA, total.attention / TERA))
    return AnswerCost(*(np.mean(rows, axis=0) if rows else [np.nan] * 5))


def method_of(model: VLM) -> Method:
    """The way that this model takes from tiles to the language model."""
    config, made = model.config, type(model.fusion)
    own = made is fusion_of(COMPRESSORS[config["compressor"]])
    fusion = "" if own else f"{made.__module__}.{made.__qualname__}"
    return Method(config["compressor"], config.get("slide_encoder", "none"), fusion)


def sizes_of(model: VLM) -> Sizes:
    """Every size of a model but the decoder's, for no tiles and no text as yet."""
    config = model.config
    sizes = Sizes(0, config["k"], 0, d=config["d"], projector_width=config["projector_width"])
    return sizes.with_options(defaults_of(config["compressor"]) | config["options"])


def decoder_of(model: VLM) -> Decoder | None:
    """The language model's sizes as its configuration names them, or None where it names others."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    sizes = [getattr(model.lm.config, name, None) for name in (*names, "vocab_size")]
    return None if None in sizes else Decoder(*sizes)


@torch.no_grad()
def n_windows(model: VLM, bag: Bag) -> int:
    """How many tokens the merger makes of a slide; 0 where there is none."""
    if not hasattr(model.compressor, "merger"):
        return 0
    batch = collate([bag]).to(model.feature_mean.device)
    return int(model.compressor.merger(model.encode(batch), batch.coords, batch.mask).mask.sum())
