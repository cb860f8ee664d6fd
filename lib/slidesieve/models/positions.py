"""Which positions visual tokens claim in the language model, whatever compressor kept them.

A token that is a tile, or stands at a tile's place, has that tile's index i among the N tiles of its slide, before any
cap; text follows at the span's end:

    original     i, text at N                   a slide longer than any in training reaches positions never trained
    scaled       floor(i M / N), text at M      a slide of any length fills the same M positions
    contiguous   0, 1, ..., m - 1, text at m    the m tokens stand as if nothing lay between them

The tiles of a region are numbered within the region, which is shown as a slide of its own. Tokens without a
place (means, slots) have no index: they are numbered 0 ... k - 1 and text follows at k, in all three.
"""

from typing import Literal, get_args

import torch

from slidesieve.compressors.result import Compressed
from slidesieve.features.bag import Batch

PositionIds = Literal["original", "scaled", "contiguous"]


def check_positions(position_ids: str, span: int) -> None:
    """Raise ValueError for a word that is not known, or a span without positions."""
    if position_ids not in get_args(PositionIds):
        raise ValueError(f"position_ids: got {position_ids!r}; expected one of {get_args(PositionIds)}")
    if span < 1:
        raise ValueError(f"position_span: got {span}; expected at least 1 position")


def placed(compressed: Compressed, batch: Batch, *, position_ids: PositionIds, span: int) -> Compressed:
    """Let the tokens claim their positions; `span` is the M of "scaled"."""
    if compressed.places is None or not compressed.tokens.shape[1]:
        return compressed
    mask, length = compressed.mask, batch.slide_length
    if position_ids == "contiguous":
        return compressed._replace(positions=(mask.cumsum(-1) - 1) * mask, span=mask.sum(-1))
    index = batch.slide_index.gather(1, compressed.places) * mask
    if position_ids == "original":
        return compressed._replace(positions=index, span=length)
    at = (index * span).div(length.unsqueeze(-1), rounding_mode="floor")
    return compressed._replace(positions=at, span=torch.full_like(length, span))


def largest_position(position_ids: PositionIds, *, longest: int, tokens: int, span: int) -> int:
    """Return the largest position at which text can begin, counted from the end of the prompt's head.

    `longest` is the number of tiles of the longest slide, before any cap; `tokens` the most visual tokens of a slide in
    training or answering, the cap included.
    """
    check_positions(position_ids, span)
    return {"original": longest, "scaled": span, "contiguous": tokens}[position_ids]
