"""Question and caption tables: what is read, what is refused, what a model is shown and how its letter is read."""

import pandas as pd
import pytest

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.cohort.manifest import Manifest
from slidesieve.datasets.questions import (
    COLUMNS,
    Caption,
    Question,
    check_slides,
    extract_letter,
    groups,
    prompt,
    read_captions,
    read_questions,
)

ROWS = [
    ("q1", "s1", "Evidence", "finding", "Which finding is present?", "cyst", "None", "abscess", "NA", "D"),
    ("q2", "s1", "Evidence", "presence", "Is cyst present?", "yes", "no", "", "", "A"),
    ("q3", "s2", "Composition", "tissue", "Which tissue dominates?", "fat", "nerve", "gland", "", "C"),
]


def write_table(path, rows, columns=COLUMNS):
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False)
    return path


def test_reads_records_in_order_and_keeps_words_that_look_like_missing_values(tmp_path):
    first, second, third = read_questions(write_table(tmp_path / "q.csv", ROWS))
    assert first == Question(
        "q1", "s1", "finding", "Evidence", "Which finding is present?", ("cyst", "None", "abscess", "NA"), 3
    )
    assert second.options == ("yes", "no") and second.answer == 0
    assert third.options[third.answer] == "gland"


def test_lists_every_fault_with_its_line(tmp_path):
    rows = [
        ROWS[0],
        ("q1", "", "Evidence", "finding", "Which?", "a", "b", "", "", "A"),
        ("q4", "s1", "Evidence", "finding", "Which?", "a", "a", "", "d", "E"),
        ("q5", "s1", "Evidence", "finding", "Which?", "a", "b", "", "", "C"),
    ]
    with pytest.raises(ValueError) as error:
        read_questions(write_table(tmp_path / "q.csv", rows))
    message = str(error.value)
    assert "6 faults" in message
    for fault in (
        "ID 'q1' occurs more than once",
        "line 3: Slide is empty",
        "line 4: option D is given without C",
        "line 4: two options are the same",
        "line 4: Answer is 'E'",
        "line 5: Answer is 'C', expected the letter of an option that is given",
    ):
        assert fault in message


def test_a_missing_column_is_named(tmp_path):
    table = pd.DataFrame(ROWS, columns=list(COLUMNS)).drop(columns=["Answer", "D"])
    table.to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(ValueError, match=r"no column D, Answer; got ID, Slide"):
        read_questions(tmp_path / "q.csv")


def test_a_task_stands_for_both_categories(tmp_path):
    columns = ["ID", "Slide", "Task", "Question", *"ABCD", "Answer"]
    rows = [("1", "17", "ER", "What is the ER status?", "Positive", "Negative", "", "", "B"),
            ("2", "17", "Molecular Subtype", "Which?", "Luminal A", "Luminal B", "HER2(+)", "TNBC", "D")]  # fmt: skip
    status, subtype = read_questions(write_table(tmp_path / "bcnb.csv", rows, columns))
    assert status == Question("1", "17", "ER", "ER", "What is the ER status?", ("Positive", "Negative"), 1)
    assert groups(subtype) == ("all", "molecular subtype")
    with pytest.raises(ValueError, match="no column Narrow Category; got"):
        write_table(tmp_path / "q.csv", [(*row, "x") for row in rows], [*columns, "Broad Category"])
        read_questions(tmp_path / "q.csv")


def test_prompt_skips_empty_options(tmp_path):
    _, second, third = read_questions(write_table(tmp_path / "q.csv", ROWS))
    assert prompt(second) == "Is cyst present?\nA. yes\nB. no"
    assert prompt(third) == "Which tissue dominates?\nA. fat\nB. nerve\nC. gland"


def test_groups_are_all_broad_and_narrow_once_each(tmp_path):
    first, *_ = read_questions(write_table(tmp_path / "q.csv", ROWS))
    assert groups(first) == ("all", "evidence", "finding")
    assert groups(first._replace(broad="Finding")) == ("all", "finding")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("  C.\nA. something", "C"),
        ("(D)", "D"),
        ("**B**", "B"),
        ("B) Squamous", "B"),
        ("A. Adenocarcinoma", "A"),
        ("Answer: C", "C"),
        ("The answer is B because of pearls", "B"),
        ("the correct option is (A)", "A"),
        ("It must be D, not A", "D"),
        ("A tumour is present: C", "C"),
        ("A tumour is present", None),
        ("B cells are seen", None),
        ("b", None),
        ("E", None),
        ("Adenocarcinoma", None),
        ("Hepatitis-B", None),
        ("A1", None),
        ("I do not know\nB", None),
        ("", None),
    ],
)
def test_extractor(text, letter):
    assert extract_letter(text) == letter


def test_questions_about_absent_slides_are_named(tmp_path):
    questions = read_questions(write_table(tmp_path / "q.csv", ROWS))
    table = pd.DataFrame([["s2", "c", "", "a.tif", "", 1.0, "", "", "", ""]], columns=list(MANIFEST_COLUMNS))
    check_slides(questions[2:], Manifest(table, tmp_path))
    with pytest.raises(ValueError, match=r"1 slides are not in the manifest \(s1\)"):
        check_slides(questions, Manifest(table, tmp_path))


def test_captions_of_boxes_and_of_whole_slides(tmp_path):
    path = tmp_path / "captions.csv"
    columns = ["ID", "Slide", "x_px0", "y_px0", "width_px0", "height_px0", "Caption"]
    write_table(
        path, [("c1", "s1", "64", "128", "192", "64", "fat ."), ("c2", "s1", "", "", "", "", "none .")], columns
    )
    assert read_captions(path) == [
        Caption("c1", "s1", (64, 128, 192, 64), "fat ."),
        Caption("c2", "s1", None, "none ."),
    ]
    write_table(path, [("c1", "s1", "64", "", "9", "9", "x"), ("c2", "s1", "0", "0", "0", "9", "x")], columns)
    with pytest.raises(ValueError, match=r"(?s)line 2: box is 64, , 9, 9;.*line 3: box has no area"):
        read_captions(path)
    write_table(path, [("c1", "s1", "9" * 5000, "0", "9", "9", "x"), ("c2", "s1", "0", "٣", "9", "9", "x")], columns)
    with pytest.raises(ValueError, match=rf"(?s){path.name}.*line 2: box is {'9' * 20}, 0, 9, 9;.*3: box is 0, ٣,"):
        read_captions(path)
    write_table(path, [("c1", "s1", "a slide")], ["ID", "Slide", "Caption"])
    assert read_captions(path)[0].box is None
