"""A run's questions as a task of lmms-eval: the documents, their scoring, and a model that answers as stage 60 did."""

import ast
import importlib
import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from math import inf
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import yaml
from tiny_run import questions
from typer.testing import CliRunner

from flows.cli import app
from slidesieve.answers.tables import LOGP
from slidesieve.datasets.questions import prompt
from slidesieve.exports import lmms_plugin
from slidesieve.exports.lmms_task import doc_of, utils
from slidesieve.exports.runs import find_run
from slidesieve.provenance.files import ROOT

METHOD = "sparselearn"
GROUPS = ["acc", "acc_b", "acc_n"]


@pytest.fixture(scope="module")
def task(run_of, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks") / "toy-1"
    told = CliRunner().invoke(app, ["export", str(run_of(METHOD)), "--to", "lmms-eval", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert "8 questions about 4 slides: task slidesieve_toy_1" in told.output
    assert "--model_args run=RUN,method=sparselearn,k=7,seed=1 --tasks slidesieve_toy_1" in told.output
    return out


def docs_of(task) -> list[dict]:
    return [json.loads(line) for line in (task / "questions.jsonl").read_text().splitlines()]


def answers_of(run) -> pd.DataFrame:
    table = pd.read_csv(run / "60_answer_questions" / METHOD / "answers.csv")
    return table[table["method"] == METHOD].set_index("ID")


def losses_of(run, doc: dict) -> list[float]:
    return [-score for score in answers_of(run).loc[doc["id"], LOGP[: len(doc["options"])]]]


def handed_on(losses) -> list[str]:
    """What lmms-eval 0.7.3 makes of a model's answers, each a loss and whether it is greedy."""
    return [str((float(loss), False)) for loss in losses]


def test_documents_are_the_run_s_questions_in_its_words(task):
    asked = questions()
    for doc, question in zip(docs_of(task), asked, strict=True):
        slide = question.slide_id
        assert (doc["id"], doc["slide"], doc["case_id"]) == (question.id, slide, f"case {slide}")
        assert doc["prompt"] == prompt(question) and doc["choices"] == doc["options"] == list(question.options)
        assert doc["target"] == question.answer and [*map(lmms_plugin.metric_of, doc["groups"])] == GROUPS
    assert doc_of(asked[0], "x", "letter")["choices"] == ["A", "B", "C"]


def test_the_yaml_names_what_is_in_the_folder(task):
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda loader, node: f"function {node.value}")
    told = yaml.load((task / "slidesieve_toy_1.yaml").read_text(), loader)
    files = {path.name for path in task.iterdir()}
    assert files == {".slidesieve", "slidesieve_toy_1.yaml", "questions.jsonl", "utils.py"}
    assert told["task"] == "slidesieve_toy_1" and told["output_type"] == "multiple_choice"
    assert (told["dataset_path"], told["dataset_kwargs"]) == ("json", {"data_files": {"test": "questions.jsonl"}})
    fields = docs_of(task)[0].keys()
    assert {told[f"doc_to_{what}"] for what in ("text", "choice", "target")} | {told["cluster_key"]} <= fields
    assert [metric["metric"] for metric in told["metric_list"]] == GROUPS
    assert {metric["aggregation"] for metric in told["metric_list"]} == {"function utils.accuracy"}
    assert told["process_results"] == "function utils.process_results"


def test_the_scoring_stands_alone_and_gives_the_run_s_accuracy(task, run_of):
    text = (task / "utils.py").read_text()
    imports = [ast.unparse(node) for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert text == utils() and imports == ["import math", "import re"]
    alone: dict = {}
    exec(text, alone)
    told, docs = answers_of(run_of(METHOD)), docs_of(task)
    rows = [alone["process_results"](doc, handed_on(losses_of(run_of(METHOD), doc))) for doc in docs]
    told = told.loc[[doc["id"] for doc in docs]]
    assert ["ABC"[row["acc"]["predicted"]] for row in rows] == told["predicted"].tolist()
    assert alone["accuracy"]([row["acc"] for row in rows]) == told["correct"].mean()
    assert [row["acc"]["case_id"] for row in rows] == told["case_id"].tolist() and [*rows[0]] == GROUPS


def test_no_number_is_no_answer_and_the_first_of_equals_is_taken():
    doc = {"target": 1, "case_id": "c", "groups": ["all", "large cells/2"]}
    score = lambda *losses: lmms_plugin.process_results(doc, handed_on(losses))  # noqa: E731
    row = {"score": 1.0, "case_id": "c", "predicted": 1}
    assert score(3.5, 1.25, 2.0) == {"acc": row, "acc_large_cells_2": row}
    assert score(1.25, 1.25, 2.0)["acc"]["predicted"] == 0
    assert lmms_plugin.loss_of((0.1, True)) == 0.1 and lmms_plugin.loss_of("(-1e-07, False)") == -1e-07
    for broken in (inf, float("nan"), -inf):
        assert score(broken, 1.25, 2.0)["acc"] == {"score": 0.0, "case_id": "c", "predicted": None}
    assert lmms_plugin.accuracy([{"score": 1.0}, {"score": 0.0}, {"score": 0.0}]) == 1 / 3


def test_a_table_that_no_longer_holds_what_was_answered_is_refused(run_of, tmp_path):
    path = run_of(METHOD) / "questions.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    try:
        with pytest.raises(ValueError, match=r"1 questions were answered or are in .*, not both \(d1\)"):
            find_run(run_of(METHOD)).asked()
    finally:
        path.write_bytes(whole)


def test_the_entry_point_leads_to_the_model():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["slidesieve"].partition(":")
    assert getattr(importlib.import_module(module), name) is lmms_plugin.manifest


@pytest.fixture
def model_class(monkeypatch):
    """Our model under lmms-eval's interface, where lmms-eval itself is a few lines."""
    api = {"model": {"lmms": type("lmms", (), {"__init__": lambda self: None})}, "instance": {"Instance": object}}
    for name in ("lmms_eval", "lmms_eval.api", *(f"lmms_eval.api.{name}" for name in api)):
        module = ModuleType(name)
        vars(module).update(api.get(name.rpartition(".")[2], {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "slidesieve.exports.lmms_model", raising=False)
    yield importlib.import_module("slidesieve.exports.lmms_model").SlideSieve
    del sys.modules["slidesieve.exports.lmms_model"]


def requests_of(docs: list[dict]) -> list[SimpleNamespace]:
    """One for each option, as lmms-eval makes them: its delimiter in front."""
    return [
        SimpleNamespace(args=(doc["prompt"], f" {choice}", None, i, "toy", "test"))
        for i, doc in enumerate(docs)
        for choice in doc["choices"]
    ]


@pytest.mark.parametrize("of", ["run", "model"])
def test_the_model_answers_as_stage_60_did_to_the_last_digit(task, run_of, published, lm_folder, model_class, of):
    given = {"run": str(run_of(METHOD)), "method": METHOD, "k": 7, "seed": 1}
    if of == "model":
        given = {"model": str(published(METHOD)), "features": str(run_of(METHOD) / "manifest.csv"), "lm": lm_folder}
    model, docs = model_class(**given, batch_size=1), docs_of(task)
    model.task_dict = {"toy": {"test": docs}}
    asked = requests_of(docs)
    told = dict(zip((request.args for request in asked), model.loglikelihood(asked), strict=True))
    for i, doc in enumerate(docs):
        expected = zip(doc["choices"], losses_of(run_of(METHOD), doc), strict=True)
        for choice, loss in expected:
            assert told[doc["prompt"], f" {choice}", None, i, "toy", "test"] == (loss, False)  # bit for bit
    assert model.loglikelihood(asked[::-1])[0] == told[asked[-1].args]


def test_what_the_run_was_not_asked_is_refused_and_a_slide_without_features_is_wrong(task, run_of, model_class):
    model, docs = model_class(run=str(run_of(METHOD))), docs_of(task)
    model.task_dict = {"toy": {"test": docs}}
    other = [SimpleNamespace(args=(f"Be brief.\n{r.args[0]}", *r.args[1:])) for r in requests_of(docs)]
    with pytest.raises(ValueError, match="leave out examples, descriptions and system prompts"):
        model.loglikelihood(other)
    lettered = [doc | {"choices": ["A", "B", "C"][: len(doc["options"])]} for doc in docs]
    model.task_dict["toy"]["test"] = lettered
    with pytest.raises(ValueError, match="expected the option's text, which this model was asked for"):
        model.loglikelihood(requests_of(lettered))
    docs[0]["slide"] = "nobody's"
    model.task_dict["toy"]["test"] = docs
    assert [loss for loss, _ in model.loglikelihood(requests_of(docs))[:3]] == [inf] * 3
    for doc in docs:
        doc["slide"] = "nobody's"
    with pytest.raises(ValueError, match=r"none of the slides asked about has features \(nobody's, \.\.\.\)"):
        model.loglikelihood(requests_of(docs))
    with pytest.raises(NotImplementedError, match="asked for words"):
        model.generate_until([])
    for wrong in ({}, {"run": "a", "model": "b"}, {"model": "b"}):
        with pytest.raises(ValueError, match="expected run=FOLDER, or model=FOLDER,features=PATH"):
            model_class(**wrong)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed (the extra lmms-eval)")
def test_lmms_eval_scores_what_stage_60_did(task, run_of, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--model", "slidesieve", "--model_args", f"run={run_of(METHOD)}",
         "--tasks", "slidesieve_toy_1", "--include_path", str(task), "--output_path", str(tmp_path), "--log_samples"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (results,) = tmp_path.rglob("*_results.json")
    found = json.loads(results.read_text())["results"]["slidesieve_toy_1"]
    assert found["acc,none"] == answers_of(run_of(METHOD))["correct"].mean()
