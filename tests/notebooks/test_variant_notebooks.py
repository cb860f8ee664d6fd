"""Notebooks 76 and 77 through the code the flow uses: variants and budgets of known quality."""

import pandas as pd
import pytest
from fake_runs import N_TILES, write_cohort, write_run
from run_here import run_here

from slidesieve.provenance.files import ROOT

QUALITY = {"sparselearn": 0.8, "sparselearn:gate=scale": 0.5, "sparselearn:denoiser=global": 0.82}
K = 7


def run(name, folder, answers, out):
    given = {"questions": str(folder / "questions.csv"), "answers": [str(path) for path in answers], "draws": 400}
    return run_here(ROOT / "notebooks" / f"{name}.ipynb", out, given)


def test_variants_of_known_quality_are_told_apart(tmp_path):
    write_cohort(tmp_path, n_slides=71)
    runs = [write_run(tmp_path, m, k=K, accuracy=a, seed=s) for s in (0, 1, 2) for m, a in QUALITY.items()]
    result = run("76_compare_variants", tmp_path, runs, tmp_path / "76")
    assert result.status == "ran", result.error
    paired = pd.read_csv(tmp_path / "76/paired.csv").query("group == 'evidence' and pooled").set_index("method")
    assert paired.loc["sparselearn:gate=scale", ["verdict", "sign_agrees"]].tolist() == ["below in these runs", "yes"]
    table = pd.read_csv(tmp_path / "76/variants.csv")
    assert table["method"].drop_duplicates().tolist() == list(QUALITY)
    assert len(pd.read_csv(tmp_path / "76/gaps.csv")) == 3 * 4 * len(table["group"].unique())


def test_every_method_stands_at_its_tokens(tmp_path):
    write_cohort(tmp_path, n_slides=57)
    runs = [write_run(tmp_path, m, k=k, accuracy=0.5) for k in (3, 33) for m in ("random", "mean")]
    runs += [write_run(tmp_path, "sparselearn", k=k, accuracy=0.9, seed=s) for k in (7, 33) for s in (0, 1)]
    runs += [write_run(tmp_path, "all", k=0, accuracy=0.95), write_run(tmp_path, "text_only", k=0, accuracy=0.3)]
    result = run("77_token_budget", tmp_path, runs, tmp_path / "77")
    assert result.status == "ran", result.error
    table = pd.read_csv(tmp_path / "77/by_tokens.csv").query("group == 'all' and pooled")
    tokens = table.groupby("method")["tokens"].apply(sorted).to_dict()
    assert tokens == {"sparselearn": [7, 33], "random": [3, 33], "mean": [3, 33], "all": [75], "text_only": [0]}
    recall = pd.read_csv(tmp_path / "77/recall.csv").set_index(["method", "k", "seed"])
    assert recall.loc[("random", 33, 0), "chance"] == pytest.approx(33 / N_TILES)
    assert (tmp_path / "77/by_tokens.png").exists()
