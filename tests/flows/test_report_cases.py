"""The report's cases: what 78 wrote, told with every method's answer."""

from pathlib import Path

from flows.plan.stages import Stage
from flows.report.cases import cases

ROW = '1,"right, as most others are",0.5,q1,s1,What is it?,A. a; B. b,A,A,B,C,A,B,\n'
RUNS = ["sparselearn (k = 8, seed 0)", "sparselearn (k = 8, seed 1)", "sparselearn_wrong_slide (k = 8, seed 0)"]
RUNS += ["all (k = 0, seed 0)", "random (k = 8, seed 0)", "mean (k = 8, seed 0)"]
HEAD = ",".join(["case,why,others,ID,slide_id,question,options,key", *(f'"{run}"' for run in RUNS)]) + "\n"


def test_answers_of_all_seeds_stand_together_and_controls_are_left_out(tmp_path):
    made, report = tmp_path / "78", tmp_path / "report"
    made.mkdir()
    report.mkdir()
    (made / "cases.csv").write_text(HEAD + ROW)
    stage = Stage("78_show_cases", Path("78_show_cases.ipynb"), str(made), {})
    (case,) = cases([stage], report)
    assert case["picture"] == "" and case["options"] == ["A. a", "B. b"] and case["why"] == "right, as most others are"
    assert [(a["method"], a["said"]) for a in case["answers"]] == [
        ("SparseLearn (k = 8)", ["A", "B"]), ("all tiles", ["A"]), ("random (k = 8)", ["B"]),
    ]  # fmt: skip
    (made / "case_01.jpg").write_bytes(b"jpg")
    assert cases([stage], report)[0]["picture"] == "case_01.jpg" and (report / "case_01.jpg").read_bytes() == b"jpg"


def test_how_many_of_the_questions_own_tiles_were_kept_is_said_where_it_is_known(tmp_path):
    made, report = tmp_path / "78", tmp_path / "report"
    made.mkdir()
    report.mkdir()
    head = "case,why,others,ID,slide_id,question,options,key,about,kept\n"
    told = "".join(f'{i},"w",0.5,q{i},s1,What?,A. a; B. b,A,{words}\n' for i, words in enumerate(("3,1", "1,0", ",")))
    (made / "cases.csv").write_text(head + told)
    found = cases([Stage("78_show_cases", Path("78_show_cases.ipynb"), str(made), {})], report)
    assert [case["kept"] for case in found] == [
        "Of the 3 planted tiles that this question is about, 1 kept.",
        "Of the 1 planted tile that this question is about, 0 kept.",
        "",
    ]


def test_where_a_floor_is_right_and_the_method_wrong_it_is_said_and_stands_open(tmp_path):
    made, report = tmp_path / "78", tmp_path / "report"
    made.mkdir()
    report.mkdir()
    rows = ['1,"wrong, as others are",0.5,q1,s1,What?,A. a; B. b,A,B,B,A,B,B,\n']
    rows += ['2,"wrong, as others are",0.5,q2,s1,What?,A. a; B. b,A,B,B,A,B,A,A\n']
    rows += ['3,"wrong, as others are",0.5,q3,s1,What?,A. a; B. b,A,B,B,A,B,A,B\n']
    rows += ['4,"wrong, as others are",0.5,q4,s1,What?,A. a; B. b,A,A,A,A,B,A,B\n']
    (made / "cases.csv").write_text("".join([HEAD, *rows]))
    found = cases([Stage("78_show_cases", Path("78_show_cases.ipynb"), str(made), {})], report)
    assert [case["lost"] for case in found] == [
        "",
        "SparseLearn (k = 8) is wrong here, where floors answered correctly: random (k = 8), mean of tiles (k = 8). "
        "A blind guess among 2 options is right one time in 2.",
        "SparseLearn (k = 8) is wrong here, where a floor answered correctly: random (k = 8). "
        "A blind guess among 2 options is right one time in 2.",
        "",
    ]


def test_without_the_stage_there_are_none(tmp_path):
    assert cases([], tmp_path) == []
    assert cases([Stage("78_show_cases", Path("78_show_cases.ipynb"), str(tmp_path), {})], tmp_path) == []
