"""Benchmarks in JSON become questions that the table reads back; the published shortcuts of a real one are found."""

import json
from pathlib import Path

import numpy as np
import pytest
from shared_data import SHARED

from slidesieve.datasets.benchmarks import question_table, read_benchmark, wsi_bench_questions
from slidesieve.datasets.open_questions import open_table, read_open_questions
from slidesieve.datasets.questions import Question, read_questions
from slidesieve.evaluation.floors import longest_option, majority_letter
from slidesieve.evaluation.stats import clustered_accuracy

SLIDES = [
    "TCGA-AA-0001-01Z-00-DX2",
    "TCGA-AA-0001-01Z-00-DX1",
    "TCGA-AA-0001-01A-01-TS1",
    "TCGA-AA-0002-01A-01-TSA",
    "17",
]


def write(path: Path, items: list) -> Path:
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def closed(case: str, answer: str, *choices: str) -> dict:
    return {"Id": case, "Question": " Which subtype? ", "Choice": list(choices), "Answer": answer}


def test_items_of_wsi_vqa_are_asked_of_the_patients_slide(tmp_path):
    items = [
        closed("TCGA-AA-0001", "Lobular ", "Ductal", "Lobular", "None", "NA"),
        {"Id": "TCGA-AA-0001", "Question": "How old?", "Answer": "61"},
        {"Id": "TCGA-AA-0003", "Question": "Describe.", "Answer": "A tumour.", "Choice": []},
        closed("TCGA-AA-0002", "yes", "Yes", "No"),
        closed("17", "x", *"vwxyz"),
    ]
    read = read_benchmark(write(tmp_path / "test.json", items), slides=SLIDES)
    first, second, third = read.questions
    options = ("Ductal", "Lobular", "None", "NA")
    assert first == Question("TCGA-AA-0001-0", SLIDES[1], "WSI-VQA", "WSI-VQA", "Which subtype?", options, 1)
    assert (second.id, second.slide_id, second.answer) == ("TCGA-AA-0002-3", SLIDES[3], 0)
    assert third.slide_id == "17" and third.options == tuple("vwxyz") and third.answer == 2
    assert [(q.slide_id, q.text, q.reference) for q in read.open] == [
        (SLIDES[1], "How old?", "61"),
        ("TCGA-AA-0003", "Describe.", "A tumour."),  # no slide of this patient: lost where ids meet
    ]
    assert [(f.place, f.kind, f.repaired) for f in read.faults] == [("item 3", "an answer in words", True)]
    question_table(read.questions).to_csv(tmp_path / "questions.csv", index=False)
    assert read_questions(tmp_path / "questions.csv") == read.questions
    open_table(read.open).to_csv(tmp_path / "open.csv", index=False)
    assert read_open_questions(tmp_path / "open.csv") == read.open


def test_items_of_wsi_vqa_that_cannot_be_asked_are_listed(tmp_path):
    items = [
        closed("TCGA-AA-0002", "z", "x", "y"),
        closed("TCGA-AA-0002", "x", "x", "x "),
        {"Id": "c3", "Question": "?"},
        {"Id": "c3", "Question": 7, "Answer": "x", "Choice": ["x", 2]},
    ]
    with pytest.raises(ValueError, match="5 faults in 4 of 4 records") as error:
        read_benchmark(write(tmp_path / "test.json", items), slides=SLIDES)
    for fault in (
        "item 0 (TCGA-AA-0002): answer is 'z'; expected one of ['x', 'y']",
        "item 1 (TCGA-AA-0002): choices are ['x', 'x']; expected 2 to 10 different ones",
        "item 2 (c3): no Answer",
        "item 3 (c3): Question is no text",
        "item 3 (c3): each Choice is no text",
    ):
        assert fault in str(error.value)


def test_slidebench_in_json(tmp_path):
    sample = {"slide_id": "TCGA-AA-0001-01Z-00-DX1.svs", "question": "Which?", "category": "Grading"}
    samples = [
        sample | {"choices": ["low", "high"], "answer": "B"},
        sample | {"choices": {"B": "high", "A": "low", "C": "none"}, "answer": "none"},
        sample | {"choices": ["A. low", "B) high"], "answer": "A"},
        sample | {"choices": ["B", "A"], "answer": "B"},  # blood groups, say
    ]
    read = read_benchmark(write(tmp_path / "bench.json", {"samples": samples}), slides=[])
    assert [(q.options, q.answer) for q in read.questions] == [
        (("low", "high"), 1),
        (("low", "high", "none"), 2),
        (("low", "high"), 0),
        (("B", "A"), 0),
    ]
    assert {(q.slide_id, q.kind, q.broad) for q in read.questions} == {(SLIDES[1], "Grading", "Grading")}
    with pytest.raises(ValueError, match=r"item 0 \(s\): no question, choices, answer"):
        read_benchmark(write(tmp_path / "bench.json", {"samples": [{"slide_id": "s"}]}), slides=[])


