"""The script for a GPU, run in small on a CPU: every part ends, and what it finds is written as it is found."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.gpu import LIMITS_S, as_table
from benchmarks.gpu_parts import PARTS
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed

ROOT = Path(__file__).parents[2]


def run(out: Path, *words: str) -> list[dict]:
    """Run the script on the CPU and read back its lines."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--out", str(out), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == rows
    return rows


def write_cohort(folder: Path) -> dict[str, str]:
    """Two classes of slides that their features tell apart."""
    rng, rows, bags = np.random.default_rng(0), [], []
    for i in range(24):
        bags.append(make_bag(f"s{i}", rng.normal(i % 2, 1, (5 + i, 16)), None, {}))
        rows.append((f"p{i // 2}", f"s{i}.svs", ("LUAD", "LUSC")[i % 2]))
    write_packed(folder / "store.h5", bags)
    pd.DataFrame(rows, columns=["case_id", "slide_id", "oncotree_code"]).to_csv(folder / "labels.csv", index=False)
    return {"bags": str(folder / "store.h5"), "labels": str(folder / "labels.csv")}


@pytest.mark.slow
def test_parts_that_start_processes_run_in_small_and_end(tmp_path):
    rows = run(tmp_path / "out", "--parts", "tests,resume")
    assert [(row["part"], row["status"]) for row in rows if "seconds" in row] == [("tests", "ok"), ("resume", "ok")]
    told = next(row for row in rows if "exit" in row)
    assert told["exit"] == 0 and told.get("passed", 0) + told.get("skipped", 0) >= 1  # those marked gpu are found
    assert next(row for row in rows if row["part"] == "resume")["largest_difference"] == 0


def test_every_other_part_finds_something_in_small(tmp_path):
    options = SimpleNamespace(device="cpu", tiny=True, **write_cohort(tmp_path))
    found = {name: list(part(options)) for name, part in PARTS.items() if name not in ("tests", "resume")}
    assert found.keys() | {"tests", "resume"} == LIMITS_S.keys() and all(found.values())
    assert len(found["steps"]) == 10 and all(row["status"] == "ok" and row["ms"] > 0 for row in found["steps"])
    assert [row["method"] for row in found["bags"]] == ["all", "sparselearn", "tcssa", "mean"]
    assert all(0 <= row["test_auroc"] <= 1 for row in found["bags"])


def test_a_part_past_its_limit_is_cut_and_the_next_one_told(tmp_path, monkeypatch):
    rows = run(tmp_path / "out", "--parts", "bags,kernels", "--minutes", "0.05")
    assert [row["status"] for row in rows] == ["left out: no time"] * 2


def test_a_table_has_the_columns_of_its_part():
    rows = [
        {"part": "a", "x": 1.23456, "y": "p|q"},
        {"part": "a", "z": 2},
        {"part": "a", "status": "ok", "seconds": 3.0},
    ]
    assert as_table(rows) == (
        "## a\n\n| x | y | z |\n|---|---|---|\n| 1.235 | p/q |  |\n|  |  | 2 |\n\nstatus: ok, seconds: 3\n"
    )
