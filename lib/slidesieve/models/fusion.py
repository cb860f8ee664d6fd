"""How a language model takes up a slide's tokens: as embeddings in front of the text, or by layers that read them.

A fusion is a module of one class; a compressor names the one that carries its tokens (`Compressor.fusion`). What it
learns is found in a model, a checkpoint and a learning rate under the names of its `parts`.
"""

from abc import abstractmethod
from typing import Self

from torch import nn

from slidesieve.compressors.registry import named
from slidesieve.compressors.result import Compressed, Compressor
from slidesieve.models.chat import Texts
from slidesieve.models.prefix_lm import Prefix


class Fusion(nn.Module):
    """Keyword-only arguments of `__init__` are options of the compressors that it carries."""

    serves_any = False  # a part trained with one compressor serves another
    is_prefix = True  # tokens stand in the language model's sequence
    name = "fusion"  # of its operations in a table

    @classmethod
    def n_tokens(cls, m: int, **options) -> int:
        """Count the tokens in the language model's sequence, of m that a compressor hands on."""
        return m if cls.is_prefix else 0

    @classmethod
    def first_layer(cls, depth: int, **options) -> int:
        """The first layer, of a decoder's `depth`, that gradients must reach."""
        return 0

    @classmethod
    @abstractmethod
    def between(cls, lm: nn.Module, compressor: nn.Module, *, d: int, k: int, projector_width: int, **options) -> Self:
        """Build what stands between a compressor of features of width d and a language model."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """What learns, by name: it learns at the rate `lr_<name>` where a stage has one, else at the projector's."""

    @abstractmethod
    def feed(self, lm: nn.Module, compressed: Compressed, texts: Texts) -> Prefix:
        """Hand a batch of slides over to the language model, for the texts about them that follow."""

    def attach(self, lm: nn.Module) -> None:
        """Change what the language model does; called once."""


class Projector(nn.Sequential, Fusion):
    """A visual prefix: two linear maps with a GELU between, from tokens to the model's embeddings (SlideChat)."""

    serves_any = True
    name = "projector"

    def __init__(self, d: int, hidden: int, h: int):
        super().__init__(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, h))

    @classmethod
    def between(cls, lm: nn.Module, compressor: nn.Module, *, d: int, k: int, projector_width: int) -> Self:
        return cls(compressor.width or d, projector_width, lm.get_input_embeddings().embedding_dim)

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self}

    def feed(self, lm: nn.Module, compressed: Compressed, texts: Texts) -> Prefix:
        dtype = lm.get_input_embeddings().weight.dtype
        return Prefix(self(compressed.tokens).to(dtype), compressed.mask, compressed.positions, compressed.span)


def fusion_of(compressor: type[Compressor]) -> type[Fusion]:
    """The class that carries a compressor's tokens into a language model."""
    return named(compressor.fusion)
