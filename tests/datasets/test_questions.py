"""Question and caption tables: what is read, what is refused, what a model is shown and how its letter is read."""

import pandas as pd
import pytest

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.cohort.manifest import Manifest
from slidesieve.datasets.benchmarks import question_table
from slidesieve.datasets.questions import (
    COLUMNS,
    Caption,
    Question,
    extract_letter,
    groups,
    in_cohort,
    option_columns,
    parse_questions,
    plain,
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
        "line 3 (q1): ID 'q1' occurs more than once",
        "line 3 (q1): Slide is empty",
        "line 4 (q4): option D is given without C",
        "line 4 (q4): two options are the same",
        "line 4 (q4): Answer is 'E'",
        "line 5 (q5): Answer is 'C', expected the letter of an option that is given",
    ):
        assert fault in message


def test_a_missing_column_is_named(tmp_path):
    table = pd.DataFrame(ROWS, columns=list(COLUMNS)).drop(columns=["Answer", "B"])
    table.to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(ValueError, match=r"no column B, Answer; got ID, Slide"):
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
    manifest = Manifest(table, tmp_path)
    assert in_cohort(questions[2:], manifest, what="q.csv") == questions[2:]
    with pytest.raises(ValueError, match=r"slides of q.csv: 2 asked for, 1 found .* 1 lost: 's1' \(no such id\)"):
        in_cohort(questions, manifest, what="q.csv")
    told = [question._replace(slide_id=" S2.svs") for question in questions[2:]]
    assert in_cohort(told, manifest, what="q.csv") == questions[2:]


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
    with pytest.raises(ValueError, match=r"(?s)line 2 \(c1\): box is 64, , 9, 9;.*line 3 \(c2\): box has no area"):
        read_captions(path)
    write_table(path, [("c1", "s1", "9" * 5000, "0", "9", "9", "x"), ("c2", "s1", "0", "٣", "9", "9", "x")], columns)
    with pytest.raises(
        ValueError, match=rf"(?s){path.name}.*line 2 \(c1\): box is {'9' * 20}, 0, 9, 9;.*3 \(c2\): box is 0, ٣,"
    ):
        read_captions(path)
    write_table(path, [("c1", "s1", "a slide")], ["ID", "Slide", "Caption"])
    assert read_captions(path)[0].box is None


def wide(tmp_path, rows, letters):
    return write_table(tmp_path / "q.csv", rows, [*COLUMNS[:5], *letters, "Answer"])


def test_as_many_options_as_columns(tmp_path):
    """A fifth option is asked for, not dropped; a table may have two columns only."""
    rows = [
        ("q1", "s1", "M", "grade", "Which group?", *"12345", "E"),
        ("q2", "s1", "M", "grade", "?", "a", "b", "c", "", "", "C"),
    ]
    first, second = read_questions(wide(tmp_path, rows, "ABCDE"))
    assert first.options == tuple("12345") and first.answer == 4 and second.options == tuple("abc")
    assert (
        prompt(first).endswith("\nE. 5") and option_columns([first]) == "ABCDE" and option_columns([second]) == "ABCD"
    )
    assert (
        extract_letter("E", 5) == "E"
        and extract_letter("The answer is (E)", 5) == "E"
        and extract_letter("E", 4) is None
    )
    two = [("q1", "s1", "M", "g", "Is it?", "yes", "no", "B")]
    assert read_questions(wide(tmp_path, two, "AB"))[0].answer == 1
    question_table([first, second]).to_csv(tmp_path / "again.csv", index=False)
    assert read_questions(tmp_path / "again.csv") == [first, second]
    with pytest.raises(ValueError, match=r"columns of options A, B, D; expected A, B, \.\.\. to J"):
        read_questions(wide(tmp_path, [("q1", "s1", "M", "g", "?", *"abd", "B")], "ABD"))
    with pytest.raises(ValueError, match=r"columns of options A, B, C, D, E, F, G, H, I, J, K; expected"):
        read_questions(wide(tmp_path, [("q1", "s1", "M", "g", "?", *"abcdefghijk", "B")], "ABCDEFGHIJK"))


def test_options_that_differ_in_case_or_spaces_alone_are_equal(tmp_path):
    rows = [
        ("q1", "s1", "M", "g", "?", "Yes", "yes ", "No", "no", "A"),
        ("q2", "s1", "M", "g", "?", "Grade 2", "Grade  2", "Grade 3", "", "A"),
        ("q3", "s1", "M", "g", "?", "Straße", "STRASSE", "", "", "A"),
        ("q4", "s1", "M", "g", "?", "Yes", "Yes\u00a0", "", "", "A"),
        ("q5", "s1", "M", "g", "?", "S\u00e9zary", "Se\u0301zary", "", "", "A"),
    ]
    with pytest.raises(ValueError, match="5 faults in 5 of 5 records"):
        read_questions(write_table(tmp_path / "q.csv", rows))
    assert plain("S\u00e9zary") == plain("se\u0301zary\t") and plain("T2") != plain("T\u00b2")


def test_a_few_faulty_rows_are_set_aside_and_answers_in_words_are_read(tmp_path, capsys):
    rows = [(f"q{i}", "s1", "M", "g", "?", "fat", "nerve", "a", "B", "B") for i in range(300)]
    rows[3] = (*rows[3][:-1], "Nerve")
    rows[4] = (*rows[4][:-1], "a")  # an option's words before a letter in lower case
    rows[5] = ("q5", "s1", "M", "g", "?", "fat", "nerve", "", "", "b")
    rows[6] = ("q5", *rows[6][1:])
    rows[7] = (*rows[7][:-1], "bone")
    path = write_table(tmp_path / "q.csv", rows)
    read = parse_questions(path)
    assert [(f.place, f.id, f.kind, f.repaired) for f in read.faults] == [
        ("line 5", "q3", "an answer in words", True),
        ("line 6", "q4", "an answer in words", True),
        ("line 7", "q5", "an answer in words", True),
        ("line 8", "q5", "an ID twice", False),
        ("line 9", "q7", "the answer is no option", False),
    ]
    used = {q.id: q.answer for q in read_questions(path)}
    assert len(used) == 298 and (used["q3"], used["q4"], used["q5"]) == (1, 2, 1)
    told = capsys.readouterr().out
    assert (
        "298 of 300 records used; 1 set aside: an ID twice; 1 set aside: the answer is no option; 3 repaired: " in told
    )
