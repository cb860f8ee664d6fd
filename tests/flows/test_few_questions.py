"""A whole page about ten questions and a model that has learnt nothing: too few to tell, and where it loses is open."""

from pathlib import Path

import pytest
from fake_runs import write_cohort, write_run

from flows.plan.stages import Stage
from flows.report.index import write_report
from flows.run.board import Outcome
from slidesieve.answers.tables import read_answers
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation.best_rival import against_floors
from slidesieve.evaluation.scores import over_seeds, scores


def page(folder: Path, methods: dict[str, float], *, n_slides: int) -> str:
    write_cohort(folder, n_slides=n_slides)
    made = [write_run(folder, method, k=0 if method == "text_only" else 8, accuracy=a) for method, a in methods.items()]
    asked, out = read_questions(folder / "questions.csv"), folder / "80"
    out.mkdir()
    answers = read_answers(made, questions_path=folder / "questions.csv", questions=asked)
    how = {"draws": 200, "seed": 0}
    scores(answers, asked, **how).to_csv(out / "scores.csv", index=False)
    over_seeds(answers, asked, **how).to_csv(out / "over_seeds.csv", index=False)
    against_floors(answers, asked, **how).to_csv(out / "best_floor.csv", index=False)
    (out / "receipt.json").write_text('{"seconds": 7.5, "digest": "c0ffee", "outputs": {}}')
    stage = Stage("80_compare_methods", Path("80_compare_methods.ipynb"), str(out), {})
    done = {stage.id: Outcome("ran")}
    return write_report([stage], done, folder / "run", title="few").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> str:
    return page(tmp_path_factory.mktemp("few"), {"sparselearn": 0.1, "random": 0.9, "text_only": 0.3}, n_slides=15)


def test_the_first_sentence_is_that_it_cannot_be_told(few):
    found = few.partition("What was found")[2].partition("</section>")[0]
    assert found.partition("<strong>")[2].startswith("Too few to tell: of 27 questions about 9 slides, differences")
    assert ": told apart" not in found and "is the best" not in found
    assert "below its best floor, random" in found


def test_the_panel_in_which_it_loses_to_random_is_open_and_says_so(few):
    panels = [part.partition("</details>")[0] for part in few.split('<details class="group"')[1:]]
    losing = [panel for panel in panels if "SparseLearn (k = 8) loses" in panel]
    assert losing and all(panel.startswith(" open>") for panel in losing)
    assert "below random" in losing[0] and 'class="loss"' in losing[0]
