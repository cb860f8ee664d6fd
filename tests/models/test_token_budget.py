"""Batches by tokens: nothing lost, nothing above the budget but a slide alone; chunks of turns obey theirs."""

from itertools import pairwise

import numpy as np
import pytest

from slidesieve.models.chat import Turn
from slidesieve.models.token_budget import Size, batches, chunks, padded, text_tokens


@pytest.mark.parametrize("budget", [1, 37, 500, 4096, 10**9])
def test_batches_hold_every_slide_once_within_the_budget(budget):
    rng = np.random.default_rng(budget)
    sizes = [Size(int(n), int(t)) for n, t in zip(rng.integers(1, 900, 53), rng.integers(0, 90, 53), strict=True)]
    made = batches(sizes, budget)
    assert sorted(place for batch in made for place in batch) == list(range(53))
    for batch in made:
        tokens = len(batch) * (max(sizes[i].tiles for i in batch) + max(sizes[i].text for i in batch))
        assert padded([sizes[i] for i in batch]) == tokens
        assert tokens <= budget or len(batch) == 1
        assert batch == sorted(batch)
    longest = [max(sizes[i].tiles for i in batch) for batch in made]
    assert longest == sorted(longest)


def test_one_batch_keeps_the_order_and_like_lengths_stand_together():
    sizes = [Size(n) for n in (900, 3, 901, 5, 4)]
    assert batches(sizes, 5 * 901) == [[0, 1, 2, 3, 4]]
    assert batches(sizes, 2 * 901) == [[1, 3, 4], [0, 2]]
    assert batches([], 10) == []
    with pytest.raises(ValueError, match="batch_tokens: got 0"):
        batches(sizes, 0)


def test_chunks_hold_every_turn_in_order_within_their_tokens():
    rng = np.random.default_rng(5)
    turns = [Turn([1] * int(rng.integers(1, 60)), [[2] * int(rng.integers(1, 9))] * 4) for _ in range(41)]
    turns[7] = Turn([1] * 300, [[2]])
    made = chunks(turns, most=211)
    assert [turn for chunk in made for turn in chunk] == turns
    for chunk in made:
        tokens = sum(len(turn.prompt) + sum(len(answer) for answer in turn.answers) for turn in chunk)
        assert text_tokens(chunk) == tokens and (tokens <= 211 or len(chunk) == 1)
    for one, other in pairwise(made):  # no chunk ends too soon
        assert text_tokens([*one, other[0]]) > 211
    assert chunks([]) == []
