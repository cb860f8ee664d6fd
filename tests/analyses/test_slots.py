"""Slot usage: its numbers from loops, its sweeps, and the notebook on an untrained model."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from run_here import run_here
from tiny_models import write_model_and_cohort

from slidesieve.analyses import slots
from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag_files import load_bags
from slidesieve.models.checkpoints import build_vlm, load_model, save_model
from slidesieve.provenance.files import ROOT

K, D, SIZES = 6, 33, (9, 40, 131)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three slides, and untrained TC-SSA models of two balance weights."""
    folder = tmp_path_factory.mktemp("slots")
    write_model_and_cohort(folder, np.array(SIZES))
    for balance in (0.1, 0.0):
        options = {"balance": balance, "expert_hidden": 8}
        model = build_vlm(str(folder / "lm"), "tcssa", d=D, k=K, seed=1, options=options, projector_width=19)
        save_model(model, folder / f"balance-{balance}" / "model")
    return folder


@pytest.fixture(scope="module")
def model(cohort):
    return load_model(cohort / "balance-0.1" / "model", str(cohort / "lm"))


@pytest.fixture(scope="module")
def bags(cohort):
    manifest = read_manifest(cohort / "manifest.csv")
    return load_bags(manifest, None, manifest.table["slide_id"])


def test_usage_counts_routings_affinities_and_first_choices(model, bags):
    table = slots.usage(model, bags)
    for slide_id, bag in bags.items():
        x = (torch.from_numpy(bag.x) - model.feature_mean) / model.feature_std
        x = torch.nn.functional.layer_norm(x, (D,))
        p = (x @ model.compressor.gate.weight.T + model.compressor.gate.bias).softmax(-1).detach().numpy()
        load, first = np.zeros(K), np.zeros(K)
        for row in p:
            best = sorted(range(K), key=lambda slot, row=row: -row[slot])
            first[best[0]] += 1 / len(p)
            load[best[:2]] += 1 / (2 * len(p))
        got = table[table["slide_id"] == slide_id].sort_values("slot")
        assert np.allclose(got["load"], load, atol=1e-6) and np.allclose(got["first"], first, atol=1e-6)
        assert np.allclose(got["affinity"], p.mean(0), atol=1e-6)


def test_the_effective_number_is_k_if_even_and_one_after_a_collapse():
    shares = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]])
    assert slots.effective_number(shares).tolist() == pytest.approx([4, 1, 2, math.exp(1.5 * math.log(2))])


def test_a_summary_is_of_the_median_slide():
    rows = [(s, k, share, share, first) for s, shares, firsts in (
        ("a", (0.5, 0.5), (1.0, 0.0)), ("b", (1.0, 0.0), (0.6, 0.4)), ("c", (0.5, 0.5), (0.5, 0.5)),
    ) for k, (share, first) in enumerate(zip(shares, firsts, strict=True))]  # fmt: skip
    told = slots.summary(pd.DataFrame(rows, columns=["slide_id", "slot", "load", "affinity", "first"]))
    assert told.to_dict() == pytest.approx(
        {"effective_slots": 2, "effective_affinity": 2, "largest_load": 0.5, "largest_first": 0.6}
    )


def test_a_sweep_holds_the_runs_that_differ_in_one_option():
    runs = pd.DataFrame(
        [(0.1, 2, 16, 0), (0.0, 2, 16, 0), (0.0, 2, 16, 1), (0.1, 1, 16, 0), (0.0, 1, 16, 0)],
        columns=["balance", "top", "k", "seed"],
    )
    found = slots.sweeps(runs, {"balance": 0.1, "top": 2, "k": 16})
    assert {name: part.index.tolist() for name, part in found.items()} == {"balance": [1, 2, 0], "top": [3, 0]}


def test_slots_are_renumbered_by_size():
    assert slots.by_size(np.array([4, 4, 4, 0, 2, 2]), 5).tolist() == [0, 0, 0, 2, 1, 1]


def test_another_compressor_is_refused(cohort, bags):
    other = load_model(cohort / "checkpoint" / "model", str(cohort / "lm"))
    with pytest.raises(ValueError, match="the model's compressor is 'sparselearn'; expected tcssa"):
        slots.usage(other, bags)


def test_the_notebook_compares_runs_and_draws_slides_without_coordinates(cohort, tmp_path):
    given = {"manifest": str(cohort / "manifest.csv"), "features": "", "lm": str(cohort / "lm")}
    given |= {"checkpoint": str(cohort / "balance-0.1"), "others": [str(cohort / "balance-0.0")]}
    result = run_here(ROOT / "notebooks/73_slot_usage.ipynb", tmp_path / "73", given)
    assert result.status == "ran", result.error
    runs = pd.read_csv(tmp_path / "73" / "runs.csv")
    assert runs["balance"].tolist() == [0.1, 0.0] and (runs["k"] == K).all()
    assert runs["effective_slots"].between(1, K).all()
    assert (tmp_path / "73" / "sweep_balance.png").exists() and not (tmp_path / "73" / "sweep_k.png").exists()
