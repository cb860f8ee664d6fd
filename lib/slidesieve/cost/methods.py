"""What a method is to its cost: which parts stand before the language model, and how large they are."""

from typing import NamedTuple


class Method(NamedTuple):
    """A way from tiles to a language model: slide encoder, compressor, and whether a prefix or adapters carry it."""

    compressor: str
    slide_encoder: str = "none"
    adapters: bool = False


METHODS = {
    "slidechat": Method("all", "longnet"),
    "all": Method("all"),
    "sparselearn_longnet": Method("sparselearn", "longnet"),
    "sparselearn": Method("sparselearn"),
    "tcssa": Method("tcssa"),
    "locpath": Method("locpath", adapters=True),
    "locpath_prefix": Method("locpath"),
    "linspace": Method("linspace"),
    "random": Method("random"),
    "mean": Method("mean"),
    "text_only": Method("text_only"),
}


COMPARED = ("slidechat", "all", "sparselearn", "tcssa", "locpath", "locpath_prefix", "linspace", "mean")


class Sizes(NamedTuple):
    """Everything but the decoder: n tiles of width d, k tokens kept, text tokens, and each part's own sizes."""

    n: int
    k: int
    text: int
    d: int = 512
    projector_width: int = 3584
    scorer_layers: int = 2
    scorer_width: int = 0  # 0: that of the tiles
    scorer_attention: str = "global"
    expert_hidden: int = 512
    windows: int = 0  # occupied windows of the merger; 0: a full grid of 2 x 2, n / 4
    latents: int = 128
    latent_width: int = 512
    resampler_blocks: int = 4
    n_adapters: int = 4
    adapter_width: int = 512
    importance: str = "question"


def method_named(name: str) -> Method:
    if name not in METHODS:
        raise ValueError(f"method: got {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def visual_tokens(method: Method, sizes: Sizes, *, training: bool = False) -> int:
    """Tokens of the slide in the language model's sequence; none for adapters, all n for SparseLearn in training."""
    n = sizes.n
    if method.adapters:
        return 0
    if method.compressor == "all" or (method.compressor == "sparselearn" and training):
        return n
    always = {"locpath": sizes.latents, "tcssa": sizes.k, "mean": sizes.k, "text_only": 0}
    return always.get(method.compressor, min(sizes.k, n))
