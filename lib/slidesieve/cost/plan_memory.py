"""The most memory that a stage will need at one time, in closed form: on a GPU if it runs there, else main memory.

    training   language model + what is ours (4 bytes a parameter) + what learns (4 of gradient, 8 of moments)
               + what a part of a batch keeps for its backward pass + logits + mask
    reading    language model + ours + keys and values of a batch + one block's intermediates + logits + mask

A block of the decoder keeps, for each token, so many bytes of its width w, its keys' e and its feed-forward's f:

    float32    16 w + 8 e + 12 f    with low-rank adapters and dropout    64 w + 8 e + 20 f + 28 r
    bfloat16   12 w + 4 e +  6 f    (norms are taken in float32)          48 w + 4 e + 12 f + 14 r

Recomputing keeps a block's input, and one block at a time as above. All this was counted once for Qwen2 by its saved
tensors, as were the values of ours in KEPT. Neither a framework's own memory (about 1 GiB on a GPU) nor fragments are
in it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from slidesieve.cost.activations import kept_a_tile
from slidesieve.cost.methods import handed_on, visual_tokens
from slidesieve.cost.plan_sizes import Model

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
    b, lm = bytes_of(values), model.lm.decoder
    seen = visual_tokens(model.method, model.sizes._replace(n=load.n), training=model.scores)
    tokens = load.slides * (seen + load.text)
    cache = 2 * lm.layers * lm.keys * b * tokens
    block = (3 * lm.ffn + 8 * lm.width) * b * tokens
    tiles = load.slides * load.n * model.sizes.d * 4 * 12
    mask = 2 * b * load.slides * load.text * (seen + load.text)
    logits = load.slides * load.predicted * lm.vocabulary * (b + 4)
    return weights(model, values) + training + cache + max(block, tiles) + mask + logits


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
