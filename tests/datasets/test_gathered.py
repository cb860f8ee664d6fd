"""From folders to a cohort: what is found, whose it is, who is on which side, and what nothing was found of."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_here import run_here
from typer.testing import CliRunner

from flows.cli import app
from flows.init import _sorted
from flows.plan.graph import Options, plan
from flows.plan.notebooks import NOTEBOOKS
from slidesieve.cohort.audit import file_faults, leakage
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.asked_files import BOTH, TEST, TRAIN, file_table, read_asked_files, write_tables
from slidesieve.datasets.found_files import look_through
from slidesieve.datasets.gathered import (
    ask_label,
    chosen_features,
    label_to_ask,
    manifest_table,
    next_command,
    slide_names,
    with_asked,
    with_labels,
)
from slidesieve.datasets.instructions import read_instructions
from slidesieve.datasets.open_questions import read_open_questions
from slidesieve.datasets.questions import in_cohort, read_captions, read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_available_bags
from slidesieve.features.store import write_features, write_packed

X = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
XY = np.stack([np.arange(9) % 3, np.arange(9) // 3], 1) * 512
UUID = "8288CA92-B611-4ACF-986E-0B8A3F620B94"
TRAINED = [f"TCGA-2F-{i:04d}-01Z-00-DX{1 + i % 2}" for i in range(21)] + ["TCGA-AA-0000-01Z-00-DX2"]
TESTED = ["TCGA-AA-0000-01Z-00-DX1", "TCGA-BB-9999-01Z-00-DX1", "17"]
ABSENT = TRAINED[20]


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)


@pytest.fixture
def tree(tmp_path) -> Path:
    """Features in two folders as they come: a slide a CSV, one with a UUID; a note that is nothing."""
    lines = [",".join([*map(str, range(16)), "file"])]
    lines += [",".join([*map(str, row), f"{x}_{y}.png"]) for row, (x, y) in zip(X.tolist(), XY, strict=True)]
    for slide in {*TRAINED, *TESTED} - {ABSENT}:
        path = tmp_path / "feats" / ("BCNB" if slide == "17" else "BLCA")
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{slide}{f'.{UUID}' if slide == TESTED[0] else ''}.csv").write_text("\n".join(lines))
    (tmp_path / "feats" / "README.md").write_text("x")
    return tmp_path


def conversation(slide: str, asked="What is seen?", said="Tumour.") -> dict:
    turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": said}]
    return {"id": slide, "image": [f"./BLCA/{slide}.csv"], "conversations": turns}


@pytest.fixture
def asked(tree) -> list[Path]:
    """SlideInstruct's two files and a benchmark, as published."""
    items = {
        "stage1_caption_train.json": [conversation(slide) for slide in TRAINED],
        "stage2_vqa_train.json": [conversation(slide, "Which? A) low B) high", "A") for slide in TRAINED],
    }
    for name, own in items.items():
        (tree / name).write_text(json.dumps(own))
    rows = [f"{i},{slide},Grading,Which?,low,high,,,B" for i, slide in enumerate(TESTED)]
    (tree / "bench.csv").write_text("\n".join(["ID,Slide,Task,Question,A,B,C,D,Answer", *rows]))
    return [tree / name for name in (*items, "bench.csv")]


def gathered(tree: Path, paths: list[Path], **changes) -> tuple[pd.DataFrame, list]:
    found = look_through([tree / "feats"])
    cohort, _ = slide_names(found, chosen_features(found))
    files = read_asked_files(paths, cohort["slide_id"].tolist(), corrections=None)
    how = {"root": tree, "val_share": 0.2, "test_share": 0.2, "seed": 3, "source": "me"} | changes
    return manifest_table(with_asked(cohort, files), files, **how), files


