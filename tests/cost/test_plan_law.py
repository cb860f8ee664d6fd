"""Every preset at the size of the public data: it can finish. Nothing is read but tables, and nothing is trained."""

import pytest
from public_size import write_tables

from flows.plan.graph import Options, plan
from flows.plan.presets import PRESETS, read_preset
from flows.plan.stages import changes_of, values_of
from slidesieve.cost.plan_table import Planned, costs
from slidesieve.provenance.files import ROOT


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return {name: str(path) for name, path in write_tables(tmp_path_factory.mktemp("public")).items()}


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_validation_checkpoints_and_batches_stay_within_bounds(name, tables, monkeypatch):
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: False)
    preset = read_preset(name)
    options = Options(
        **tables, out="runs/public", llm=preset.options["llm"], k=(int(preset.options["k"]),), device="cuda",
        compressors=tuple(preset.options["compressors"].split(",")), settings=preset.settings,
        alignment=preset.options.get("alignment", True),
    )  # fmt: skip
    stages = plan(options)
    planned = [Planned(s.id, values_of(s), changes_of(s), ROOT / s.out_dir) for s in stages]
    found = costs(planned, {stage.id: ["never ran"] for stage in stages})
    trained = {id: cost for id, cost in found.items() if id[:2] in ("30", "40", "50")}
    assert len(trained) >= 7 and all(None not in cost[:7] for cost in trained.values())
    shares = {id: cost.validation_tokens / cost.training_tokens for id, cost in trained.items()}
    assert max(shares.values()) <= 0.10, shares
    assert all(cost.checkpoint_bytes <= 100 * cost.learnt_bytes for cost in trained.values())
    budgets = {stage.id: stage.values.get("batch_tokens") for stage in planned}
    assert all(cost.largest_batch <= budgets[id] for id, cost in found.items() if cost.largest_batch)
