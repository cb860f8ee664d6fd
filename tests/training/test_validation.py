"""When a training is validated, and on which items: counted by hand and by laws on odd sizes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slidesieve.cohort.manifest import Manifest
from slidesieve.datasets.examples import Example
from slidesieve.training.shares import Share
from slidesieve.training.validation import sample_by_patient, validation_steps


def test_validations_are_evenly_spaced_ends_of_optimiser_steps():
    assert validation_steps(650, accumulate=1, evaluations=13) == list(range(50, 651, 50))
    assert validation_steps(7, accumulate=2, evaluations=10) == [2, 4, 6, 7]
    assert validation_steps(23, accumulate=4, evaluations=2) == [12, 23]
    assert validation_steps(0, accumulate=4, evaluations=2) == []
    with pytest.raises(ValueError, match="evaluations: got 0"):
        validation_steps(10, accumulate=1, evaluations=0)


@pytest.mark.parametrize(
    ("batches", "accumulate", "times"), [(474_211, 64, 10), (101, 7, 10), (13, 64, 10), (29, 3, 9)]
)
def test_validations_are_as_many_as_said_whatever_the_length(batches, accumulate, times):
    steps = validation_steps(batches, accumulate=accumulate, evaluations=times)
    assert len(steps) == min(times, -(-batches // accumulate)) == len(set(steps))
    assert steps[-1] == batches and all(step % accumulate == 0 for step in steps[:-1])
    gaps = np.diff([0, *steps[:-1]])
    assert not len(gaps) or gaps.max() - gaps.min() <= accumulate


def test_a_sample_takes_one_item_of_each_patient_before_a_second_of_any():
    patients = [f"p{i % 11 if i < 60 else 0}" for i in range(97)]  # p0 has 43 of 97
    items = [f"i{i}" for i in range(97)]
    patient = dict(zip(items, patients, strict=True))
    cohort = Manifest(pd.DataFrame({"slide_id": items, "case_id": patients}), Path())
    for n in (1, 7, 11, 25, 60):
        taken = sample_by_patient(items, cohort, n=n, seed=3)
        counts = Counter(patient[item] for item in taken)
        assert len(set(taken)) == n and [i for i in items if i in set(taken)] == taken
        full = {p for p in counts if counts[p] == patients.count(p)}
        most = max(counts.values())
        assert all(counts[p] >= most - 1 for p in set(patients) - full)
    assert sample_by_patient(items, cohort, n=25, seed=3) == sample_by_patient(items, cohort, n=25, seed=3)
    assert sample_by_patient(items, cohort, n=25, seed=3) != sample_by_patient(items, cohort, n=25, seed=4)
    assert sample_by_patient(items, cohort, n=0, seed=3) == sample_by_patient(items, cohort, n=500, seed=3) == items
    about = [Example(item, None, ()) for item in items]
    assert [e.slide_id for e in sample_by_patient(about, cohort, n=25, seed=3)] == sample_by_patient(
        items, cohort, n=25, seed=3
    )
    assert sample_by_patient([], cohort, n=5, seed=0) == []


def test_shares_hold_every_item_once():
    items = list(range(23))
    for processes in (1, 2, 5, 40):
        parts = [Share(rank, processes).of(items) for rank in range(processes)]
        assert sorted(item for part in parts for item in part) == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Share().total(3, 0.5) == [3, 0.5]
