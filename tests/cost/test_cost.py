"""Measured cost: what is told of memory, of failures and of parameters; bytes by formula; the notebook."""

import numpy as np
import pandas as pd
import pytest
import torch
from run_alone import run_alone
from torch import nn

from slidesieve.cost import activations, measure
from slidesieve.cost import models as cost_models
from slidesieve.cost import tables as cost_tables
from slidesieve.cost.measure import MIB, peak_memory
from slidesieve.cost.models import Case, decoder
from slidesieve.evaluation import published

TINY = Case("all", "tiny", "step", 33, 7, 23, latents=5, d=64, repeats=1)


def peak_of_two_blocks() -> tuple[dict[str, float], float]:
    with peak_memory("cpu") as memory:
        block = np.ones(150 * MIB, dtype=np.uint8)
        del block
        block = np.ones(40 * MIB, dtype=np.uint8)
    return memory, len(block) / MIB


def test_memory_is_the_peak_and_what_it_is_above():
    memory, left = run_alone(peak_of_two_blocks)
    assert memory["above_mib"] == pytest.approx(150, abs=8)
    assert memory["peak_mib"] > left + 150 - 40


def test_a_case_has_a_process_of_its_own_and_nothing_leaks_into_it():
    alone = measure.measure(TINY)
    ballast = np.ones(500 * MIB, dtype=np.uint8)
    beside = measure.measure(TINY)
    assert len(ballast) and abs(beside["peak_mib"] - alone["peak_mib"]) < 40
    assert beside["status"] == "ok" and beside["ms_min"] <= beside["ms"] <= beside["ms_max"]
    longer = measure.measure(TINY._replace(n=2011))
    assert longer["above_mib"] > alone["above_mib"] + 30
    assert longer["learns"] == alone["learns"] == 64 * 128 + 128 + 128 * 128 + 128  # the projector


@pytest.mark.parametrize("what", measure.WHATS)
def test_every_method_is_measured(what):
    for method in ("slidechat", "sparselearn", "tcssa", "locpath", "locpath_prefix"):
        row = measure.measure(TINY._replace(method=method, what=what))
        assert row["status"] == "ok" and row["ms"] > 0 and row["above_mib"] >= 0


def test_a_measurement_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    measured = []

    def counting(case):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(case.n)
        return {"method": case.method, "n": case.n, "status": "ok", "ms": 1.5 * case.n}

    monkeypatch.setattr(measure, "measure", counting)
    cases = [TINY._replace(n=n) for n in (7, 9, 11)]
    with pytest.raises(KeyboardInterrupt):
        measure.measure_all(cases, tmp_path)
    del measured[:]
    table = measure.measure_all(cases, tmp_path)
    assert measured == [11] and table["n"].tolist() == [7, 9, 11] and table["ms"].tolist() == [10.5, 13.5, 16.5]


def test_what_cannot_be_run_is_a_row_that_says_so(tmp_path):
    table = measure.measure_all([TINY._replace(n=10**12), TINY._replace(decoder="qwen2.5-7b")], tmp_path)
    assert table["status"].tolist() == [
        "out of memory", "refused: a large decoder on a CPU; set force, or device to cuda",
    ]  # fmt: skip
    assert table[["ms", "peak_mib", "above_mib"]].isna().all(axis=None)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="got decoder 'big' and 'step'; expected one of tiny"):
        measure.measure(TINY._replace(decoder="big"))
    with pytest.raises(ValueError, match="method: got 'slots'; expected one of slidechat"):
        measure.measure(TINY._replace(method="slots"))
    with pytest.raises(ValueError, match="got 2 text tokens; expected more than the chat turn's own"):
        measure.ready(cost_models.build(TINY), TINY._replace(what="prefill", text=2))


def test_parameters_are_the_published_ones():  # I36; SlideChat's projector and slide encoder
    full = Case("slidechat", "qwen2.5-7b", "step", 0, 32, 98)
    assert cost_models.parameters(full)["language model"] == 7_615_616_512
    assert cost_models.parameters(full)["projector"] == 512 * 3584 + 3584 + 3584**2 + 3584
    assert cost_models.parameters(full)["slide encoder"] == pytest.approx(4.2e6, rel=0.01)
    assert cost_models.parameters(full._replace(method="tcssa"))["compressor"] == 16_859_168
    assert set(cost_models.parameters(full._replace(method="locpath"))) == {"compressor", "reader", "language model"}