def conversation(asked: str, said: str) -> dict:
    turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": said}]
    return {"id": "s-1", "image": "TCGA-LUSC/s.1.pt", "conversations": turns}


def test_items_of_wsi_bench(tmp_path):
    items = [conversation(f"Which is it, {i}?", f"A tumour {i}.") for i in range(196)]
    items += [
        conversation("Which?  A) T0 N1 \n B) T0 N2  C) Tis D) a A cell", "C ```"),
        conversation("Is it good?", "No."),
        conversation("Describe it.", "A tumour of type B) and no more."),
        conversation("Which? A) x B) x C) y D) z", "A"),
        conversation("Which?\nA. low\nB. high", "high."),
        conversation("Which stage? A. T1 N1 B. T2 N0", "B"),
        conversation("Is it vitamin A) or B) or neither?", "Neither."),
    ]
    read = wsi_bench_questions(write(tmp_path / "staging_test.json", items))
    first, second, third, fourth = read.questions
    assert first == Question(
        "staging-196", "s.1", "staging", "WSI-Bench", "Which?", ("T0 N1", "T0 N2", "Tis", "a A cell"), 2
    )
    assert (second.options, second.answer) == (("Yes", "No"), 1)
    assert (third.text, third.options, third.answer) == ("Which?", ("low", "high"), 1)
    assert (fourth.options, fourth.answer) == (("T1 N1", "T2 N0"), 1)
    assert len(read.open) == 197 and read.open[-1].reference == "A tumour of type B) and no more."
    assert [(f.place, f.kind, f.repaired) for f in read.faults] == [
        ("item 199", "equal options", False),
        ("item 200", "an answer in words", True),
        ("item 202", "the answer is no option", False),
    ]
    assert read_benchmark(tmp_path / "staging_test.json", slides=[]) == read


def real(tmp_path: Path, name: str) -> list[Question]:
    path = SHARED / "vqa/wsi_bench" / name.split("_")[-1] / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    read = wsi_bench_questions(path)
    question_table(read.questions).to_csv(tmp_path / "questions.csv", index=False)
    assert read_questions(tmp_path / "questions.csv") == read.questions
    return read.questions


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "n", "letter_share", "longest_share"),
    [
        ("Morphology_choice_test", 595, None, 0.647),
        ("Diagnosis_choice_test", 359, 0.476, None),
        ("Staging_choice_test", 131, None, None),
        ("Prognosis_TF_question_train", 391, 0.729, None),
    ],
)
def test_published_shortcuts_of_a_real_benchmark(tmp_path, name, n, letter_share, longest_share):
    """The floors find what the data's own README counts, without any image: always one letter, the longest option."""
    questions = real(tmp_path, name)
    assert len(questions) == n
    key = np.array([question.answer for question in questions])
    slides = np.array([question.slide_id for question in questions])
    floor = np.array(majority_letter(questions, questions))
    assert (floor == key).mean() == np.bincount(key).max() / len(key)  # I48
    if letter_share:
        assert clustered_accuracy(floor == key, slides, draws=100, seed=0).value == pytest.approx(
            letter_share, abs=0.01
        )
    if longest_share:
        assert (np.array(longest_option(questions)) == key).mean() == pytest.approx(longest_share, abs=0.01)


def test_a_file_is_read_by_what_it_is(tmp_path):
    """WSI-VQA names patients: TCGA-AB-1234's slide is found among those with features."""
    slides = ["TCGA-AB-1234-01Z-00-DX2", "TCGA-AB-1234-01Z-00-DX1", "17"]
    asked = read_benchmark(write(tmp_path / "vqa.json", [closed("TCGA-AB-1234", "b", "a", "b")]), slides=slides)
    assert asked.questions[0].slide_id == slides[1] and asked.questions[0].answer == 1
    question_table(asked.questions).to_csv(tmp_path / "q.csv", index=False)
    assert read_benchmark(tmp_path / "q.csv", slides=[]).questions == asked.questions
    bench = write(tmp_path / "Grading.json", [conversation("Is it?", "No"), conversation("Describe.", "A slide.")])
    assert read_benchmark(bench, slides=[]) == wsi_bench_questions(bench)
    (tmp_path / "q.md").write_text("ID,Slide")
    with pytest.raises(ValueError, match=r"q.md: not JSON .*; expected"):
        read_benchmark(tmp_path / "q.md", slides=[])


def test_options_composed_in_two_ways_are_equal_in_json_too(tmp_path):
    items = [closed("17", "a", "a", "b") for _ in range(200)]
    items += [
        closed("17", "S\u00e9zary", "S\u00e9zary", "Se\u0301zary"),
        closed("17", "Se\u0301zary", "S\u00e9zary", "b"),
    ]
    read = read_benchmark(write(tmp_path / "test.json", items), slides=SLIDES)
    assert [(f.place, f.repaired) for f in read.faults if not f.repaired] == [("item 200", False)]
    assert len(read.questions) == 201 and read.questions[-1].answer == 0
