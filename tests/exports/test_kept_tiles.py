"""Kept tiles in QuPath's and AnnData's forms are those of the run, at their places; nothing else gives way to them."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from tiny_run import LENGTHS, SIDE_PX0
from tiny_vlm import K
from typer.testing import CliRunner

from flows.cli import app
from slidesieve.features.store import read_features


@pytest.fixture
def run(run_of):
    return run_of("sparselearn")


def export(run, out, to, *words, code=0):
    result = CliRunner().invoke(app, ["export", str(run), "--to", to, "--out", str(out), *words])
    assert result.exit_code == code, result.output
    return result.output


def selected_of(run) -> pd.DataFrame:
    return pd.read_csv(run / "60_answer_questions/sparselearn/selected.csv")


def test_qupath_gets_every_kept_tile_where_it_lies(run, tmp_path):
    said = export(run, tmp_path / "tiles", "qupath")
    assert "28 tiles of 4 slides" in said  # k = 7
    files = sorted(tmp_path.glob("tiles/*.geojson"))
    assert [file.stem for file in files] == list(LENGTHS)
    ids = set()
    for file in files:
        told = json.loads(file.read_text())
        assert told["type"] == "FeatureCollection" and len(told["features"]) == K
        rows = selected_of(run).query("slide_id == @file.stem").sort_values("rank")
        for feature, row in zip(told["features"], rows.itertuples(), strict=True):
            (ring,) = feature["geometry"]["coordinates"]
            corners = np.array(ring)
            assert feature["type"] == "Feature" and feature["geometry"]["type"] == "Polygon"
            assert ring[0] == ring[-1] == [row.x_px0, row.y_px0] and len(ring) == 5
            assert (corners.max(0) - corners.min(0)).tolist() == [SIDE_PX0, SIDE_PX0]
            (x, y), following = corners[:-1].T, corners[1:].T
            assert (x * following[1] - y * following[0]).sum() == 2 * SIDE_PX0**2  # a square, counter-clockwise
            properties = feature["properties"]
            assert properties["objectType"] == "detection"
            assert properties["classification"]["name"] == "sparselearn k7 seed 1"
            assert properties["measurements"] == {"rank": row.rank, "score": pytest.approx(row.score, rel=1e-12)}
            ids.add(feature["id"])
    assert len(ids) == 4 * K


def test_an_h5ad_holds_features_places_and_whose_they_are(run, tmp_path):
    export(run, tmp_path / "table", "anndata")
    rows = selected_of(run)
    with h5py.File(tmp_path / "table/kept_tiles.h5ad") as file:
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        assert {"X", "obs", "var", "obsm", "uns", "layers", "obsp", "varm", "varp"} == set(file)
        obs = {name: file["obs"][name][:] for name in file["obs"]}
        assert list(file["obs"].attrs["column-order"]) == [
            "slide_id", "case_id", "rank", "score", "x_px0", "y_px0", "method", "k", "seed",
        ]  # fmt: skip
        assert obs["slide_id"].astype(str).tolist() == rows["slide_id"].tolist()
        assert obs["_index"].astype(str)[8] == "b_1" and len(file["var"]["_index"]) == 33
        assert np.array_equal(obs["score"], rows["score"]) and np.array_equal(obs["rank"], rows["rank"])
        assert np.array_equal(file["obsm"]["spatial"][:], rows[["x_px0", "y_px0"]].to_numpy() + SIDE_PX0 / 2)
        bag = read_features(run / "b.h5")
        places = {tuple(corner): i for i, corner in enumerate(bag.coords.tolist())}
        mine = rows[rows["slide_id"] == "b"]
        kept = [places[corner] for corner in zip(mine["x_px0"], mine["y_px0"], strict=True)]
        assert np.array_equal(file["X"][K : 2 * K], bag.x[kept])
        assert json.loads(file["uns"]["slidesieve"]["model"][()])["compressor"] == "sparselearn"
        assert str(run) not in file["uns"]["slidesieve"]["command"][()].decode()


def test_an_export_gives_way_to_the_next_one_alone(run, tmp_path):
    out = tmp_path / "tiles"
    export(run, out, "qupath")
    before = (out / "a.geojson").read_bytes()
    (out / "a.geojson").write_text("changed")
    export(run, out, "qupath")
    assert (out / "a.geojson").read_bytes() == before
    assert "expected one for export anndata" in export(run, out, "anndata", code=2)
    (out / "mine.txt").write_text("x")
    assert "holds mine.txt, which slidesieve did not write" in export(run, out, "qupath", code=2)
    assert (out / "mine.txt").read_text() == "x" and [p.name for p in tmp_path.iterdir()] == ["tiles"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes").write_text("x")
    assert "holds what slidesieve did not write: notes" in export(run, tmp_path / "other", "hf", code=2)


def test_a_tile_that_is_no_longer_there_leaves_no_folder(run, tmp_path):
    whole = (run / "d.h5").read_bytes()
    with h5py.File(run / "d.h5", "r+") as file:
        file["coords"][:] += 1
    said = export(run, tmp_path / "tiles", "qupath", code=2)
    (run / "d.h5").write_bytes(whole)
    assert "d: its tiles are not those that were kept" in said and not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said(run, run_of, tmp_path):
    out = tmp_path / "out"
    assert "0 runs of method tcssa; expected one of sparselearn k 7 seed 1" in export(
        run, out, "hf", "--method", "tcssa", code=2
    )
    assert "0 runs of k 8" in export(run, out, "hf", "--k", "8", code=2)
    assert "no such folder" in export(run / "nowhere", out, "hf", code=2)
    assert "no finished 60_answer_questions" in export(tmp_path, out, "hf", code=2)
    assert "expected --to hf" in export(run, out, "qupath", "--include-lm", code=2)
    assert "mean: keeps no tiles" in export(run_of("mean"), out, "qupath", code=2)
    both = tmp_path / "both"
    for method in ("mean", "random"):
        shutil.copytree(run_of(method) / "60_answer_questions", both / "60_answer_questions", dirs_exist_ok=True)
    assert "2 runs of any method" in export(both, out, "hf", code=2)
    assert "28 tiles" in export(both / "60_answer_questions/random", out, "qupath")


def test_changed_weights_and_tables_are_refused(run, tmp_path):
    answers, receipt = (run / "60_answer_questions/sparselearn" / name for name in ("answers.csv", "receipt.json"))
    whole, told = answers.read_bytes(), receipt.read_text()
    answers.write_bytes(whole + b"\n")
    table = export(run, tmp_path / "out", "hf", code=2)
    answers.write_bytes(whole)
    changed = json.loads(told)
    changed["recipe"]["inputs"]["checkpoint"]["model/model.safetensors"] = "0" * 16
    receipt.write_text(json.dumps(changed))
    weights = export(run, tmp_path / "out", "hf", code=2)
    receipt.write_text(told)
    assert "answers.csv is not what was written there" in table
    assert "answered with another model/model.safetensors" in weights