def test_saved_bytes_of_a_perceptron_are_its_input_and_both_sides_of_its_gelu():
    perceptron = nn.Sequential(nn.Linear(5, 11), nn.GELU(), nn.Linear(11, 3))
    x = torch.randn(7, 5, requires_grad=True)
    with activations.saved(perceptron) as sizes:
        perceptron(x)
    assert sum(sizes.values()) == 4 * 7 * (5 + 11 + 11)


def test_bytes_without_storage_are_those_of_a_decoder_that_is_run():
    t = 301
    with torch.device("meta"):
        hollow = decoder("tiny", torch.float32).requires_grad_(False)
    real = decoder("tiny", torch.float32).requires_grad_(False)
    embeds = torch.randn(1, t, 128, requires_grad=True)
    with activations.saved(real) as sizes:
        real(inputs_embeds=embeds, logits_to_keep=1, use_cache=False)
    assert activations.saved_in_decoder(hollow, t) == pytest.approx(sum(sizes.values()), rel=0.05)


def test_saved_bytes_grow_with_tokens_and_with_the_layers_that_gradients_pass():
    with torch.device("meta"):
        lm = decoder("tiny", torch.bfloat16).requires_grad_(False)
    one, two, three = (activations.saved_in_decoder(lm, t) for t in (100, 200, 300))
    assert three - two == two - one > 0
    assert activations.saved_in_decoder(lm, 200, first=2) == pytest.approx(two / 2, rel=0.05)


def test_a_steps_bytes_are_two_a_frozen_weight_and_sixteen_a_learned_one():
    given = Case("locpath", "tiny", "step", 40, 7, 23, latents=5, d=64)
    found, counts = activations.step_bytes(given), cost_models.parameters(given)
    assert found["language model"] == 2 * counts["language model"]
    assert found["what learns"] == 16 * (counts["compressor"] + counts["reader"])


def measured() -> pd.DataFrame:
    rows = [
        ("all", 100, "step", 10.0, 8.0, 40.0, 20.0), ("locpath", 100, "step", 4.0, 5.0, 18.0, 10.0),
        ("all", 200, "step", 20.0, 16.0, 80.0, 60.0), ("locpath", 200, "step", np.nan, np.nan, np.nan, np.nan),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "n", "what", "ms", "processor_ms", "peak_mib", "above_mib"])


def test_shares_are_of_the_same_slide_and_the_limits_decide():
    table = cost_tables.shares(measured(), base="all").set_index(["method", "n"])
    assert table.loc[("locpath", 100), ["time", "processor", "peak", "above"]].tolist() == [0.4, 0.625, 0.45, 0.5]
    assert (table.loc["all", ["time", "peak"]] == 1).all(axis=None)
    decided = cost_tables.acceptance(measured(), n=100)
    assert decided["against"].tolist() == ["all"] * 4
    assert decided["verdict"].tolist() == ["met", "not met", "met", "not met"]
    assert set(cost_tables.acceptance(measured(), n=200)["verdict"]) == {"not measured"}


def test_a_claim_holds_from_the_first_slide_that_saves_as_much():
    assert cost_tables.reached(lambda n: 1 - 50 / (n + 50), 0.5) == 50
    assert np.isnan(cost_tables.reached(lambda n: 0.1, 0.5))


def test_the_papers_table_and_its_ratios():
    table = published.step_costs().set_index("method")
    assert (100 * table.loc["LoC-Path", ["time_share", "memory_share"]]).round(1).tolist() == [50.6, 44.3]


def test_savings_grow_and_verdicts_stand_beside_the_claims():
    case = Case("locpath", "qwen2.5-7b", "step", 0, 32, 98)
    table = cost_tables.savings([150, 1000], case)
    assert (table.iloc[1] > table.iloc[0]).drop("adapters_gib").all()
    told = cost_tables.verdicts(table, case)
    assert set(told["claim"]) == {"FLOPs", "GPU memory"} and len(told) == 5
    for row in told[told["claim"] == "FLOPs"].itertuples():
        assert 100 < row.holds_from_tiles < 200
    from_tiles = int(told.set_index("of").loc["step_bytes", "holds_from_tiles"])
    there = cost_tables.savings([from_tiles], case).iloc[0]  # far beyond the two lengths that the line was laid through
    assert there["step_bytes"] == pytest.approx(0.58, abs=0.002)
    with pytest.raises(ValueError, match="got 1 length of slides; expected two or more"):
        cost_tables.verdicts(table.head(1), case)
