"""Log-probabilities of answers for many slides: all turns about a slide behind one prefix, batches by tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from slidesieve.compressors.result import Compressed
from slidesieve.features.bag import Bag, collate
from slidesieve.models.chat import Texts, Turn, pack
from slidesieve.models.token_budget import Size, batches, chunks, text_tokens
from slidesieve.models.vlm import VLM


class Asked(NamedTuple):
    """Turns about one slide, how many tiles it has at most, and its bag when it is wanted."""

    turns: list[Turn]
    n_tiles: int
    bag: Callable[[], Bag]


@torch.no_grad()
def answer_sums(
    model: VLM, asked: Sequence[Asked], *, batch_tokens: int, generator: torch.Generator | None = None
) -> list[list[list[float]]]:
    """Log-probability of each answer, summed over its tokens, by slide and turn.

    A slide is compressed once. Its turns come in chunks, which changes no answer, since none sees another.
    """
    device = model.feature_mean.device
    pieces = [chunks(one.turns) for one in asked]
    found: list[list[list[float]]] = [[] for _ in asked]
    sizes = [Size(one.n_tiles, max(map(text_tokens, own), default=0)) for one, own in zip(asked, pieces, strict=True)]
    for some in batches(sizes, batch_tokens):
        compressed = model.compress(collate([asked[i].bag() for i in some]).to(device), generator)
        for number in range(max(len(pieces[i]) for i in some)):
            rows = [row for row, i in enumerate(some) if number < len(pieces[i])]
            texts = pack([pieces[some[row]][number] for row in rows]).to(device)
            sums = iter(sum_by_answer(model.log_probs(rows_of(compressed, rows), texts), texts).tolist())
            for row in rows:
                found[some[row]] += [[next(sums) for _ in turn.answers] for turn in pieces[some[row]][number]]
    return found


@contextmanager
def evaluating(model: VLM, *, soft: bool) -> Iterator[None]:
    """Run the language model in evaluation mode, the compressor in training mode if `soft`; restore both after."""
    before = model.training, model.compressor.training
    model.eval()
    model.compressor.train(soft)
    try:
        yield
    finally:
        model.train(before[0])
        model.compressor.train(before[1])


def rows_of(compressed: Compressed, rows: list[int]) -> Compressed:
    """Some slides of a batch, without what says where tokens came from."""
    if len(rows) == len(compressed.tokens):
        return compressed
    kept = {name: getattr(compressed, name)[rows] for name in ("tokens", "mask", "positions", "span")}
    return compressed._replace(weights=None, scores=None, kept=None, places=None, **kept)


def sum_by_answer(log_probs: Float[Tensor, "b t"], texts: Texts) -> Float[Tensor, " a"]:
    scores = log_probs.new_zeros(int(texts.answer.max()) + 1)
    return scores.scatter_add(0, texts.answer.clamp(min=0).flatten(), log_probs.flatten())
