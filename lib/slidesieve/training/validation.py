"""How often a training is validated, and on what: a number of times, on a sample in which patients count alike."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from slidesieve.cohort.manifest import Manifest
from slidesieve.datasets.questions import AboutSlide

Item = TypeVar("Item", bound=AboutSlide | str)


def validation_steps(batches: int, *, accumulate: int, evaluations: int) -> list[int]:
    """After how many batches to validate: so many times, evenly spaced, at ends of optimiser steps, the last included.

    With fewer optimiser steps than evaluations, after each.
    """
    if evaluations < 1:
        raise ValueError(f"evaluations: got {evaluations}; expected 1 or more, since the best weights are kept")
    optimiser_steps = -(-batches // accumulate)
    times = min(evaluations, optimiser_steps)
    return [min(-(-i * optimiser_steps // times) * accumulate, batches) for i in range(1, times + 1)]


def sample_by_patient(items: Sequence[Item], cohort: Manifest, *, n: int, seed: int) -> list[Item]:
    """Take n items (0: all), one of each patient in a seeded order, then a second one of each, and so on.

    Items are slides' names, or name theirs. A patient's items come in a seeded order too; those taken keep the order
    given.
    """
    if n < 0:
        raise ValueError(f"items to validate on: got {n}; expected 1 or more, or 0 for all")
    patient = cohort.cases
    own: dict[str, list[int]] = {}
    for place in np.random.default_rng(seed).permutation(len(items)).tolist():
        item = items[place]
        own.setdefault(patient[item if isinstance(item, str) else item.slide_id], []).append(place)
    taken = [place for one_each in zip_longest(*own.values()) for place in one_each if place is not None]
    return [items[place] for place in sorted(taken[: n or None])]
