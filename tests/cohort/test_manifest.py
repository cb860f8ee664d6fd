"""The manifest: what is refused, where files lie, who is in which split, who is in two."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from slide_files import write_manifest

from slidesieve.cohort.audit import file_faults, leakage, site_counts, split_counts
from slidesieve.cohort.ids import tcga_case
from slidesieve.cohort.manifest import Manifest, path_of, read_manifest, row_of, with_slide_file
from slidesieve.cohort.splits import shared_cases, shared_sites, shared_tcga_cases, split_of


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)


def _read(tmp_path: Path, rows: list[dict]):
    return read_manifest(write_manifest(tmp_path / "manifest.csv", rows))


def test_values_and_types(tmp_path):
    manifest = _read(tmp_path, [{"slide_id": "007", "mpp": "0.25", "label_x": "NA"}, {"slide_id": "b", "label_x": ""}])
    assert manifest.table["slide_id"].tolist() == ["007", "b"]
    assert manifest.table["label_x"].tolist() == ["NA", ""]
    assert manifest.table["mpp"][0] == 0.25 and np.isnan(manifest.table["mpp"][1])


def test_all_faults_are_listed_at_once(tmp_path):
    rows = [
        {"slide_id": "a", "split": "train", "case_id": "p"},
        {"slide_id": "a", "split": "test", "case_id": "p"},
        {"slide_id": "c", "slide_path": ""},
        {"slide_id": "d/e", "mpp": "-1", "split": "dev", "sha256": "xyz", "case_id": ""},
        {"slide_id": "f", "mpp": "1,5,0", "surname": "x"},
    ]
    with pytest.raises(ValueError) as caught:
        _read(tmp_path, rows)
    for part in (
        "'a': 2 rows",
        "case p: slides in splits test, train",
        "row 4 (c): slide_path and feature_path are both empty",
        "not empty, no '/'",
        "mpp '-1'",
        "split 'dev'",
        "sha256 'xyz'",
        "row 5 (d/e): case_id is empty",
        "mpp '1,5,0'",
        "column 'surname' is unknown",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("a\nb", r"row 3 \('a\\nb'\): slide_id names files: no line break, NUL or other sign that cannot be printed"),
        ("a\u200bb", "no line break, NUL or other sign"),
        ("a/b", r"row 3 \(a/b\): slide_id names files: not empty, no '/', no '\\', no leading '\.'"),
        ("a\\b", r"no '\\', no leading"),
        ("..", "no leading"),
        (".a", "no leading"),
        ("x" * 201, "it has 201 bytes, at most 200"),
        ("é" * 101, "it has 202 bytes, at most 200"),
        (
            "OK",
            r"rows 2, 3 \('ok', 'OK'\): slide_id equal but for case .* one file on some systems; rename all but one",
        ),
        ("o\u212a", "equal but for case"),  # the sign of kelvin
    ],
)
def test_an_id_that_is_no_name_of_a_file_everywhere_is_refused(tmp_path, wrong, fault):
    with pytest.raises(ValueError, match=fault):
        _read(tmp_path, [{"slide_id": "ok"}, {"slide_id": wrong, "case_id": "p"}])


def test_a_patient_written_in_two_ways_is_refused(tmp_path):
    rows = [
        {"slide_id": "a", "case_id": "P006", "split": "train"},
        {"slide_id": "b", "case_id": "p006", "split": "test"},
    ]
    with pytest.raises(ValueError, match=r"rows 2, 3 \('P006', 'p006'\): case_id equal but for case .* on two sides"):
        _read(tmp_path, rows)


def test_an_id_of_two_spellings_of_one_accent_is_refused_and_a_nul_never_cuts_one_short(tmp_path):
    with pytest.raises(ValueError, match="'caf\u00e9': 2 rows with this slide_id"):
        _read(tmp_path, [{"slide_id": "caf\u00e9"}, {"slide_id": "cafe\u0301"}])
    path = write_manifest(tmp_path / "m.csv", [{"slide_id": "aXb"}])
    path.write_bytes(path.read_bytes().replace(b"X", b"\0"))
    with pytest.raises(ValueError, match="NUL"):
        read_manifest(path)


def test_ids_of_any_language_and_of_200_bytes_pass(tmp_path):
    ids = ["Fall 7, links", "スライド-1", "x" * 200, "TCGA-05-4244-01Z-00-DX1.d4ff32cd", "straße"]
    assert _read(tmp_path, [{"slide_id": i} for i in ids]).table["slide_id"].tolist() == ids


def test_a_slides_row_is_found_without_going_through_the_others():
    """10^5 rows: the column of ids is gone through once, whatever number of slides is asked for."""
    n, times = 100_000, []
    table = pd.DataFrame({"slide_id": [f"s{i}" for i in range(n)], "slide_path": [f"{i}.tif" for i in range(n)]})

    class Watched:
        iloc = table.iloc

        def __getitem__(self, column):
            times.append(column)
            return table[column]

        def __len__(self):
            return n

    manifest = Manifest(Watched(), Path("/data"))
    for i in range(0, n, 100):
        assert path_of(manifest, f"s{i}", "slide_path") == Path(f"/data/{i}.tif")
    assert times == ["slide_id"]
    with pytest.raises(ValueError, match="z: not among the manifest's 100000 slides"):
        row_of(manifest, "z")


def test_slides_that_are_there(tmp_path):
    (tmp_path / "a.tif").touch()
    rows = [{"slide_id": "a", "slide_path": "a.tif"}, {"slide_id": "b"}, {"slide_id": "c", "slide_path": ""}]
    rows[2]["feature_path"] = "c.h5"
    assert with_slide_file(_read(tmp_path, rows), ["c", "b", "a"]) == ["a"]


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "m.csv").write_text("slide_id,case_id\na,a\n")
    with pytest.raises(ValueError, match="got columns slide_id, case_id; expected slide_id and slide_path or feat"):
        read_manifest(tmp_path / "m.csv")


def test_folds_and_names_do_not_mix(tmp_path):
    with pytest.raises(ValueError, match="mixes fold numbers"):
        _read(tmp_path, [{"slide_id": "a", "split": "0"}, {"slide_id": "b", "split": "train"}])


def test_paths_start_from_the_manifest_or_data_root(tmp_path, monkeypatch):
    rows = [{"slide_id": "a", "slide_path": "slides/a.svs"}]
    assert path_of(_read(tmp_path, rows), "a", "slide_path") == tmp_path / "slides/a.svs"
    monkeypatch.setenv("DATA_ROOT", "/data")
    manifest = _read(tmp_path, rows)
    assert path_of(manifest, "a", "slide_path") == Path("/data/slides/a.svs")
    with pytest.raises(ValueError, match="a: feature_path is empty"):
        path_of(manifest, "a", "feature_path")
    with pytest.raises(ValueError, match="z: not among"):
        path_of(manifest, "z", "slide_path")


def test_folds_turn_into_splits(tmp_path):
    manifest = _read(tmp_path, [{"slide_id": f"s{i}", "split": str(i % 5)} for i in range(10)] + [{"slide_id": "x"}])
    split = split_of(manifest, fold=4)
    assert split["s4"] == "test" and split["s0"] == "val" and split["s9"] == "test"
    assert (split[["s1", "s2", "s3"]] == "train").all() and split["x"] == ""
    tested = [i for fold in range(5) for i in split_of(manifest, fold).index[split_of(manifest, fold) == "test"]]
    assert sorted(tested) == [f"s{i}" for i in range(10)]  # each slide once
    with pytest.raises(ValueError, match="set fold"):
        split_of(manifest)
    with pytest.raises(ValueError, match="fold 5"):
        split_of(manifest, fold=5)


def test_named_splits_pass_through_and_refuse_a_fold(tmp_path):
    manifest = _read(tmp_path, [{"slide_id": "a", "split": "train"}, {"slide_id": "b", "split": "test"}])
    assert split_of(manifest).to_dict() == {"a": "train", "b": "test"}
    with pytest.raises(ValueError, match="fold 0"):
        split_of(manifest, fold=0)


def test_shared_groups(tmp_path):
    rows = [
        {"slide_id": "a", "case_id": "p1", "site": "x"},
        {"slide_id": "b", "case_id": "p1", "site": "x"},
        {"slide_id": "c", "case_id": "p2", "site": "x"},
        {"slide_id": "d", "case_id": "p3", "site": ""},
        {"slide_id": "e", "case_id": "p4", "site": ""},
    ]
    table = _read(tmp_path, rows).table
    assert shared_cases(["a", "c"], ["b", "d"], table) == ["p1"]
    assert shared_cases(["a", "b"], ["c", "d", "e"], table) == []
    assert shared_sites(["a"], ["c", "d"], table) == ["x"]
    assert shared_sites(["d"], ["e"], table) == []  # unknown is not a site


def test_tcga_barcodes():
    a = ["TCGA-05-4244-01Z-00-DX1.d4ff32cd", "TCGA-05-4245-01Z-00-DX1", "slide-7"]
    b = ["TCGA-05-4244-01A-01-TS1", "TCGA-05-42450-01Z", "slide-7x"]
    assert tcga_case(a[0]) == "TCGA-05-4244" and tcga_case("slide-7") == "" and tcga_case(b[1]) == ""
    assert shared_tcga_cases(a, b) == ["TCGA-05-4244"]


def test_audit(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    rows = [
        {"slide_id": "TCGA-05-4244-01Z", "split": "train", "site": "05", "slide_path": "a.tif", "sha256": abc},
        {"slide_id": "TCGA-05-4244-02Z", "split": "test", "site": "05", "slide_path": "b.tif"},
        {"slide_id": "c", "split": "test", "site": "x", "slide_path": "a.tif"},
    ]
    manifest = _read(tmp_path, rows)
    assert split_counts(manifest).loc["test"].tolist() == [2, 2, 2]
    assert split_counts(manifest).loc["total"].tolist() == [3, 3, 2]
    assert site_counts(manifest).loc["05"].to_dict() == {"test": 1, "train": 1}
    assert leakage(manifest).iloc[0].tolist() == ["test", "train", 0, 1, 1]
    faults = file_faults(manifest, check_sha256=True)
    assert faults.to_numpy().tolist() == [["TCGA-05-4244-02Z", "b.tif", "missing"]]
    (tmp_path / "a.tif").write_bytes(b"abd")
    assert "manifest says ba7816bf8f01" in file_faults(manifest, check_sha256=True)["fault"][0]
    assert len(file_faults(manifest, check_sha256=False)) == 1
