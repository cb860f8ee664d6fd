r"""A run's questions as a task of lmms-eval, in a folder for its --include_path.

    slidesieve export runs/demo --to lmms-eval --method all --out published/toy
    lmms-eval --model slidesieve --model_args run=runs/demo,method=all \
        --tasks slidesieve_toy --include_path published/toy

slidesieve_toy.yaml, questions.jsonl (a question a line, with its slide and patient), utils.py (see `lmms_plugin`).
Options are scored by log-likelihood, in the words that stage 60 used; nothing is fetched.
"""

import json
import re
from importlib import metadata
from pathlib import Path

from slidesieve.datasets.examples import answers_of
from slidesieve.datasets.questions import Question, groups, prompt
from slidesieve.exports.lmms_plugin import metric_of
from slidesieve.exports.runs import Run
from slidesieve.exports.source import Cut
from slidesieve.exports.whole_folder import whole_folder
from slidesieve.provenance.files import hash_file

KIND, DOCS = "lmms-eval", "questions.jsonl"
CUT_OUT = ("process_results", "accuracy")


def publish(run: Run, out: Path, *, command: str, include_lm: bool = False) -> list[str]:
    """Write the folder; say what was written, and how it is asked."""
    name, cases, form = task_name(out), run.manifest().cases, run.given["answer_form"]
    with whole_folder(out, KIND) as aside:
        docs = [doc_of(question, cases[question.slide_id], form) for question in run.asked()]
        (aside / DOCS).write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
        (aside / f"{name}.yaml").write_text(task_yaml(run, docs, name=name, command=command), encoding="utf-8")
        (aside / "utils.py").write_text(utils(), encoding="utf-8")
    slides, model = len({doc["slide"] for doc in docs}), f"run=RUN,method={run.method},k={run.k},seed={run.seed}"
    return [
        f"{len(docs):,} questions about {slides:,} slides: task {name}",
        f"lmms-eval --model slidesieve --model_args {model} --tasks {name} --include_path {out.name}",
    ]


def task_name(out: Path) -> str:
    """`slidesieve_` and the folder's name, in letters that lmms-eval and shells take as they are."""
    return "slidesieve_" + re.sub(r"\W+", "_", out.name)


def doc_of(question: Question, case_id: str, answer_form: str) -> dict:
    """One question as lmms-eval's tasks hold it: `choices` are the strings that are scored, `target` the right one."""
    return {
        "id": question.id,
        "slide": question.slide_id,
        "case_id": case_id,
        "question": question.text,
        "options": list(question.options),
        "prompt": prompt(question),
        "choices": answers_of(question, answer_form),
        "target": question.answer,
        "groups": list(groups(question)),
    }


def task_yaml(run: Run, docs: list[dict], *, name: str, command: str) -> str:
    """The task's YAML, each value as JSON, which YAML is a superset of, but for what utils.py defines."""
    questions = run.path("questions")
    told = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": DOCS}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "target",
        "cluster_key": "case_id",
        "score_key": "score",
        "metadata": {
            "version": hash_file(questions)[:16],
            "questions": questions.name,
            "split": run.given["answered_split"],
            "command": command,
        },
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in told.items()]
    lines += ["process_results: !function utils.process_results", "metric_list:"]
    for metric in dict.fromkeys(metric_of(group) for doc in docs for group in doc["groups"]):
        lines.append(f"- {{metric: {metric}, aggregation: !function utils.accuracy, higher_is_better: true}}")
    return "\n".join(lines) + "\n"


def utils() -> str:
    """The text of utils.py."""
    roots = {f"{metric_of.__module__}.{name}": "utils" for name in CUT_OUT}
    return Cut(roots, {}, version=f"slidesieve {metadata.version('slidesieve')}").files()["utils.py"]
