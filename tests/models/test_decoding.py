"""Greedy decoding: the slow one, in company and alone; in every family it is judged by benchmarks.decoders."""

import pytest
import torch
from test_prefix_lm import HEAD, SIZES, gapped_prefix, one_by_one, spied_attention, tiny

from slidesieve.answers.decoding import greedy
from slidesieve.models.chat import Turn
from slidesieve.models.prefix_lm import Prefix

LENGTHS, PROMPTS = (13, 1, 20, 7), [[9, 8, 7], [4], [20, 21, 22, 23, 24], [40, 41]]


def alone(prefix: Prefix, row: int) -> Prefix:
    return Prefix(*(part[row : row + 1] for part in prefix[:4]))


def slow(lm, prefix: Prefix, prompt: list[int], row: int, most: int) -> list[int]:
    said: list[int] = []
    with torch.no_grad():
        while len(said) < most:
            said.append(int(one_by_one(lm, prefix, Turn(prompt, []), said, row)[-1].argmax()))
    return said


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_it_is_the_slow_one_in_company_and_alone(family, lora):
    lm, told = tiny(family, lora=lora), set()
    for seed in range(3):
        prefix = gapped_prefix(LENGTHS, seed=seed)
        expected = [slow(lm, prefix, own, row, 6) for row, own in enumerate(PROMPTS)]
        assert greedy(lm, HEAD, prefix, PROMPTS, stops=set(), most=6) == expected
        assert [
            greedy(lm, HEAD, alone(prefix, i), [p], stops=set(), most=6)[0] for i, p in enumerate(PROMPTS)
        ] == expected
        stop = expected[0][2]
        cut = [own[: own.index(stop) + 1] if stop in own else own for own in expected]
        assert greedy(lm, HEAD, prefix, PROMPTS, stops={stop, 10**6}, most=6) == cut
        told |= {tuple(own) for own in expected}
    assert len(told) > 6  # the answers differ


def test_the_prefix_is_run_once(monkeypatch):
    lm, prefix = tiny("llama"), gapped_prefix((13,))
    calls = spied_attention(monkeypatch)
    greedy(lm, HEAD, prefix, [[9, 8, 7]], stops=set(), most=4)
    first = len(HEAD) + 13 + 3
    assert [q for q, *_ in calls] == [first] * 3 + [1] * 9
    assert all(mask is None for *_, mask, _ in calls)


def test_what_has_ended_is_not_gone_on_with():
    lm, prefix = tiny("qwen2"), gapped_prefix(LENGTHS)
    first = [own[0] for own in greedy(lm, HEAD, prefix, PROMPTS, stops=set(), most=1)]
    ended = greedy(lm, HEAD, prefix, PROMPTS, stops={first[1]}, most=9)
    assert ended[1] == [first[1]] and max(map(len, ended)) == 9
    assert greedy(lm, HEAD, prefix, PROMPTS, stops=set(), most=0) == [[], [], [], []]
    assert SIZES["vocab_size"] > max(max(own) for own in ended)
