"""A ledger of scores: one row a score, with what it was measured on, by what, and of which receipt.

Rows may be compared only if they are of one benchmark, file by file, and of one coverage: `why_not` says why not, and
`difference` refuses. The papers' scores stand in it under the version they were measured on: SlideChat's 74.81 of 1,473
questions and its 81.17 of 7,827 never meet. Models that were asked in other words (`prompt`: the chat turn, and how
options are listed), or whose answers were read off in another way (`head`), are compared with a note (`note`).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.answers.tables import PROMPT, RUN, read_costs, read_folder
from slidesieve.datasets.versions import UNKNOWN, version_of
from slidesieve.evaluation import published
from slidesieve.provenance.files import hash_file, read_receipt

COLUMNS = [
    *("method", "k", "seed", "group", "score", "ci_low", "ci_high", "n_questions", "coverage"),
    *("benchmark", "version", "prompt", "head", "language_model", "compressor", "tiles_in", "tokens_out"),
    *("receipt", "source"),
]
COVERAGE = 0.005  # two coverages as far apart are two
OURS = "this run"
NO_MODEL = "no model"


class Difference(NamedTuple):
    """A score less another, and what is to be said beside it ("" if nothing)."""

    score: float
    note: str


def ledger(scores: pd.DataFrame, answers: pd.DataFrame, folders: Sequence[Path], questions: Path) -> pd.DataFrame:
    """Return COLUMNS for each of `scores` (of `evaluation.scores`, made of `answers`), and for the papers'.

    `benchmark` is the question file's sha256, `version` which published file it is, as far as `datasets.versions`
    knows. `prompt` is what stage 60 wrote of its words ("" where it wrote nothing), `head` how an answer is read off;
    `language_model` and `compressor` are hashes of what the receipts say was read. Floors have no model. Folds of a run
    share a row, under the first one's receipt.
    """
    costs = read_costs(folders).groupby(RUN, sort=False)[["n_tiles", "visual_tokens"]].mean()
    made: dict[tuple, dict[str, object]] = {}
    for folder in folders:
        run = tuple(read_folder(folder, "costs.csv", RUN).iloc[0])
        made.setdefault(run, _made(folder) | dict(zip(("tiles_in", "tokens_out"), costs.loc[run], strict=True)))
    rows = []
    for row in scores.to_dict("records"):
        own = next((made[run] for run in _runs_of(row) if run in made), {"prompt": NO_MODEL, "head": NO_MODEL})
        told = {name: row[name] for name in (*RUN, "group", "ci_low", "ci_high", "n_questions", "coverage")}
        rows.append(told | {"score": row["accuracy"], "source": OURS} | own)
    version = version_of(questions, rows=answers["ID"].nunique(), slides=answers["Slide"].nunique())
    table = pd.DataFrame(rows).reindex(columns=COLUMNS).assign(benchmark=hash_file(questions), version=version)
    return pd.concat([table, papers()], ignore_index=True)


def papers() -> pd.DataFrame:
    """The papers' scores, as shares, under their benchmark's name; what they do not state is empty."""
    known_versions = published.BENCHMARKS.items()
    sizes = {key: version._asdict() | {"all": version.n_questions} for key, version in known_versions}
    tokens = {(cost.method, cost.benchmark): cost.tokens for cost in published.COSTS}
    like = [(s.method, s.group, s.percent, published.COMPRESSED, s.source) for s in published.LIKE_FOR_LIKE]
    known = {(method, key) for method, group, _, key, _ in like if group == "all"}
    others = [(c.method, "all", c.percent, c.benchmark, c.source) for c in published.COSTS]
    rows = [
        {
            "method": method, "group": group, "score": percent / 100, "n_questions": sizes[key][group],
            "benchmark": published.BENCHMARKS[key].name, "version": published.BENCHMARKS[key].name,
            "tokens_out": tokens.get((method, key)), "source": source, "prompt": "", "head": "",
        }
        for method, group, percent, key, source in [*like, *(o for o in others if (o[0], o[3]) not in known)]
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def why_not(a: pd.Series, b: pd.Series) -> str:
    """Say why two rows cannot be compared; "" if they can."""
    if a["benchmark"] != b["benchmark"]:
        return f"they are of two benchmarks ({_short(a)} and {_short(b)}): the same questions must have been asked"
    if a["group"] != b["group"] or a["n_questions"] != b["n_questions"]:
        asked = (f"{row['group']}, {row['n_questions']:.0f} questions" for row in (a, b))
        return f"they are of other questions ({' and '.join(asked)})"
    covered = [row["coverage"] for row in (a, b)]
    if not any(map(pd.isna, covered)) and abs(covered[0] - covered[1]) > COVERAGE:
        return f"they cover {covered[0]:.3f} and {covered[1]:.3f} of the questions: what is not covered counts as wrong"
    return ""


def note(a: pd.Series, b: pd.Series) -> str:
    """Say what else two models' rows differ in that makes scores: `prompt` and `head`; "" if in neither."""
    said = []
    for what in ("prompt", "head"):
        one, other = ("" if pd.isna(row[what]) else row[what] for row in (a, b))  # a file has no empty words
        if NO_MODEL in (one, other) or one == other != "":
            continue
        told = f'"{one}" and "{other}"' if one and other else "not known of both"
        said.append(f"{what}: {told}")
    return "; ".join(said)


def difference(a: pd.Series, b: pd.Series) -> Difference:
    """The score of `a` less that of `b`. Raises ValueError with the reason where they cannot be compared."""
    if reason := why_not(a, b):
        names = (f"{row['method']} ({row['score']:.4f}, {row['source']})" for row in (a, b))
        raise ValueError(f"ledger: {' and '.join(names)} are not compared: {reason}")
    return Difference(float(a["score"] - b["score"]), note(a, b))


def _runs_of(row: dict) -> list[tuple]:
    """The run of a row, and of the model whose control it is."""
    model = str(row["method"])
    for ending in ("_wrong_slide", "_soft"):
        model = model.removesuffix(ending)
    return [(name, row["k"], row["seed"]) for name in (row["method"], model)]


def _made(folder: Path) -> dict[str, object]:
    """What stage 60's receipt says of the models and the way of asking."""
    receipt, prompt = read_receipt(folder), folder / PROMPT
    inputs, given = receipt["recipe"].get("inputs", {}), receipt["recipe"].get("parameters", {})
    return {
        "prompt": _line(prompt) if prompt.exists() else "",
        "head": _head(given),
        "language_model": _hash(inputs.get("lm")),
        "compressor": _hash(inputs.get("checkpoint")),
        "receipt": receipt.get("digest", ""),
    }


def _line(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\n", "\\n")


def _head(given: dict[str, object]) -> str:
    """How stage 60 reads an answer off, by its parameters; "" where they are not told."""
    if "answer_form" not in given:
        return ""
    several = f", mean of {given['rotations']} rotations" if given.get("rotations", 1) != 1 else ""
    return f"log-likelihood of the option's {given['answer_form']}{several}"


def _hash(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] if told else ""


def _short(row: pd.Series) -> str:
    name, version = str(row["benchmark"]), row["version"]
    return f"file {name[:12]}..." + (f", {version}" if version != UNKNOWN else "") if len(name) == 64 else name
