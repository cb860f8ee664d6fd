"""Floating-point operations of every part of a model, in closed form.

    linear map a -> b of t tokens       2 t a b
    attention of q queries, n keys      4 q n w       (scores and their weighted sum, all heads together w wide)

An operation is a multiplication or an addition. Matrix products are counted, as `torch.utils.flop_counter` does: not
norms, activations, softmax, sorting, or sums over tiles. Attention counts every pair of tokens, as plain kernels do; a
kernel that skips what causality hides does half of the decoder's. `linear` is what grows with the number of tokens,
`attention` with that of pairs; tables of papers often give the first alone. All is for one slide and one turn.

A decoder's linear part is 2 P t with P its weights but embeddings and head (Kaplan et al., arXiv 2001.08361, Sec. 2.1).
LoC-Path's parts are our own design (see `compressors.locpath`).
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from slidesieve.cost.counted import counted
from slidesieve.cost.methods import Method, Sizes, visual_tokens
from slidesieve.models.cross_attention import evenly_spaced
from slidesieve.models.longnet import DILATIONS, SEGMENTS

FREE = ("all", "random", "linspace", "text_only")  # no product of matrices


class Flops(NamedTuple):
    """Operations of products that are linear in the number of tokens, and of those between pairs of tokens."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention


class Decoder(NamedTuple):
    """Sizes of a causal language model with gated feed-forwards and grouped keys (Qwen2, Llama).

    Other families say their `matrices`, and the width of a head where it is not width / heads (Gemma).
    """

    width: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_width: int = 0
    matrices: int = 0

    @property
    def inner(self) -> int:
        """All heads' queries together."""
        return self.heads * self.head_width if self.head_width else self.width

    @property
    def keys(self) -> int:
        """All heads' keys together."""
        return self.inner // self.heads * self.kv_heads

    @property
    def weights(self) -> int:
        """P: entries of the blocks' matrices; neither embeddings, head, biases nor norms."""
        if self.matrices:
            return self.matrices
        return self.layers * self.width * (2 * self.inner + 2 * self.keys + 3 * self.ffn)


def forward(method: Method, lm: Decoder, sizes: Sizes, *, training: bool = False) -> dict[str, Flops]:
    """One pass over a slide and a turn, part by part. The language model's head is no part: see `lm_head`."""
    m = visual_tokens(method, sizes, training=training)
    encoders = {"longnet": longnet, "longnet_released": longnet_released}
    parts = {"slide encoder": encoders[e](sizes.d, sizes.n)} if (e := method.slide_encoder) in encoders else {}
    parts["compressor"] = compressor(method.compressor, sizes, training=training)
    if method.adapters:
        parts["reader"] = reader(lm, sizes)
    else:
        d = sizes.latent_width if method.compressor == "locpath" else sizes.d
        parts["projector"] = projector(d, sizes.projector_width, lm.width, m)
    return parts | {"language model": decoder(lm, m + sizes.text)}


def step(method: Method, lm: Decoder, sizes: Sizes) -> dict[str, Flops]:
    """A training step with the language model frozen, part by part, nothing recomputed.

    What learns costs its forward pass three times (outputs, gradients of inputs, of weights); attention too, whoever
    owns it. The frozen language model's linear maps have no gradient of weights: twice. Behind adapters, gradients end
    at the first of them: the layers before it are passed once.
    """
    parts = {
        part: Flops(3 * f.linear, 3 * f.attention) for part, f in forward(method, lm, sizes, training=True).items()
    }
    passed = decoder(lm, visual_tokens(method, sizes, training=True) + sizes.text)
    back = 1.0
    if method.adapters:
        back = 1 - evenly_spaced(sizes.n_adapters, lm.layers)[0] / lm.layers
    grown = Flops(round(passed.linear * (1 + back)), round(passed.attention * (1 + 2 * back)))
    return parts | {"language model": grown}


def total(parts: Mapping[str, Flops]) -> Flops:
    return Flops(sum(f.linear for f in parts.values()), sum(f.attention for f in parts.values()))


def decoder(lm: Decoder, t: int) -> Flops:
    """t tokens through all blocks at once: 2 P t, and 4 L h t^2 for all pairs."""
    return Flops(2 * lm.weights * t, 4 * lm.layers * lm.inner * t**2)


def behind(lm: Decoder, t: int, before: int) -> Flops:
    """t tokens on the keys of `before` others, which have passed already."""
    return Flops(2 * lm.weights * t, 4 * lm.layers * lm.inner * t * (before + t))


def lm_head(lm: Decoder, t: int = 1) -> Flops:
    """Logits of t tokens; our models compute them only where an answer's token is predicted."""
    return Flops(2 * t * lm.width * lm.vocabulary, 0)


def projector(d: int, hidden: int, h: int, m: int) -> Flops:
    """m visual tokens through d -> hidden -> h."""
    return Flops(2 * m * (d * hidden + hidden * h), 0)


def block(width: int, n: int) -> Flops:
    """A transformer block with a feed-forward of four widths: 24 n w^2, and 4 n^2 w."""
    return Flops(24 * n * width**2, 4 * n**2 * width)


