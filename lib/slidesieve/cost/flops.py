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
from collections.abc import Callable, Mapping
from typing import NamedTuple

from slidesieve.cost.counted import counted, counted_encoder, counted_fusion
from slidesieve.cost.methods import Decoder, Method, Sizes, handed_on, passed_back, visual_tokens
from slidesieve.models.cross_attention import layers_that_read
from slidesieve.models.longnet import DILATIONS, SEGMENTS


class Flops(NamedTuple):
    """Operations of products that are linear in the number of tokens, and of those between pairs of tokens."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention


def forward(method: Method, lm: Decoder, sizes: Sizes, *, training: bool = False) -> dict[str, Flops]:
    """One pass over a slide and a turn, part by part. The language model's head is no part: see `lm_head`."""
    parts = {}
    if method.slide_encoder != "none":
        parts["slide encoder"] = slide_encoder(method.slide_encoder, sizes)
    parts["compressor"] = compressor(method.compressor, sizes, training=training)
    parts[method.carried_by.name] = fusion(method, lm, sizes, training=training)
    return parts | {"language model": decoder(lm, visual_tokens(method, sizes, training=training) + sizes.text)}


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
    back = passed_back(method, lm, sizes)
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


def one_by_one(lm: Decoder, t: int, before: int) -> Flops:
    """t tokens, each on the keys of all before it: greedy decoding behind `before` tokens."""
    return Flops(2 * lm.weights * t, 4 * lm.layers * lm.inner * (t * before + t * (t + 1) // 2))


def lm_head(lm: Decoder, t: int = 1) -> Flops:
    """Logits of t tokens; our models compute them only where an answer's token is predicted."""
    return Flops(2 * t * lm.width * lm.vocabulary, 0)


def slide_encoder(name: str, sizes: Sizes) -> Flops:
    """What tiles pass before they are compressed; counted if no form is known."""
    if name in ENCODERS:
        return ENCODERS[name](sizes.d, sizes.n)
    return Flops(*counted_encoder(name, d=sizes.d, n=sizes.n))


def fusion(method: Method, lm: Decoder, sizes: Sizes, *, training: bool = False) -> Flops:
    """What carries tokens into the language model, inside it included; counted if no form is known."""
    made, (m, width) = method.carried_by, handed_on(method, sizes, training=training)
    form = FUSIONS.get(f"{made.__module__}.{made.__qualname__}".removeprefix("slidesieve.models."))
    return form(lm, sizes, m, width) if form else Flops(*counted_fusion(method, lm, sizes, m=m, width=width))


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
    if name in FORMS:
        return FORMS[name](sizes, training)
    return Flops(*counted(name, d=sizes.d, k=sizes.k, n=sizes.n, training=training, options=sizes.options))


def sparselearn(s: Sizes, training: bool) -> Flops:
    """Scorer, and in training a denoiser of all tiles."""
    scored = scorer(s.d, s.n, layers=s.scorer_layers, width=s.scorer_width or s.d, attention=s.scorer_attention)
    if not training or s.denoiser == "off":
        return scored
    return total({"scorer": scored, "denoiser": (diagonal_block if s.denoiser == "diagonal" else block)(s.d, s.n)})


def scorer(d: int, n: int, *, layers: int, width: int, attention: str = "global") -> Flops:
    """SparseLearn's scorer (arXiv 2606.08641, Sec. 3.2): a lift, blocks over n tiles, a number a tile."""
    one = block(width, n) if attention == "global" else diagonal_block(width, n)
    lifted = 2 * n * d * width if width != d else 0
    return Flops(lifted + layers * one.linear + 2 * n * width, layers * one.attention)


def tcssa(d: int, n: int, k: int, *, hidden: int) -> Flops:
    """TC-SSA (arXiv 2603.01143, Sec. 3.2): gate 2 n d k, pooling 2 n d k, k experts of two maps; all linear in n."""
    return Flops(4 * n * d * k + 4 * k * d * hidden, 0)


def locpath(s: Sizes) -> Flops:
    """LoC-Path-style merger and resampler."""
    windows = s.windows or math.ceil(s.n / 4)
    read = resampler(s.d, windows, s.latents, width=s.latent_width, blocks=s.resampler_blocks)
    return total({"merger": merger(s.d, windows), "resampler": read})


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


def reader(lm: Decoder, sizes: Sizes, m: int, width: int) -> Flops:
    """LoC-Path-style importance scorer and cross-attention adapters of m latents, for one turn.

    An adapter's attention meets all latents, those dropped under a mask: k does not enter.
    """
    h, w, inner, t = lm.width, width, sizes.adapter_width, sizes.text
    adapters = len(layers_that_read(sizes.adapter_layers, sizes.n_adapters, lm.layers))
    importance = 2 * h * w + 4 * w**2 + 2 * m * w**2 + 4 * m * w if sizes.importance == "question" else 0
    adapter = 4 * m * w * inner + 4 * t * h * inner + 2 * t * h
    return Flops(importance + adapters * adapter, adapters * 4 * t * m * inner)


# What has a closed form, by name; what has no row is counted, never free. Fusions by their names within `models`: in
# full, an answer of any method would depend on all of them (see provenance.code_reach).
ENCODERS: dict[str, Callable[[int, int], Flops]] = {"longnet": longnet, "longnet_released": longnet_released}
FORMS: dict[str, Callable[[Sizes, bool], Flops]] = {
    **dict.fromkeys(("all", "random", "linspace", "blank", "text_only"), lambda s, training: Flops(0, 0)),  # none
    "mean": lambda s, training: Flops(2 * s.k * s.d**2, 0),
    "sparselearn": sparselearn,
    "tcssa": lambda s, training: tcssa(s.d, s.n, s.k, hidden=s.expert_hidden),
    "locpath": lambda s, training: locpath(s),
}
FUSIONS: dict[str, Callable[[Decoder, Sizes, int, int], Flops]] = {
    "fusion.Projector": lambda lm, s, m, width: projector(width, s.projector_width, lm.width, m),
    "cross_attention.LatentReader": reader,
}
