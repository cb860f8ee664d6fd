"""What lmms-eval takes from here: where its model `slidesieve` is, and how a task's answers are scored.

lmms-eval finds `manifest` by its entry point `lmms_eval.models`, each time it starts. The scoring is cut out into the
folder of a task (`lmms_task`), which any of its models can be asked with: it needs nothing but the standard library.
"""

import math
import re


def manifest():
    """The model's name and class, as lmms-eval registers them."""
    from lmms_eval.models.registry_v2 import ModelManifest  # only ever asked for by lmms-eval

    return ModelManifest("slidesieve", simple_class_path="slidesieve.exports.lmms_model.SlideSieve")


def process_results(doc: dict, results: list[str | tuple[float, bool]]) -> dict[str, dict]:
    """Score one question: a row for each group that it counts in, `acc` over all questions, `acc_<group>` beside it.

    `results` are a loss an option, as lmms-eval's models return in place of a log-likelihood: the least is the answer.
    A question with a loss that is no number, as where a slide has no features, has none, and is wrong. `case_id` is
    what lmms-eval's clustered standard error goes by.
    """
    losses = [loss_of(result) for result in results]
    said = losses.index(min(losses)) if all(map(math.isfinite, losses)) else None
    row = {"score": float(said == doc["target"]), "case_id": doc["case_id"], "predicted": said}
    return {metric_of(group): row for group in doc["groups"]}


def loss_of(result: str | tuple[float, bool]) -> float:
    """The loss in (loss, whether it is greedy), which lmms-eval 0.7.3 hands on as its text: `(0.25, False)`."""
    return float(str(result).strip("()").partition(",")[0])


def metric_of(group: str) -> str:
    """`acc` for all questions, `acc_<group>` for those of a group."""
    return "acc" if group == "all" else "acc_" + re.sub(r"\W+", "_", group)


def accuracy(rows: list[dict]) -> float:
    """The share of questions that are answered rightly."""
    return sum(row["score"] for row in rows) / len(rows)
