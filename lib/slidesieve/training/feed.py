"""What a training step is fed: so many slides in an order fixed by (seed, epoch), divided over processes."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from slidesieve.datasets.examples import Example, bag_of
from slidesieve.features.bag import Bag, Batch, collate
from slidesieve.models.chat import Texts, Turn, pack
from slidesieve.models.token_budget import Size, chunks, text_tokens
from slidesieve.models.token_budget import batches as within_budget
from slidesieve.models.vlm import VLM

MOST_KNOWN = 4096  # examples whose turns are kept


class Phase(NamedTuple):
    """So many batches of these examples, `batch` slides at a time, over all processes together."""

    examples: Sequence[Example]
    steps: int
    batch: int


class Part(NamedTuple):
    """Slides that go through the model at once, their turns, and the share of a process's slides that they are."""

    bags: list[Bag]
    turns: list[list[Turn]]
    weight: float

    def tensors(self) -> tuple[Batch, Texts]:
        return collate(self.bags), pack(self.turns)


class Feed:
    """Examples as padded batches. Step i gives the same slides in every run, however many processes share them."""

    def __init__(self, model: VLM, bags: Mapping[str, Bag], phases: Sequence[Phase], *, seed: int, max_tiles: int):
        for phase in phases:
            missing = sorted({e.slide_id for e in phase.examples} - set(bags))
            if missing or (phase.steps and not phase.examples):
                raise ValueError(f"training: {len(missing)} slides have no features ({missing[:3]}); run 20 for them")
        self.model, self.bags, self.phases, self.seed, self.max_tiles = model, bags, phases, seed, max_tiles
        self.steps = sum(phase.steps for phase in phases)
        self._known: dict[Example, list[Turn]] = {}

    def __call__(self, step: int, shard: int = 0, shards: int = 1) -> tuple[Batch, Texts]:
        """One of `shards` equal parts of a step's slides."""
        own = self._own(step, shard, shards)
        return collate([self._bag(example) for example in own]), pack([self._turns(example) for example in own])

    def parts(self, step: int, shard: int, shards: int, *, batch_tokens: int) -> list[Part]:
        """The same slides in parts of at most `batch_tokens`, padding included; a slide with many turns, in chunks.

        Each chunk of turns is a part with its slide, and weighs as the share of the slide that it is.
        """
        own = self._own(step, shard, shards)
        rows = [(self._bag(example), chunks(self._turns(example)) or [[]]) for example in own]
        whole = [(bag, pieces[0]) for bag, pieces in rows if len(pieces) == 1]
        parts = [
            Part([bag], [piece], 1 / len(pieces) / len(own))
            for bag, pieces in rows
            for piece in pieces
            if len(pieces) > 1
        ]
        for some in within_budget([Size(len(bag.x), text_tokens(turns)) for bag, turns in whole], batch_tokens):
            bags, turns = zip(*(whole[i] for i in some), strict=True)
            parts.append(Part(list(bags), list(turns), len(some) / len(own)))
        return parts

    def answer_tokens(self, step: int) -> int:
        """How many tokens all shards of a step are asked to predict."""
        return sum(len(a) for example in self._chosen(step) for turn in self._turns(example) for a in turn.answers)

    def check_shards(self, shards: int) -> None:
        """Raise ValueError if some phase's batch cannot be divided over so many processes."""
        for phase in self.phases:
            if phase.batch % shards:
                raise ValueError(
                    f"training: got batches of {phase.batch} slides for {shards} processes; expected a multiple of "
                    f"{shards}; raise batch and lower accumulate by the same factor (the same optimiser steps)"
                )

    def _own(self, step: int, shard: int, shards: int) -> list[Example]:
        chosen = self._chosen(step)
        size = len(chosen) // shards
        return chosen[shard * size : (shard + 1) * size]

    def _chosen(self, step: int) -> list[Example]:
        number = 0
        while step >= self.phases[number].steps:
            step -= self.phases[number].steps
            number += 1
        phase = self.phases[number]
        return [self._example(phase, number, i) for i in range(step * phase.batch, (step + 1) * phase.batch)]

    def _example(self, phase: Phase, number: int, i: int) -> Example:
        epoch, place = divmod(i, len(phase.examples))
        return phase.examples[_order(self.seed, number, epoch, len(phase.examples))[place]]

    def _bag(self, example: Example) -> Bag:
        return bag_of(example, self.bags, self.max_tiles)

    def _turns(self, example: Example) -> list[Turn]:
        if example not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[example] = [self.model.chat.turn(prompt, [answer]) for prompt, answer in example.turns]
        return self._known[example]


def alignment_phases(
    captions: Sequence[Example], *, region_steps: int, region_batch: int, steps: int, batch: int
) -> list[Phase]:
    """Captions of regions first, if there are any, then of whole slides."""
    regions = [caption for caption in captions if caption.box]
    slides = [caption for caption in captions if not caption.box]
    return [*([Phase(regions, region_steps, region_batch)] if regions else []), Phase(slides, steps, batch)]


def batches(examples: Sequence[Example], *, batch: int, epochs: float, steps: int, accumulate: int) -> int:
    """How many batches make `epochs` passes over the examples; with 0 epochs, `steps` optimiser steps."""
    return math.ceil(epochs * len(examples) / batch) if epochs else steps * accumulate


@lru_cache(maxsize=4)
def _order(seed: int, number: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng([seed, number, epoch]).permutation(n)