def test_patients_are_kept_apart_and_what_was_not_found_has_a_row(tree, asked):
    table, files = gathered(tree, asked)
    table.to_csv(tree / "manifest.csv", index=False)
    manifest = read_manifest(tree / "manifest.csv")
    rows = manifest.table.set_index("slide_id")
    first = f"{TESTED[0]}.{UUID}"  # the name of its file: what is asked about it meets there
    assert [file.role for file in files] == [TRAIN, TRAIN, TEST] and len(rows) == 25
    assert rows["split"].value_counts().to_dict() == {"train": 17, "val": 4, "test": 3, "": 1}
    assert rows.loc[[first, *TESTED[1:]], "split"].eq("test").all()
    assert rows.loc["TCGA-AA-0000-01Z-00-DX2", "split"] == ""  # its patient is tested
    assert rows.loc[[first, *TESTED[1:]], "case_id"].tolist() == ["TCGA-AA-0000", "TCGA-BB-9999", "17"]
    assert rows.loc[[first, *TESTED[1:]], "site"].tolist() == ["AA", "BB", ""]
    assert leakage(manifest)[["shared_cases", "shared_tcga_patients"]].to_numpy().sum() == 0
    assert file_faults(manifest, check_sha256=False)["slide_id"].tolist() == [ABSENT]
    bags = load_available_bags(manifest, None, rows.index)
    assert len(bags) == 24 and np.allclose(bags[first].x, X) and bags["17"].coords.tolist() == XY.tolist()
    told = file_table(files).set_index("file").loc["bench.csv"]
    assert (told.role, told.records, told.closed, told.slides_asked, told.slides_found) == ("test", 3, 3, 3, 3)
    assert told.found_how == "2 as they are; 1 but for a UUID" and told.version == "not known"


def test_what_is_written_is_read_back_and_an_experiment_is_planned_on_it(tree, asked):
    table, files = gathered(tree, asked)
    table.to_csv(tree / "manifest.csv", index=False)
    manifest = read_manifest(tree / "manifest.csv")
    written = write_tables(files, tree)
    assert written == ["questions.csv", "captions.json", "instructions.json"]
    questions = read_questions(tree / "questions.csv")
    assert len(questions) == 25 and in_cohort(questions, manifest, what="questions", least=1) == questions
    described, taught = (read_instructions(tree / name) for name in written[1:])
    assert {item.turns for item in described} == {(("What is seen?", "Tumour."),)} and len(taught) == 22
    assert {item.slide_id for item in taught} == set(TRAINED)
    command = next_command(manifest, written, tree)
    assert command == (
        f"slidesieve experiment --manifest {tree}/manifest.csv --questions {tree}/questions.csv --captions "
        f"{tree}/captions.json --instructions {tree}/instructions.json --llm PATH_OR_ID --out runs/mine --dry-run"
    )
    bare = replace(manifest, table=manifest.table.assign(feature_path=""))
    told = next_command(bare, written, tree, tile_px=512, mpp=0.5)
    assert "25 slides have no features" in told and "json --encoder PATH_OR_ID -p tile_px=512 --llm PATH" in told
    names = {
        "manifest": "manifest.csv",
        "questions": "questions.csv",
        "captions": written[1],
        "instructions": written[2],
    }
    given = {name: str(tree / file) for name, file in names.items()}
    stages = plan(Options(**given, out=str(tree / "x"), llm="models/of/ours"))
    assert "20_extract_features" not in {stage.id for stage in stages}


def test_the_seed_decides_who_validates_and_without_names_who_is_tested(tree, asked):
    first, again, other = (gathered(tree, asked, seed=seed)[0]["split"].tolist() for seed in (3, 3, 4))
    assert first == again != other
    (tree / "q.csv").write_text((tree / "bench.csv").read_text())
    rows = [f"t{slide},{slide},Grading,Which?,low,high,,,B" for slide in TRAINED]
    (tree / "more.csv").write_text("\n".join(["ID,Slide,Task,Question,A,B,C,D,Answer", *rows]))
    table, files = gathered(tree, [tree / "q.csv", tree / "more.csv"])
    assert [file.role for file in files] == [BOTH, BOTH]
    assert table["split"].value_counts().to_dict() == {"train": 16, "test": 5, "val": 4}
    assert table.groupby("case_id")["split"].nunique().max() == 1


def test_ids_of_several_files_are_named_apart(tree):
    for name in ("a.csv", "b.csv"):
        (tree / name).write_text("ID,Slide,Task,Question,A,B,Answer\n1,17,t,?,x,y,A\n")
    files = read_asked_files([tree / "a.csv", tree / "b.csv"], ["17"], corrections=None)
    assert [q.id for file in files for q in file.questions] == ["a:1", "b:1"]


