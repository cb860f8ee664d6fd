"""Benchmarks in JSON become questions that the table reads back; the published shortcuts of a real one are found."""

import json
from pathlib import Path

import numpy as np
import pytest
from shared_data import SHARED
from slide_files import write_manifest

from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.benchmarks import question_table, read_benchmark, wsi_bench_questions, wsi_vqa_questions
from slidesieve.datasets.questions import Question, read_questions
from slidesieve.evaluation.floors import longest_option, majority_letter
from slidesieve.evaluation.stats import clustered_accuracy

CASES = {"TCGA-A-1": ["TCGA-A-1-DX2", "TCGA-A-1-DX1", "TCGA-A-1-TS1"], "TCGA-A-2": ["TCGA-A-2-TSA"], "c3": ["a", "b"]}


@pytest.fixture
def manifest(tmp_path):
    rows = [{"slide_id": slide, "case_id": case} for case, slides in CASES.items() for slide in slides]
    return read_manifest(write_manifest(tmp_path / "manifest.csv", rows))


def write(path: Path, items: list) -> Path:
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def closed(case: str, answer: str, *choices: str) -> dict:
    return {"Id": case, "Question": " Which subtype? ", "Choice": list(choices), "Answer": answer}


def test_closed_items_of_wsi_vqa_are_asked_of_the_patients_slide(tmp_path, manifest):
    items = [
        closed("TCGA-A-1", "Lobular ", "Ductal", "Lobular", "None", "NA"),
        {"Id": "TCGA-A-1", "Question": "How old?", "Answer": "61"},
        {"Id": "c3", "Question": "Describe.", "Answer": "A tumour.", "Choice": []},
        closed("TCGA-A-2", "Yes", "Yes", "No"),
    ]
    read = wsi_vqa_questions(write(tmp_path / "test.json", items), manifest)
    first, second = read.questions
    options = ("Ductal", "Lobular", "None", "NA")
    assert first == Question("TCGA-A-1-0", "TCGA-A-1-DX1", "WSI-VQA", "WSI-VQA", "Which subtype?", options, 1)
    assert (second.id, second.slide_id, second.answer, read.n_open) == ("TCGA-A-2-3", "TCGA-A-2-TSA", 0, 2)
    question_table(read.questions).to_csv(tmp_path / "questions.csv", index=False)
    assert read_questions(tmp_path / "questions.csv") == read.questions


def test_items_of_wsi_vqa_that_cannot_be_asked_are_listed(tmp_path, manifest):
    items = [
        closed("TCGA-A-9", "x", "x", "y"),
        closed("c3", "x", "x", "y"),
        closed("TCGA-A-2", "z", "x", "y"),
        closed("TCGA-A-2", "x", "x", "x"),
        closed("TCGA-A-2", "x", *"vwxyz"),
    ]
    with pytest.raises(ValueError, match="5 faults") as error:
        wsi_vqa_questions(write(tmp_path / "test.json", items), manifest)
    for fault in (
        "item 0 (TCGA-A-9): expected one slide of this case in the manifest",
        "item 1 (c3): expected one slide of this case",
        "item 2 (TCGA-A-2): answer is 'z'; expected one of ['x', 'y']",
        "item 3 (TCGA-A-2): choices are ['x', 'x']; expected 2 to 4 different ones",
        "item 4 (TCGA-A-2): choices are ['v', 'w', 'x', 'y', 'z']",
    ):
        assert fault in str(error.value)
    with pytest.raises(ValueError, match=r"(?s)1 faults.*item 1: no Answer"):
        wsi_vqa_questions(write(tmp_path / "test.json", [items[0], {"Id": "c3", "Question": "?"}]), manifest)


def conversation(asked: str, said: str) -> dict:
    turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": said}]
    return {"id": "s-1", "image": "TCGA-LUSC/s.1.pt", "conversations": turns}


def test_closed_items_of_wsi_bench(tmp_path):
    items = [
        conversation("Which?  A) T0 N1 \n B) T0 N2  C) Tis D) a A cell", "C ```"),
        conversation("Is it good?", "No."),
        conversation("Describe it.", "A tumour of type B) and no more."),
        conversation("Which? A) x B) x C) y D) z", "A"),
    ]
    read = wsi_bench_questions(write(tmp_path / "t.json", items), kind="staging")
    first, second = read.questions
    assert first == Question(
        "staging-0", "s.1", "staging", "WSI-Bench", "Which?", ("T0 N1", "T0 N2", "Tis", "a A cell"), 2
    )
    assert (second.options, second.answer, read.n_open) == (("Yes", "No"), 1, 2)


def real(tmp_path: Path, name: str) -> list[Question]:
    path = SHARED / "vqa/wsi_bench" / name.split("_")[-1] / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    read = wsi_bench_questions(path, kind=name)
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
    assert read_benchmark(tmp_path / "q.csv", slides=[]) == asked
    bench = write(tmp_path / "Grading.json", [conversation("Is it?", "No"), conversation("Describe.", "A slide.")])
    assert read_benchmark(bench, slides=[]) == wsi_bench_questions(bench, kind="Grading")
    (tmp_path / "q.txt").write_text("ID,Slide")
    with pytest.raises(ValueError, match=r"q.txt: neither .csv nor JSON .*; expected a table of questions or a list"):
        read_benchmark(tmp_path / "q.txt", slides=[])
