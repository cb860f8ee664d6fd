"""Slide lists and a tree of feature files become a manifest that keeps patients apart."""

import json
from pathlib import Path

import pytest
from run_here import run_here

from flows.plan.graph import Options, plan
from flows.plan.notebooks import NOTEBOOKS
from slidesieve.cohort.audit import file_faults, leakage
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.questions import Question, read_questions
from slidesieve.datasets.slidechat import counts, feature_files, manifest_table, overlap, slides_in
from slidesieve.features.bag_files import load_available_bags

TRAIN = [f"TCGA-2F-{i:04d}-01Z-00-DX{1 + i % 2}" for i in range(21)] + ["TCGA-AA-0000-01Z-00-DX2", "TCGA-BB-9999-01A"]
TEST = ["TCGA-AA-0000-01Z-00-DX1", "TCGA-BB-9999-01A", "17"]
MISSING = TRAIN[20]


@pytest.fixture
def tree(tmp_path) -> Path:
    for slide in {*TRAIN, *TEST} - {MISSING}:
        name = f"{slide}.8288CA92-B611.csv" if slide == TEST[0] else f"{slide}.csv"
        path = tmp_path / "feats" / ("BCNB" if slide == "17" else "BLCA") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0,1,2,file\n0.5,1,2,448_0.png\n1,2,3,0_448.png\n")
    return tmp_path


def table(tree: Path, **changes):
    settings = {"features": tree / "feats", "root": tree, "val_share": 0.2, "seed": 3, "source": "SlideChat"} | changes
    return manifest_table(TRAIN, TEST, **settings)


def test_the_manifest_is_sound_and_splits_by_patient(tree, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    table(tree).to_csv(tree / "manifest.csv", index=False)
    manifest = read_manifest(tree / "manifest.csv")
    rows = manifest.table.set_index("slide_id")
    assert rows["split"].value_counts().to_dict() == {"train": 17, "val": 4, "test": 3, "": 1}
    assert rows.loc[TEST, "split"].eq("test").all()
    assert rows.loc["TCGA-AA-0000-01Z-00-DX2", "split"] == ""  # its patient is tested
    assert rows.loc[TEST, "case_id"].tolist() == ["TCGA-AA-0000", "TCGA-BB-9999", "17"]
    assert rows.loc[TEST, "site"].tolist() == ["AA", "BB", ""]
    assert leakage(manifest)[["shared_cases", "shared_tcga_patients"]].to_numpy().sum() == 0
    assert file_faults(manifest, check_sha256=False).to_numpy().tolist() == [
        [MISSING, f"feats/{MISSING}.csv", "missing"]
    ]
    bags = load_available_bags(manifest, None, [*TEST, MISSING])
    assert {slide: bag.x.shape for slide, bag in bags.items()} == dict.fromkeys(TEST, (2, 3))


def test_paths_start_from_data_root_where_it_is_set(tree, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tree / "feats"))
    found = table(tree).set_index("slide_id")["feature_path"]
    assert found["17"] == "BCNB/17.csv" and found[TRAIN[0]] == f"BLCA/{TRAIN[0]}.csv"


def test_the_seed_decides_who_validates(tree):
    first, again, other = (table(tree, seed=seed)["split"].tolist() for seed in (3, 3, 4))
    assert first == again != other
    assert "val" not in table(tree, val_share=0)["split"].tolist()


def test_which_file_is_a_slides_must_be_clear(tree):
    (tree / "feats" / "uni").mkdir()
    (tree / "feats" / "uni" / "17.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 slides have several feature files \(17: BCNB/17.csv, uni/17.h5\)"):
        table(tree)
    assert list(feature_files(tree / "feats" / "BCNB", [*TRAIN, "17"])) == ["17"]
    (tree / "none").mkdir()
    with pytest.raises(ValueError, match=r"none of 25 slides .* has a file; expected names like the slides'"):
        table(tree, features=tree / "none")


def test_slides_are_counted_by_split_with_what_is_asked_about_them(tree, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    assert slides_in(tree / "feats") == sorted({*TRAIN, *TEST} - {MISSING})
    table(tree).to_csv(tree / "manifest.csv", index=False)
    manifest = read_manifest(tree / "manifest.csv")
    asked = [
        Question(f"{i}", slide, "", "", "?", ("yes", "no"), 0) for i, slide in enumerate([*TEST, TEST[2], TEST[2]])
    ]
    found = counts(manifest, {"questions": asked})
    missing_in = manifest.table.set_index("slide_id")["split"][MISSING]
    assert found["slides"].to_dict() == {"train": 17, "val": 4, "test": 3, "left out": 1}
    assert found["cases"].to_dict() == found["slides"].to_dict()
    assert (found["slides"] - found["with features"]).to_dict() == {s: int(s == missing_in) for s in found.index}
    assert found["questions"].to_dict() == {"train": 0, "val": 0, "test": 5, "left out": 0}


def test_overlap_counts_by_patient_before_the_split():
    """Of the 23 slides, TCGA-AA-0000's DX2 is of a tested patient and TCGA-BB-9999's is tested itself."""
    said = overlap([*TRAIN, TRAIN[0]], [*TEST, TEST[0]])
    assert said.startswith("2 of 23 slides to train on are of 2 of the 3 tested cases; 1 of them are tested themselves")


def test_the_notebook_makes_tables_that_an_experiment_is_planned_on(tree, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)

    def taught(slide: str) -> dict:
        said = [{"from": "human", "value": "<image>\nWhat is seen?"}, {"from": "gpt", "value": "Tumour."}]
        return {"id": slide, "image": [f"./BLCA/{slide}.csv"], "conversations": said}

    for name in ("captions", "instructions"):
        (tree / f"{name}.json").write_text(json.dumps([taught(slide) for slide in TRAIN]))
    rows = [f"{i},{slide},Grading,Which?,low,high,,,B" for i, slide in enumerate(TEST)]
    (tree / "bcnb.csv").write_text("\n".join(["ID,Slide,Task,Question,A,B,C,D,Answer", *rows]))
    files = {"captions": "captions.json", "instructions": "instructions.json", "questions": "bcnb.csv"}
    paths = {name: str(tree / file) for name, file in (files | {"features": "feats"}).items()}
    out = tree / "runs" / "06"
    result = run_here(NOTEBOOKS / "06_gather_slidechat.ipynb", out, paths | {"val_share": 0.2, "seed": 3})
    assert result.status == "ran", result.error
    assert [(q.kind, q.slide_id, q.answer) for q in read_questions(out / "questions.csv")] == [
        ("Grading", slide, 1) for slide in TEST
    ]
    manifest = read_manifest(out / "manifest.csv")
    expected = table(tree).assign(feature_path="../../" + table(tree)["feature_path"])
    assert manifest.table["split"].tolist() == expected["split"].tolist()
    assert manifest.table["feature_path"].tolist() == expected["feature_path"].tolist()
    assert load_available_bags(manifest, None, TEST)["17"].x.tolist() == [[0.5, 1, 2], [1, 2, 3]]
    tables = {"manifest": str(out / "manifest.csv"), "questions": str(out / "questions.csv")}
    stages = plan(
        Options(**tables, captions=paths["captions"], instructions=paths["instructions"], out=str(tree / "x"))
    )
    assert "20_extract_features" not in {stage.id for stage in stages}
    assert {stage.parameters.get("truth", "") for stage in stages} == {""}
