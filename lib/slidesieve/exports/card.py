"""The card of a published model, out of what the run left: scores beside their floors, data, encoder, licences."""

import json
from importlib import metadata
from typing import NamedTuple, Self

import pandas as pd

from slidesieve.answers.controls import CONTROLS
from slidesieve.exports.runs import Run
from slidesieve.features.known_encoders import known
from slidesieve.provenance.files import hash_file, read_receipt
from slidesieve.provenance.receipts import commit_of

INHERITED = (
    "Weights that were trained on an encoder's features may count as a derivative of the encoder: the licences of\n"
    "UNI2-h, TITAN and others say so, and bind whoever passes this folder on. So may the language model's."
)
FLOORS = ("majority", "majority_option", "longest_option")  # of scores.csv, with no model


class Told(NamedTuple):
    """What tables say: scores of this run and of its floors (all questions and by group), and the cohort's counts."""

    scores: pd.DataFrame
    floors: pd.DataFrame
    slides: dict[str, tuple[int, int]]  # split -> slides, patients
    sources: list[str]
    licences: list[str]
    questions: str
    n_questions: int

    @property
    def file(self) -> str:
        return self.questions.partition(" ")[0]

    @classmethod
    def of(cls, run: Run) -> Self:
        table = run.manifest().table
        path = run.path("questions")
        answers = pd.read_csv(run.folder / "answers.csv", usecols=["ID", "method"], dtype=str)
        split = table.groupby("split")
        return cls(
            *_scores(run),
            {name: (len(part), part["case_id"].nunique()) for name, part in split},
            sorted(set(table["source"]) - {""}),
            sorted(set(table["licence"]) - {""}),
            f"{path.name} (sha256 {hash_file(path)[:16]})",
            answers["ID"].nunique(),
        )


class CardFacts(NamedTuple):
    """All that a card is written from."""

    told: Told
    tiles: dict  # preprocessor_config.json
    lm: str  # where the language model is, in words
    lm_inside: bool
    command: str
    name: str


def card(run: Run, facts: CardFacts) -> str:
    """The text of README.md."""
    parts = [_front(run, facts), _summary(run, facts), _use(facts), _score_tables(run, facts.told)]
    return "\n\n".join([*parts, _data(facts), _encoder(facts), _made(run, facts)]) + "\n"


def _scores(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the comparison's scores: of the run, and of what it must beat; none where it was not compared."""
    table = run.compared_scores()
    ours = table["seed"].eq(run.seed) & table["k"].isin([run.k, 0])
    own = table[ours & table["method"].eq(run.method)]
    wanted = [*(run.method + end for end in CONTROLS), "random", "mean", "blank", "text_only", "all"]
    floors = table[(ours & table["method"].isin(wanted) | table["method"].isin(FLOORS)) & table["group"].eq("all")]
    return own, floors[floors["method"] != run.method]


def _front(run: Run, facts: CardFacts) -> str:
    """The card's YAML, each value as JSON, which YAML is a superset of."""
    told = facts.told
    scored = [
        {
            "task": {"type": "visual-question-answering"},
            "dataset": {"name": told.questions, "type": told.file, "split": run.given["answered_split"]},
            "metrics": [_metric(row) for row in told.scores.itertuples()],
        }
    ]
    front = {
        "library_name": "transformers",
        "pipeline_tag": "visual-question-answering",
        "license": "other",
        "base_model": run.model["lm"]["name"],
        "datasets": told.sources or [told.file],
        "metrics": ["accuracy"],
        "tags": ["pathology", "whole-slide-image", "slidesieve", run.model["compressor"]],
        "model-index": [{"name": facts.name, "results": scored if len(told.scores) else []}],
    }
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---"])


def _metric(row) -> dict:
    interval = {"n_questions": int(row.n_questions), "ci_low": round(row.ci_low, 4), "ci_high": round(row.ci_high, 4)}
    return {"type": "accuracy", "value": round(row.accuracy, 4), "name": f"accuracy, {row.group}", "args": interval}


def _summary(run: Run, facts: CardFacts) -> str:
    lm = run.model["lm"]
    return f"""# {facts.name}

`{run.method}` (k = {run.k} tokens a slide, seed {run.seed}): tile features of a whole-slide image -> few tokens -> the
language model `{lm["name"]}` (weights {lm["weights"]}, {facts.lm}).

Research software; not a medical device, and not for diagnosis."""


def _use(facts: CardFacts) -> str:
    lm = "" if facts.lm_inside else ", lm=PATH_OR_ID"
    return f"""## Use

`pip install torch transformers safetensors`; slidesieve itself is not needed. The code in this folder is cut out of it.

```python
from transformers import AutoModel

model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True{lm})
model.answer(features, coords, "Which finding?", ["necrosis", "fibrosis"])   # letter, option, log-likelihoods
model.compress(features, coords)                                             # tokens, kept tiles, scores
```

`features` (n, {facts.tiles["feature_width"]}) are of the encoder below, `coords` (n, 2) top-left corners of tiles in
level-0 pixels. Options are scored by their log-likelihood; nothing is sampled."""


def _score_tables(run: Run, told: Told) -> str:
    if not len(told.scores):
        return "## Scores\n\nNot compared with floors: no comparison of methods has these very answers. Claim nothing."
    rows = [_row(row.group, row) for row in told.scores.itertuples()]
    beside = [_row(f"`{row.method}`", row) for row in told.floors.itertuples()]
    return "\n".join(
        ["## Scores", "", f"Accuracy with 95 % intervals over patients, split `{run.given['answered_split']}`.", "",
         "| questions | n | accuracy | interval |", "|---|---|---|---|", *rows, "",
         "Beside it, on all questions: floors without a slide, the same weights on another's slide, other methods.",
         "", "| what | n | accuracy | interval |", "|---|---|---|---|", *beside]
    )  # fmt: skip


def _row(name: str, row) -> str:
    return f"| {name} | {int(row.n_questions)} | {row.accuracy:.3f} | {row.ci_low:.3f} to {row.ci_high:.3f} |"


def _data(facts: CardFacts) -> str:
    told = facts.told
    counts = [
        f"{split or 'no split'}: {slides:,} slides of {cases:,} patients"
        for split, (slides, cases) in told.slides.items()
    ]
    return (
        f"## Data\n\n{'; '.join(counts)}. Source: {', '.join(told.sources) or 'not recorded'}. Licence: "
        f"{', '.join(told.licences) or 'not recorded'}. Questions: {told.questions}, {told.n_questions:,} answered."
    )


def _encoder(facts: CardFacts) -> str:
    rows = [f"- {name}: {value}" for name, value in facts.tiles.items() if value is not None]
    found = known(str(facts.tiles.get("encoder") or ""))
    told = found.terms if found and (found.licence or found.gated) else ""
    licence = told or "not recorded; look it up before passing this on"
    return "\n".join(["## Encoder, and the licence it hands down", "", *rows, f"- licence: {licence}", "", INHERITED])


def _made(run: Run, facts: CardFacts) -> str:
    receipt = read_receipt(run.checkpoint)
    given = {name: value for name, value in receipt["recipe"]["parameters"].items() if "/" not in str(value)}
    trained = receipt.get("environment", {}).get("commit") or "not told"
    return f"""## How it was made

Receipt of the training {receipt["digest"]} ({receipt["finished"]}, commit {trained}), of the answers {run.digest}.
Exported by slidesieve {metadata.version("slidesieve")}, commit {commit_of() or "not told"}.

```
{facts.command}
```

Parameters of the last training stage:

```json
{json.dumps(given, indent=1)}
```"""