def test_captions_and_open_questions_are_written_too(tree):
    (tree / "captions.csv").write_text("ID,Slide,x_px0,y_px0,width_px0,height_px0,Caption\n1,17.svs,0,0,9,9,Fat.\n")
    (tree / "t_test.json").write_text(json.dumps([conversation("17"), conversation(TESTED[1], "Is it?", "No")]))
    _, files = gathered(tree, [tree / "captions.csv", tree / "t_test.json"])
    (tree / "out").mkdir()
    assert write_tables(files, tree / "out") == ["questions.csv", "open_questions.csv", "captions.csv"]
    assert [(c.slide_id, c.box) for c in read_captions(tree / "out/captions.csv")] == [("17", (0, 0, 9, 9))]
    (opened,) = read_open_questions(tree / "out/open_questions.csv")
    assert (opened.slide_id, opened.text, opened.reference) == ("17", "What is seen?", "Tumour.")


def test_a_slide_with_two_kinds_of_features_must_be_told_which(tree):
    write_features((tree / "feats" / "17.h5"), make_bag("17", X, XY, {"encoder": "uni"}), {})
    with pytest.raises(ValueError, match=r"1 slides twice among feats \(1 slides, slidesieve, uni, 16 wide\); BCNB"):
        chosen_features(look_through([tree / "feats"]))
    found = look_through([tree / "feats"])
    assert [one.path.name for one in chosen_features(found, "UNI")] == ["17.h5"]
    with pytest.raises(ValueError, match="features 'conch': no such kind; got feats"):
        chosen_features(found, "conch")
    write_packed(tree / "p.h5", [make_bag("p", X[:, :8], None, {})])
    with pytest.raises(ValueError, match=r"features: widths \[8, 16\]"):
        chosen_features(look_through([tree / "p.h5", tree / "feats" / "17.h5"]))


def test_files_that_hold_nothing_are_said_and_none_is_followed(tree):
    (tree / "feats" / "broken.h5").write_bytes(b"no")
    (tree / "feats" / "labels.csv").write_text("slide_id,grade\n17,1\n")
    (tree / "feats" / ".hidden.h5").write_bytes(b"no")
    (tree / "feats" / "s.svs").write_bytes(b"no")
    found = look_through([tree / "feats"])
    assert [path.name for path in found.slides] == ["s.svs"] and [p.name for p in found.unread] == ["labels.csv"]
    assert [name for name, _ in found.faults] == ["broken.h5"] and found.others == {".md": 1}
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        look_through([tree / "nowhere"])


