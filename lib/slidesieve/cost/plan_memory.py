"""The most memory that a stage will need at one time, in closed form: on a GPU if it runs there, else main memory.

    training   language model + what is ours (4 bytes a parameter) + what learns (4 of gradient, 8 of moments)
               + what a part of a batch keeps for its backward pass + logits + mask
    reading    language model + ours + keys and values of a batch + one block's intermediates + logits + mask
    decoding   the same, of as many questions as a batch holds, each behind a prefix of its own, and one logit a word

A block of the decoder keeps, for each token, so many bytes of its width w, its keys' e and its feed-forward's f:

    float32    16 w + 8 e + 12 f    with low-rank adapters and dropout    64 w + 8 e + 20 f + 28 r
    bfloat16   12 w + 4 e +  6 f    (norms are taken in float32)          48 w + 4 e + 12 f + 14 r

Recomputing keeps a block's input, and one block at a time as above. All this was counted once for Qwen2 by its saved
tensors, as were the values of ours in KEPT. Neither a framework's own memory (about 1 GiB on a GPU) nor fragments are
in it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from slidesieve.cost.activations import kept_a_tile
from slidesieve.cost.methods import handed_on, visual_tokens
from slidesieve.cost.plan_sizes import Model
from slidesieve.cost.plan_work import Work
from slidesieve.models.token_budget import MOST_TEXT

# Values a tile and feature, kept for a backward pass; of a method without a row, as a run of it shows.
KEPT = {"slide_encoder": 46, "tcssa": 2, "locpath": 8, "mean": 2}
KEPT |= dict.fromkeys(("all", "random", "linspace", "blank", "text_only"), 1)
SCORER, DENOISER = 16, 18  # the same of a block of the scorer by its width, of the rest by the features'
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Load(NamedTuple):
    """A batch in its largest form: slides of n tiles and text tokens each, of these predicted, in so many answers."""

    slides: int
    n: int
    text: int
    predicted: int
    answers: int


def training_bytes(model: Model, load: Load, values: Mapping[str, object]) -> int:
    """Peak while this batch (or part of one) is learnt from."""
    b, lm = bytes_of(values), model.lm.decoder
    sizes = model.sizes._replace(n=load.n)
    seen = visual_tokens(model.method, sizes, training=True)
    tokens = load.slides * (seen + load.text)
    one, kept = block_bytes(model, values) * tokens, lm.width * b * tokens
    blocks = lm.layers * kept + one if values["gradient_checkpointing"] else lm.layers * one
    mask = b * load.slides * (seen + load.text) ** 2 if load.answers > 1 else 0
    logits = load.slides * load.predicted * lm.vocabulary * (b + 8)  # as computed, in float32, their gradient
    return weights(model, values) + 12 * model.learnt + ours_kept(model, load, values) + blocks + mask + logits


def reading_bytes(model: Model, load: Load, values: Mapping[str, object], *, training: int = 0) -> int:
    """Peak while a batch is validated or answered, soft path included; `training`: bytes of gradients and moments."""
    seen = visual_tokens(model.method, model.sizes._replace(n=load.n), training=model.scores)
    mask = 2 * bytes_of(values) * load.slides * load.text * (seen + load.text)
    return _passing(model, load, values, seen) + training + mask


def decoding_bytes(model: Model, load: Load, values: Mapping[str, object]) -> int:
    """Peak while open questions are answered word by word: the mask is of the first pass, where rows are padded."""
    seen = visual_tokens(model.method, model.sizes._replace(n=load.n), training=False)
    mask = (1 + bytes_of(values)) * load.slides * (seen + load.text) ** 2 if load.slides > 1 else 0
    return _passing(model, load, values, seen) + mask


def _passing(model: Model, load: Load, values: Mapping[str, object], seen: int) -> int:
    """Weights, and a batch's tokens (`seen` of them visual) on their way through, but for the mask."""
    b, lm = bytes_of(values), model.lm.decoder
    tokens = load.slides * (seen + load.text)
    cache = 2 * lm.layers * lm.keys * b * tokens
    block = (3 * lm.ffn + 8 * lm.width) * b * tokens
    tiles = load.slides * load.n * model.sizes.d * 4 * 12
    logits = load.slides * load.predicted * lm.vocabulary * (b + 4)
    return weights(model, values) + cache + max(block, tiles) + logits