def diagonal_block(width: int, n: int) -> Flops:
    """The same block where a token attends to itself: its value and output maps and the feed-forward."""
    return Flops(20 * n * width**2, 0)


def longnet(d: int, n: int, *, layers: int = 2, segments=SEGMENTS, dilations=DILATIONS) -> Flops:
    """SlideChat's slide encoder: four d x d maps and a feed-forward of 2 d; dilated attention (LongNet, eq. 5-11).

    In a segment of t tokens each head keeps ceil(t / r) rows. Our attention forms the scores a second time, for their
    log-sum-exp: 6 d a pair, where a kernel that hands it over does 4 d.
    """
    pairs = 0
    for w, r in zip(segments, dilations, strict=True):
        w = min(w, n)
        pairs += n // w * math.ceil(w / r) ** 2 + math.ceil(n % w / r) ** 2
    return Flops(layers * 16 * n * d**2, layers * 6 * d * pairs)


def longnet_released(d: int, n: int, *, layers: int = 2) -> Flops:
    """SlideChat's slide encoder as released, each tile by itself: two d x d maps and a feed-forward of 2 d."""
    return Flops(layers * 12 * n * d**2, 0)


def compressor(name: str, sizes: Sizes, *, training: bool = False) -> Flops:
    """What lies between tiles and visual tokens; 0 where tiles are taken as they are; counted if no form is known."""
    s = sizes
    if name == "sparselearn":
        scored = scorer(s.d, s.n, layers=s.scorer_layers, width=s.scorer_width or s.d, attention=s.scorer_attention)
        return total({"scorer": scored, "denoiser": diagonal_block(s.d, s.n)}) if training else scored
    if name == "tcssa":
        return tcssa(s.d, s.n, s.k, hidden=s.expert_hidden)
    if name == "locpath":
        windows = s.windows or math.ceil(s.n / 4)
        read = resampler(s.d, windows, s.latents, width=s.latent_width, blocks=s.resampler_blocks)
        return total({"merger": merger(s.d, windows), "resampler": read})
    if name == "mean":
        return Flops(2 * s.k * s.d**2, 0)
    if name in FREE:
        return Flops(0, 0)
    return Flops(*counted(name, d=s.d, k=s.k, n=s.n, training=training))


def scorer(d: int, n: int, *, layers: int, width: int, attention: str = "global") -> Flops:
    """SparseLearn's scorer (arXiv 2606.08641, Sec. 3.2): a lift, blocks over n tiles, a number a tile."""
    one = block(width, n) if attention == "global" else diagonal_block(width, n)
    lifted = 2 * n * d * width if width != d else 0
    return Flops(lifted + layers * one.linear + 2 * n * width, layers * one.attention)


def tcssa(d: int, n: int, k: int, *, hidden: int) -> Flops:
    """TC-SSA (arXiv 2603.01143, Sec. 3.2): gate 2 n d k, pooling 2 n d k, k experts of two maps; all linear in n."""
    return Flops(4 * n * d * k + 4 * k * d * hidden, 0)


def merger(d: int, windows: int) -> Flops:
    """LoC-Path-style token merger: four d x d maps a window; its sums over tiles are no matrix products."""
    return Flops(8 * windows * d**2, 0)


def resampler(d: int, tokens: int, latents: int, *, width: int, blocks: int) -> Flops:
    """LoC-Path-style resampler: lift, then blocks of {latents read tokens, each other, feed-forward}."""
    mixed = block(width, latents)
    linear = 4 * tokens * width**2 + 4 * latents * width**2 + mixed.linear
    return Flops(2 * tokens * d * width + blocks * linear, blocks * (4 * latents * tokens * width + mixed.attention))


def masked_autoencoder(sizes: Sizes, *, blocks: int, mask_ratio: float) -> Flops:
    """A pass of LoC-Path-style pre-training: visible tokens are resampled, a decoder asks the latents for the rest."""
    s, w = sizes, sizes.latent_width
    windows = s.windows or math.ceil(s.n / 4)
    visible = math.ceil((1 - mask_ratio) * windows - 1e-9)
    hidden, one = windows - visible, diagonal_block(w, windows - visible)
    linear = blocks * (4 * hidden * w**2 + 4 * s.latents * w**2 + one.linear) + 2 * hidden * w * s.d
    asked = Flops(linear, blocks * 4 * hidden * s.latents * w)
    read = resampler(s.d, visible, s.latents, width=w, blocks=s.resampler_blocks)
    return total({"merger": merger(s.d, windows), "resampler": read, "decoder": asked})


def reader(lm: Decoder, sizes: Sizes) -> Flops:
    """LoC-Path-style importance scorer and cross-attention adapters, for one turn.

    An adapter's attention meets all latents, those dropped under a mask: k does not enter.
    """
    h, w, inner, m, t = lm.width, sizes.latent_width, sizes.adapter_width, sizes.latents, sizes.text
    importance = 2 * h * w + 4 * w**2 + 2 * m * w**2 + 4 * m * w if sizes.importance == "question" else 0
    adapter = 4 * m * w * inner + 4 * t * h * inner + 2 * t * h
    return Flops(importance + sizes.n_adapters * adapter, sizes.n_adapters * 4 * t * m * inner)
