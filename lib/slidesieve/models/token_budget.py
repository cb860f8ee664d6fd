"""Batches by a budget of tokens: what a batch takes in memory is its padded length times its slides.

A slide counts its tiles, which enter the compressor and at most the language model, and its packed text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from slidesieve.models.chat import Turn

MOST_TEXT = 2048  # text tokens of turns packed behind one prefix: their mask is quadratic, 4 Mi entries a slide here


class Size(NamedTuple):
    """Tokens of one slide."""

    tiles: int
    text: int = 0


def padded(sizes: Sequence[Size]) -> int:
    """Tokens of a batch of these slides, padding included."""
    return len(sizes) * (max(size.tiles for size in sizes) + max(size.text for size in sizes))


def batches(sizes: Sequence[Size], budget: int) -> list[list[int]]:
    """Divide slides, by their places in `sizes`, into batches of like length within the budget, short ones first.

    A slide that exceeds it has a batch of its own. Within a batch places ascend: one batch keeps the order given.
    """
    if budget < 1:
        raise ValueError(f"batch_tokens: got {budget}; expected the tokens of a batch, 1 or more")
    made: list[list[int]] = []
    most = Size(0, 0)
    for place in sorted(range(len(sizes)), key=lambda place: (*sizes[place], place)):
        joined = Size(*map(max, most, sizes[place]))
        if made and (len(made[-1]) + 1) * sum(joined) <= budget:
            made[-1].append(place)
        else:
            made.append([place])
            joined = sizes[place]
        most = joined
    return [sorted(batch) for batch in made]


def text_tokens(turns: Sequence[Turn]) -> int:
    """Tokens of packed turns."""
    return sum(len(turn.prompt) + sum(map(len, turn.answers)) for turn in turns)


def chunks(turns: Sequence[Turn], most: int = MOST_TEXT) -> list[list[Turn]]:
    """Divide a slide's turns, in order, into chunks of at most so many tokens; a longer turn is one alone."""
    made: list[list[Turn]] = []
    for turn in turns:
        if made and text_tokens([*made[-1], turn]) <= most:
            made[-1].append(turn)
        else:
            made.append([turn])
    return made
