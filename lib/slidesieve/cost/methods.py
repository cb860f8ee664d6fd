"""What a method is to its cost: which parts stand before the language model, and how large all of them are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from slidesieve.compressors.registry import COMPRESSORS, named
from slidesieve.compressors.result import Compressor
from slidesieve.models.fusion import Fusion, fusion_of

PREFIX = "slidesieve.models.fusion.Projector"


class Method(NamedTuple):
    """A way from tiles to a language model. `fusion` is a dotted name; empty: the one that the compressor names."""

    compressor: str
    slide_encoder: str = "none"
    fusion: str = ""

    @property
    def made_by(self) -> type[Compressor]:
        return COMPRESSORS[self.compressor]

    @property
    def carried_by(self) -> type[Fusion]:
        return named(self.fusion) if self.fusion else fusion_of(self.made_by)


METHODS = {
    "slidechat": Method("all", "longnet"),
    "all": Method("all"),
    "sparselearn_longnet": Method("sparselearn", "longnet"),
    "sparselearn": Method("sparselearn"),
    "tcssa": Method("tcssa"),
    "locpath": Method("locpath"),
    "locpath_prefix": Method("locpath", fusion=PREFIX),
    "linspace": Method("linspace"),
    "random": Method("random"),
    "mean": Method("mean"),
    "text_only": Method("text_only"),
}


COMPARED = ("slidechat", "all", "sparselearn", "tcssa", "locpath", "locpath_prefix", "linspace", "mean")


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


class Sizes(NamedTuple):
    """Everything but the decoder: n tiles of width d, k tokens kept, text tokens, and each part's own sizes.

    What follows `windows` are options of a compressor or a fusion, by their own names; `others` those that no closed
    form here needs, as (name, value) pairs: new methods' own.
    """

    n: int
    k: int
    text: int
    d: int = 512
    projector_width: int = 3584
    windows: int = 0  # occupied windows of the merger; 0: a full grid of 2 x 2, n / 4
    scorer_layers: int = 2
    scorer_width: int | None = None  # None or 0: that of the tiles
    scorer_attention: str = "global"
    denoiser: str = "diagonal"
    expert_hidden: int = 512
    latents: int = 128
    latent_width: int = 512
    resampler_blocks: int = 4
    n_adapters: int = 4
    adapter_layers: Sequence[int] = ()
    adapter_width: int = 512
    importance: str = "question"
    others: tuple[tuple[str, object], ...] = ()

    @property
    def options(self) -> dict[str, object]:
        """Options by name, of whatever part."""
        return {name: getattr(self, name) for name in OPTIONS} | dict(self.others)

    def with_options(self, given: Mapping[str, object]) -> "Sizes":
        """Take options by name."""
        known = {name: value for name, value in given.items() if name in OPTIONS}
        others = dict(self.others) | {name: value for name, value in given.items() if name not in OPTIONS}
        return self._replace(**known, others=tuple(others.items()))


OPTIONS = Sizes._fields[Sizes._fields.index("windows") + 1 : -1]


def method_named(name: str) -> Method:
    if name not in METHODS:
        raise ValueError(f"method: got {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def handed_on(method: Method, sizes: Sizes, *, training: bool = False) -> tuple[int, int]:
    """How many tokens the compressor hands on, and their width."""
    made, options = method.made_by, sizes.options
    return made.n_tokens(sizes.n, sizes.k, training=training, **options), made.token_width(sizes.d, **options)


def visual_tokens(method: Method, sizes: Sizes, *, training: bool = False) -> int:
    """Tokens of the slide in the language model's sequence; none for adapters, all n for SparseLearn in training."""
    return method.carried_by.n_tokens(handed_on(method, sizes, training=training)[0], **sizes.options)


def passed_back(method: Method, lm: Decoder, sizes: Sizes) -> float:
    """The share of the decoder's layers that gradients pass on their way to what carries tokens into them."""
    return 1 - method.carried_by.first_layer(lm.layers, **sizes.options) / lm.layers
