"""A plan of a small cohort with features and a language model at hand: its numbers by hand, its file, its words."""

import csv

import numpy as np
import pandas as pd
import pytest
from tiny_models import write_model_and_cohort

from flows.plan.graph import Options, plan
from flows.plan.stages import changes_of, values_of
from slidesieve.cost import plan_table, plan_work
from slidesieve.cost.plan_cost import Cost
from slidesieve.cost.plan_table import COUNTED, Planned, costs, report, rows, write_plan
from slidesieve.provenance.files import ROOT

SIZES = np.array([75, 33, 75, 9, 41])
PARTS = ["train", "train", "train", "val", "test"]


@pytest.fixture
def planned(tmp_path):
    write_model_and_cohort(tmp_path, SIZES)
    table = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    table.assign(split=PARTS).to_csv(tmp_path / "manifest.csv", index=False)
    options = Options(
        *(str(tmp_path / name) for name in ("manifest.csv", "questions.csv", "out")), llm=str(tmp_path / "lm"),
        floors=False, alignment=False,
        settings=("40.epochs=2", "batch=1", "accumulate=2", "max_tiles=40", "scorer_heads=3", "scorer_width=12",
                  "60.wrong_slide=false"),
    )  # fmt: skip
    stages = plan(options)
    return [Planned(s.id, values_of(s), changes_of(s), ROOT / s.out_dir) for s in stages], tmp_path / "out"


def test_tokens_and_steps_by_hand(planned):
    stages, _ = planned
    due = {stage.id: ["never ran"] for stage in stages}
    found = costs(stages, due)
    captions = found["40_align_captions/sparselearn_k8_s0"]
    assert captions.optimiser_steps == 3  # two epochs of three slides, two at a time
    each = captions.training_tokens / 2 - (40 + 33 + 40)  # capped, and all of them pass the language model
    assert each > 0 and each % 3 == 0  # three turns that are alike
    turn = each // 3
    assert captions.validation_tokens == 3 * (8 + turn + 9 + turn)  # at each step: hard, and soft
    answers = found["60_answer_questions/sparselearn_k8_s0"]
    assert answers.optimiser_steps is None and answers.training_tokens is None
    assert (answers.validation_tokens - (8 + 40)) % 2 == 0  # hard and soft, each with its text
    assert set(found) == {id for id in due if id[:2] in ("40", "50", "60")}


def test_open_questions_are_paid_for_where_they_are_asked(planned, tmp_path):
    stages, _ = planned
    id = "60_answer_questions/sparselearn_k8_s0"
    head = "ID,Slide,Broad Category,Narrow Category,Question,Reference"
    path = tmp_path / "open.csv"
    slides = pd.read_csv(tmp_path / "manifest.csv", dtype=str)["slide_id"].tolist()
    text = "Which tissue is it?"
    path.write_text("\n".join([head, *(f"o{i},{slide},b,n,{text},fat" for i, slide in enumerate(slides))]))
    found = {}
    for most in (0, 5, 6):
        asked = {"open_questions": str(path) if most else "", "open_tokens": most or 128}
        changed = [s._replace(values={**s.values, **asked}) if s.id == id else s for s in stages]
        found[most] = costs(changed, {stage.id: ["never ran"] for stage in stages})[id]
    chat = plan_work._chat(str(tmp_path / "lm"), "own")
    before = 8 + len(chat.head) + len(chat.turn(text, []).prompt)  # of the one test slide
    assert found[5].validation_tokens - found[0].validation_tokens == before + 5 - 1
    assert found[6].validation_tokens - found[5].validation_tokens == 1
    assert found[6].operations > found[5].operations > found[0].operations
    assert found[6].peak_bytes >= found[0].peak_bytes > 0


def test_tables_are_read_once_for_all_stages_that_are_fed_alike(planned, monkeypatch):
    class Seen(dict):
        def __getitem__(self, name):
            looked_at.add(name)
            return super().__getitem__(name)

        def get(self, name, default=None):
            looked_at.add(name)
            return super().get(name, default)

    def read(kind, values, *, complete):
        kinds.append(kind)
        return plan_work.read_data(kind, Seen(values), complete=complete)

    stages, _ = planned
    more = [stage._replace(id=f"{stage.id}_again") for stage in stages if stage.id[:2] in ("40", "50", "60")]
    looked_at, kinds = set(), []
    monkeypatch.setattr(plan_table, "read_data", read)
    found = costs([*stages, *more], {stage.id: ["never ran"] for stage in [*stages, *more]})
    assert kinds == ["40", "50", "60"]
    assert all(found[stage.id] == found[stage.id.removesuffix("_again")] for stage in more)
    assert looked_at <= {*plan_work.READ, "compressor", "regions_first"}


def test_a_plan_is_read_and_kept(planned):
    stages, out = planned
    due = {stages[0].id: ["never ran"], stages[1].id: ["k 8 -> 16", "after this, that"]}
    found = {stages[1].id: Cost(5, 20_000, 1_000, 160, 10**18, None, 40, 900, ("nothing",))}
    write_plan(out / "plan.csv", rows(due, found))
    header, first, second = list(csv.reader((out / "plan.csv").open()))
    assert header == ["stage", "why", *COUNTED] and first[2:] == [""] * 6
    assert second[1:] == ["k 8 -> 16; after this, that", "5", "20000", "1000", "160", str(10**18), ""]
    write_plan(out / "plan.csv", rows({}, found))
    assert len((out / "plan.csv").read_text().splitlines()) == 1
    (out / "mine.csv").write_text("stage,what I think\n")
    with pytest.raises(ValueError, match=r"mine.csv: is no plan of slidesieve's"):
        write_plan(out / "mine.csv", rows(due, found))
    assert (out / "mine.csv").read_text() == "stage,what I think\n"
    told = "\n".join(report(stages, due, found))
    assert "20 k" in told and "max_tiles=40" in told and "assumed: nothing" in told
    assert sum(line.startswith("warning: main memory has") for line in told.splitlines()) == 1
