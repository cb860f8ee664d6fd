"""What was run, as the report tells it."""

import json
import sys
from pathlib import Path

from flows.plan.stages import Stage
from flows.report.setting import OF_DRAWN, caution, command, commits, example, setting
from slidesieve.provenance.files import ROOT

ANSWERS = ROOT / "notebooks" / "60_answer_questions.ipynb"
TILES = ROOT / "notebooks" / "10_tile_slides.ipynb"


def answered(folder: Path, *, commit: str = "abc") -> Stage:
    made = folder / "60"
    made.mkdir(parents=True)
    (folder / "m.csv").write_text("slide_id,case_id,split\na,p,train\nb,p,train\nc,q,test\n")
    (folder / "q.csv").write_text("ID,Question,A,B,C,Answer\nq0,Where?,here,there,,A\nq1,Which?,this,that,,B\n")
    (made / "answers.csv").write_text("method,ID\nrandom,q1\n")
    (made / "costs.csv").write_text("n_tiles,visual_tokens,method\n1000.0,8.0,random\n")
    told = {"python": "3.12", "device": "cpu", "packages": {"torch": "2"}, "commit": commit}
    (made / "receipt.json").write_text(json.dumps({"environment": told}))
    given = {"manifest": str(folder / "m.csv"), "questions": str(folder / "q.csv"), "lm": "org/model"}
    return Stage("60_answer_questions/random_k8_s0", ANSWERS, str(made), given)


def test_cohort_tiles_tokens_and_versions(tmp_path):
    cut = Stage("10_tile_slides", TILES, str(tmp_path / "10"), {"tile_px": 224, "mpp": 0.5})
    told = dict(setting([cut, answered(tmp_path)]))
    assert told["Cohort"].endswith("m.csv: 3 slides of 2 patients (2 train, 1 test)")
    assert told["Tiles"] == "224 px at 0.5 µm a pixel: 112 µm a side" and told["Language model"] == "org/model"
    assert told["Tokens"] == "8 for 1000 tiles a slide on average, 1 in 125: random"
    assert told["Versions"] == "Python 3.12, torch 2; cpu" and told["Commit"] == "abc (1 of 2 stages)"


def test_drawn_slides_are_said_to_be_drawn_and_real_ones_are_not(tmp_path):
    stage = answered(tmp_path)
    assert caution([stage]) == "" and caution([]) == ""
    drawn = (ROOT / "data_manifest.csv").read_text(encoding="utf-8")
    (tmp_path / "m.csv").write_text(drawn, encoding="utf-8")
    assert caution([stage]) == OF_DRAWN
    head, first, rest = drawn.split("\n", 2)
    (tmp_path / "m.csv").write_text("\n".join([head, first.replace("slidesieve.synthetic", "TCGA"), rest]))
    assert caution([stage]) == ""


def test_methods_of_one_ratio_stand_together(tmp_path):
    first, other = answered(tmp_path / "a"), answered(tmp_path / "b")
    for stage, rows in ((first, "128.0,8.0,kmeans"), (other, "128.0,8.0,sparselearn")):
        (Path(stage.out_dir) / "costs.csv").write_text(f"n_tiles,visual_tokens,method\n{rows}\n")
    told = dict(setting([first, other]))["Tokens"]
    assert told == "8 for 128 tiles a slide on average, 1 in 16: k-means, SparseLearn"


def test_a_question_for_example_with_its_options_and_key(tmp_path):
    found = example([answered(tmp_path)])
    assert found == {"question": "Which?", "options": {"A": "this", "B": "that"}, "key": "B"}
    assert example([]) is None


def test_what_a_blind_choice_is_worth_is_said_of_what_was_asked(tmp_path):
    stage = answered(tmp_path)
    (tmp_path / "q.csv").write_text(
        "ID,Question,A,B,C,D,Answer\nq0,Where?,a,b,c,,A\nq1,Which?,a,b,,,B\nq2,Who?,a,b,c,d,B\n"
    )
    said = "a blind choice among the options is right in {} % of the questions that were answered"
    assert dict(setting([stage]))["Guessing"] == said.format("50.0")
    (Path(stage.out_dir) / "answers.csv").write_text("method,ID\nrandom,q1\nrandom,q2\nrandom_wrong_slide,q1\n")
    assert dict(setting([stage]))["Guessing"] == said.format("37.5")
    (tmp_path / "q.csv").write_text("ID,Question,Answer\nq1,Which?,B\n")
    assert "Guessing" not in dict(setting([stage]))


def test_one_commit_is_said_once_and_several_are_counted(tmp_path):
    stages = [answered(tmp_path / str(i), commit=c) for i, c in enumerate(("abc", "abc", "def+"))]
    assert commits(stages[:2]) == "abc" and commits(stages) == "abc (2 of 3 stages), def+ (1 of 3 stages)"


def test_the_command_is_as_one_types_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/.venv/bin/slidesieve", "experiment", "--k", "8,16", "--out", "my runs"])
    assert command() == "slidesieve experiment --k 8,16 --out 'my runs'"
    monkeypatch.setattr(sys, "argv", ["/x/flows/experiment.py", "-p", "steps=3"])
    assert command() == "python -m flows.experiment -p steps=3"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert command() == ""
