"""Tables become (prompt, answer) pairs, answers in either form; a question table may stand for captions."""

import pandas as pd
import pytest

from slidesieve.datasets.examples import from_questions, read_examples
from slidesieve.datasets.questions import Question

ASKED = [
    Question("q1", "s1", "finding", "Evidence", "Which?", ("cyst", "fat", "ink"), 2),
    Question("q2", "s2", "finding", "Evidence", "Is it?", ("yes", "no"), 0),
    Question("q3", "s1", "grade", "Evidence", "What?", ("low", "high"), 1),
]
PROMPTS = {"answer_form": "text", "slide_prompt": "Slide.", "region_prompt": "Region."}


def test_questions_of_a_slide_stay_together():
    first, second = from_questions(ASKED, answer_form="text")
    assert first == ("s1", None, (("Which?\nA. cyst\nB. fat\nC. ink", "ink"), ("What?\nA. low\nB. high", "high")))
    assert second.turns == (("Is it?\nA. yes\nB. no", "yes"),)
    letters = from_questions(ASKED, answer_form="letter")
    assert [[answer for _, answer in e.turns] for e in letters] == [["C", "B"], ["A"]]
    with pytest.raises(ValueError, match="answer_form: got 'both'"):
        from_questions(ASKED, answer_form="both")


def test_captions_of_slides_and_regions(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("ID,Slide,x_px0,y_px0,width_px0,height_px0,Caption\na,s1,,,,,whole .\nb,s1,64,0,128,192,part .\n")
    whole, part = read_examples(table, **PROMPTS)
    assert whole == ("s1", None, (("Slide.", "whole ."),))
    assert part == ("s1", (64, 0, 128, 192), (("Region.", "part ."),))


def test_a_question_table_stands_for_captions(tmp_path):
    table = tmp_path / "questions.csv"
    row = ["q1", "s1", "T", "Evidence", "finding", "Which?", "cyst", "fat", "", "", "B"]
    columns = ["ID", "Slide", "Tumor", "Broad Category", "Narrow Category", "Question", "A", "B", "C", "D", "Answer"]
    pd.DataFrame([row], columns=columns).to_csv(table, index=False)
    assert read_examples(table, **PROMPTS) == [("s1", None, (("Which?\nA. cyst\nB. fat", "fat"),))]
