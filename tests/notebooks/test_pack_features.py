"""Packing as a notebook: what it writes is read as the files were; a faulty slide fails alone; a rerun keeps all."""

import h5py
import numpy as np
import pandas as pd
import pytest
from run_here import run_here
from slide_files import write_manifest

from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag_files import load_bags, open_features
from slidesieve.provenance.files import ROOT, read_receipt
from slidesieve.provenance.recipes import recipe_of

NOTEBOOK = ROOT / "notebooks/21_pack_features.ipynb"
D, N = 7, {"a": 23, "b": 1, "c": 40, "d": 5}


def x_of(slide_id: str) -> np.ndarray:
    return np.random.default_rng(ord(slide_id)).standard_normal((N[slide_id], D)).astype(np.float16)


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Four slides of a chunk a tile each, one of them not finite, and one slide without features."""
    monkeypatch.delenv("DATA_ROOT", raising=False)
    for slide_id in N:
        x = x_of(slide_id).astype(np.float32)
        x[0, 0] = np.nan if slide_id == "d" else x[0, 0]
        with h5py.File(tmp_path / f"{slide_id}.h5", "w") as file:
            file.create_dataset("features", data=x, chunks=(1, D), maxshape=(None, D))
            file["coords"] = np.arange(2 * len(x)).reshape(-1, 2)
            file["coords"].attrs["patch_size_level0"] = 512
    rows = [{"slide_id": slide_id, "feature_path": f"{slide_id}.h5"} for slide_id in N]
    return write_manifest(tmp_path / "m.csv", [*rows, {"slide_id": "bare"}])


def test_what_is_packed_is_read_as_the_files_were(manifest, tmp_path):
    out, given = tmp_path / "21", {"manifest": str(manifest), "workers": 0}
    result = run_here(NOTEBOOK, out, given)
    assert result.status == "ran", result.error
    assert "4 of 5 slides of the manifest have features" in result.printed and "3 ok, 1 failed" in result.printed
    assert f"3 slides, 64 tiles of {D} numbers" in result.printed and "own files / packed: " in result.printed
    ledger = pd.read_csv(out / "ledger.csv", keep_default_na=False).set_index("slide_id")
    assert ledger.index.tolist() == ["a", "b", "c", "d"] and ledger["n_tiles"].tolist() == [23, 1, 40, 0]
    assert "1 rows of features are not finite" in ledger.at["d", "message"]
    bags = open_features(out)
    for slide_id in "abc":
        assert np.array_equal(bags[slide_id].x, x_of(slide_id)) and bags[slide_id].attrs["patch_size_level0"] == 512
        assert bags[slide_id].coords.tolist() == np.arange(2 * N[slide_id]).reshape(-1, 2).tolist()
    outputs = {name for name in read_receipt(out)["outputs"] if name.startswith("part_")}
    assert outputs == {path.name for path in out.glob("part_*.h5")}
    assert run_here(NOTEBOOK, out, given).status == "ran"
    assert outputs == {path.name for path in out.glob("part_*.h5")}
    thin = run_here(NOTEBOOK, out, given | {"most_tiles": 3})
    assert "3 slides, 7 tiles" in thin.printed and f"may be removed: {', '.join(sorted(outputs))}" in thin.printed


def test_a_manifest_that_names_the_folder_depends_on_its_parts(manifest, tmp_path):
    out, given = tmp_path / "21", {"manifest": str(manifest), "workers": 0}
    assert run_here(NOTEBOOK, out, given).status == "ran"
    named = write_manifest(tmp_path / "packed.csv", [{"slide_id": s, "feature_path": "21"} for s in "abc"])
    bags = load_bags(read_manifest(named), None, "cab")
    assert [*bags] == ["c", "a", "b"] and np.array_equal(bags["a"].x, x_of("a"))
    first = recipe_of(NOTEBOOK, {"manifest": str(named)}).inputs["manifest"]
    assert {f"21/{path.name}" for path in out.glob("part_*.h5")} <= first.keys()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["features"][0] = 1
    assert run_here(NOTEBOOK, out, given).status == "ran"
    second = recipe_of(NOTEBOOK, {"manifest": str(named)}).inputs["manifest"]
    assert first.items() != second.items() and first.keys() - {"21/index.h5"} < second.keys() | {"21/index.h5"}
    (out / "receipt.json").unlink()
    with pytest.raises(FileNotFoundError, match="has not finished"):
        recipe_of(NOTEBOOK, {"manifest": str(named)})