def weights(model: Model, values: Mapping[str, object]) -> int:
    return model.lm.parameters * bytes_of(values) + 4 * sum(model.parameters.values())


def block_bytes(model: Model, values: Mapping[str, object]) -> int:
    """What one block of the decoder keeps of a token for its backward pass."""
    b, lm = bytes_of(values), model.lm.decoder
    if "lm" in model.learns:
        return (
            (64 if b == 4 else 48) * lm.width
            + 2 * b * lm.keys
            + (20 if b == 4 else 12) * lm.ffn
            + (7 * b * model.lora_rank)
        )
    return (16 if b == 4 else 12) * lm.width + 2 * b * lm.keys + 3 * b * lm.ffn


def ours_kept(model: Model, load: Load, values: Mapping[str, object]) -> int:
    """What lies between tiles and language model keeps, where it learns or passes gradients on."""
    s, compressor = model.sizes, model.method.compressor
    tile = KEPT["slide_encoder"] * s.d if "slide_encoder" in model.learns else 0
    if compressor == "sparselearn":
        tile += SCORER * s.scorer_layers * (s.scorer_width or s.d) + DENOISER * s.d
    else:
        tile += (KEPT[compressor] if compressor in KEPT else max(kept_a_tile(model.method, s), 1)) * s.d
    seen, (_, width) = (of(model.method, s._replace(n=load.n), training=True) for of in (visual_tokens, handed_on))
    projected = seen * (width + 2 * s.projector_width)
    share = 0.65 if values["mixed_precision"] == "bf16" else 1.0
    return round(4 * share * load.slides * (load.n * tile + projected))


def bytes_of(values: Mapping[str, object]) -> int:
    """Bytes of a number in the language model: as `dtype` says, else 2 on a GPU and 4 on a CPU."""
    if values.get("train_lm") == "full":
        return 4  # all that learns is kept in float32
    return BYTES.get(str(values.get("dtype", "")), 2 if values["device"] == "cuda" else 4)


def training_load(work: Work, batch: int, values: Mapping[str, object], head: int) -> Load:
    """The largest part of a batch: as many of the longest slides as the budget of tokens lets be."""
    load = _longest(work, values, head)
    return load._replace(slides=min(_fit(load, values), max(1, batch // int(values["processes"]))))


def reading_load(work: Work, values: Mapping[str, object], head: int) -> Load:
    """The largest batch of a validation, or of answers: all items of a slide behind one prefix, in chunks."""
    load, items = _longest(work, values, head), math.ceil(work.n / work.slides)
    together = max(1, min(items, MOST_TEXT // max(load.text - head, 1)))
    load = load._replace(
        text=head + together * (load.text - head), predicted=together * load.predicted, answers=together * load.answers
    )
    return load._replace(slides=min(_fit(load, values), work.slides))


def decoding_load(work: Work, values: Mapping[str, object], head: int) -> Load:
    """The largest batch of open questions: each is a row, its words at most as many as it may have."""
    load = _longest(work, values, head)._replace(predicted=1)
    return load._replace(slides=min(_fit(load, values), work.n))


def _longest(work: Work, values: Mapping[str, object], head: int) -> Load:
    sample = work.sample
    return Load(
        1, min(max(item.tiles for item in sample), int(values["max_tiles"])), head + max(item.text for item in sample),
        max(item.predicted for item in sample), max(item.answers for item in sample),
    )  # fmt: skip


def _fit(load: Load, values: Mapping[str, object]) -> int:
    return max(1, int(values["batch_tokens"]) // (load.n + load.text))