def test_slides_meet_their_features(tmp_path):
    for name in ("a.svs", "b.svs", "x/b.svs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    write_packed(tmp_path / "f.h5", [make_bag(f"a.{UUID}", X, XY, {}), make_bag("c", X, XY, {})])
    found = look_through([tmp_path])
    cohort, met = slide_names(found, chosen_features(found))
    assert cohort["slide_id"].tolist() == ["a", "b", "c"] and met.how == {"but for a UUID": 1}
    assert [bool(path) for path in cohort["feature_path"]] == [True, False, True]
    assert next(fault for name, fault in found.faults if name == "b.svs").startswith("a second slide file named 'b'")


def test_labels_give_patients_sites_and_classes(tmp_path):
    cohort = pd.DataFrame({"slide_id": [f"00{i}" for i in range(9)], "slide_path": "", "feature_path": "f.h5"})
    rows = [
        (str(i), f"p{i // 2}", "Zürich", "ILC" if i % 2 else "IDC", "[Not Available]" if i < 3 else "II", i)
        for i in range(9)
    ]
    table = pd.DataFrame(rows, columns=["slide_id", "patient_id", "site", "type", "stage", "age"])
    table.to_csv(tmp_path / "l.csv", index=False, sep=";", encoding="cp1252")
    made, met = with_labels(cohort, tmp_path / "l.csv")
    assert met.how == {"but for leading zeros": 9}
    assert made["case_id"].tolist() == [f"p{i // 2}" for i in range(9)] and set(made["site"]) == {"Zürich"}
    assert [name for name in made if name.startswith("label_")] == ["label_type", "label_age"]  # one stage is no class
    made.to_csv(tmp_path / "m.csv", index=False)
    how = {"root": tmp_path, "val_share": 0.2, "test_share": 0.2, "seed": 0, "source": ""}
    manifest_table(made.drop(columns="label_age"), [], **how).to_csv(tmp_path / "m.csv", index=False)
    manifest = read_manifest(tmp_path / "m.csv")
    assert label_to_ask(manifest, "") == label_to_ask(manifest, "type") == "label_type"
    ask_label(manifest, "label_type", text="Which?", seed=0).to_csv(tmp_path / "q.csv", index=False)
    asked = read_questions(tmp_path / "q.csv")
    assert [q.options[q.answer] for q in asked] == manifest.table["label_type"].tolist()
    with pytest.raises(ValueError, match=r"label 'stage': expected one of label_type, of 2 to 10 values"):
        label_to_ask(manifest, "stage")
    by_patient = table[["patient_id", "type"]].drop_duplicates("patient_id")
    by_patient.assign(
        patient_id=[f"TCGA-AA-000{i}" for i in range(5)], type=["IDC", "ILC", "IDC", "ILC", "IDC"]
    ).to_csv(tmp_path / "p.csv", index=False)
    slides = pd.DataFrame({"slide_id": ["TCGA-AA-0001-01Z-00-DX1", "TCGA-AA-0001-01Z-00-DX2"], "slide_path": "a"})
    assert with_labels(slides, tmp_path / "p.csv")[0]["label_type"].tolist() == ["ILC", "ILC"]
    pd.concat([table, table[:1]]).to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(ValueError, match=r"l.csv: 1 rows of '0' and others; expected one row each"):
        with_labels(cohort, tmp_path / "l.csv")


def test_a_table_that_names_the_patients_of_some_slides_alone_is_refused(tmp_path):
    cohort = pd.DataFrame({"slide_id": ["a1", "a2", "b1", "TCGA-AA-0001-01Z-00-DX1"], "slide_path": "f.svs"})
    table = pd.DataFrame({"slide_id": cohort["slide_id"], "case_id": ["a", "NA", "b", ""], "type": list("xyxy")})
    table.to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(
        ValueError, match=r"l.csv: case_id is empty of 1 slides, the first is 'a2'; expected whose each"
    ):
        with_labels(cohort, tmp_path / "l.csv")
    told = table.assign(case_id=["a", "unknown 1", "b", ""])  # of a barcode the patient is known
    told.to_csv(tmp_path / "l.csv", index=False)
    assert with_labels(cohort, tmp_path / "l.csv")[0]["case_id"].tolist() == told["case_id"].tolist()
    table.assign(case_id="").to_csv(tmp_path / "l.csv", index=False)  # nobody is named: each slide is its own
    assert set(with_labels(cohort, tmp_path / "l.csv")[0]["case_id"]) == {""}


def test_the_notebook_says_what_was_found(tree, asked, capsys):
    out = tree / "runs" / "03"
    paths = {"folders": [str(tree / "feats")], "questions": list(map(str, asked)), "val_share": 0.2, "seed": 3}
    result = run_here(NOTEBOOKS / "03_gather_cohort.ipynb", out, paths)
    assert result.status == "ran", result.error
    expected = gathered(tree, asked)[0]
    manifest = read_manifest(out / "manifest.csv")
    assert manifest.table["split"].tolist() == expected["split"].tolist()
    assert "slides of 3 files: 25 asked for, 24 found (23 as they are, 1 but for a UUID), 1 lost: " in result.printed
    assert "0 of 0 slides, 0 files, 1 rows whose file is not there" in result.printed
    assert "slidesieve experiment --manifest" in result.printed and (out / "grids.png").stat().st_size > 5000
    assert set(pd.read_csv(out / "faults.csv")["fault"]) == {"missing"}
    edited = (out / "manifest.csv").read_text().replace("train", "val")
    (out / "manifest.csv").write_text(edited)
    again = CliRunner().invoke(app, ["init", str(tree / "feats"), "--out", str(out)])
    assert again.exit_code == 2 and "manifest.csv changed since this command wrote it" in again.output
    assert (out / "manifest.csv").read_text() == edited and (out / "receipt.json").exists()


def test_the_command_tells_files_by_what_they_are(tree, asked):
    (tree / "labels.csv").write_text("slide_id,grade\n17,1\n")
    (tree / "asked").mkdir()
    (tree / "asked" / "q.json").write_text("[]")
    folders, questions, labels = _sorted([tree / "feats", *asked, tree / "labels.csv"], [tree / "asked"], [])
    assert folders == [str(tree / "feats")] and labels == [str(tree / "labels.csv")]
    assert questions == [str(tree / "asked" / "q.json"), *map(str, asked)]
    for words, fault in (
        ([str(tree / "none"), "--out", str(tree / "o")], "no such folder"),
        ([str(tree / "feats"), "--questions", str(tree / "no.csv"), "--out", str(tree / "o")], "no.csv: no such file"),
        ([str(tree / "labels.csv"), "--out", str(tree / "o")], "no folder of slides or features"),
    ):
        result = CliRunner().invoke(app, ["init", *words])
        assert result.exit_code != 0 and fault in result.output
