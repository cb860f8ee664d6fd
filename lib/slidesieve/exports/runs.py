"""A trained run as its folders and receipts tell it: which stage answered, what was trained, where its inputs lie."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.cohort.splits import split_of
from slidesieve.datasets.questions import Question, read_asked
from slidesieve.experiments.found import ANSWERED, COMPARED
from slidesieve.features.bag_files import BagFiles, load_available_bags
from slidesieve.provenance.files import RECEIPT, ROOT, outputs_of, read_json, read_receipt

SCORES = ["method", "k", "seed", "group", "n_questions", "accuracy", "ci_low", "ci_high"]


class Run(NamedTuple):
    """One method at one k and seed: the folder of its answers, and of the training whose weights gave them."""

    folder: Path
    checkpoint: Path
    root: Path  # what relative paths of the receipts start from
    method: str
    given: dict  # parameters of the answering stage
    model: dict  # how the model is built
    digest: str

    @property
    def k(self) -> int:
        return self.model["k"]

    @property
    def seed(self) -> int:
        return self.model["seed"]

    def path(self, name: str) -> Path | None:
        """Where an input of the answering stage lies; None where it had none. ValueError if it is gone."""
        return placed(self.given[name], self.root, of=f"{name} of {self.folder}") if self.given[name] else None

    def manifest(self) -> Manifest:
        return read_manifest(self.path("manifest"))

    def asked(self) -> list[Question]:
        """The questions that were answered, in their table's order. ValueError if the table no longer holds them."""
        manifest, wanted = self.manifest(), self.given["answered_split"]
        split = split_of(manifest, self.given["fold"])
        asked = [q for q in read_asked(self.path("questions"), manifest) if split[q.slide_id] == wanted]
        answered = set(pd.read_csv(self.folder / "answers.csv", usecols=["ID"], dtype=str)["ID"])
        if apart := sorted({question.id for question in asked} ^ answered):
            raise ValueError(
                f"{self.folder}: {len(apart)} questions were answered or are in {self.given['questions']}, not both "
                f"({apart[0]}); expected the table that was answered; put it back, or answer again"
            )
        return asked

    def compared_scores(self) -> pd.DataFrame:
        """The experiment's table of scores, if its comparison has these very answers; else no row of it."""
        for folder in (parent / COMPARED for parent in self.folder.parents):
            if (folder / RECEIPT).is_file():
                known = read_receipt(folder)["recipe"]["inputs"].get("answers", {})
                digest = outputs_of(self.folder)["answers.csv"]
                if digest.startswith(known.get(f"{self.folder.name}/answers.csv", "none")):
                    return pd.read_csv(folder / "scores.csv", usecols=SCORES, dtype={"method": str})
        return pd.DataFrame(columns=SCORES)

    def bags(self, slides: list[str]) -> BagFiles:
        """Bags of these slides, as they were when they were answered about."""
        return load_available_bags(self.manifest(), self.path("features"), slides, most_tiles=self.given["max_tiles"])


def find_run(folder: Path, *, method: str = "", k: int | None = None, seed: int | None = None) -> Run:
    """The run of an experiment's folder, or of one answering stage's, that fits the words given.

    Raises ValueError, with what there is, unless exactly one fits, and where its files are no longer those that were
    answered with; FileNotFoundError for a run that is not finished.
    """
    runs = list(_runs(folder))
    if not runs:
        raise ValueError(
            f"{folder}: no finished {ANSWERED} in it; expected an experiment's folder, or one such stage's"
        )
    fit = [
        run for run in runs
        if method in ("", run.method) and k in (None, run.k) and seed in (None, run.seed)
    ]  # fmt: skip
    if len(fit) != 1:
        wanted = ", ".join(f"{name} {value}" for name, value in _words(method, k, seed) if value is not None)
        there = "; ".join(f"{run.method} k {run.k} seed {run.seed} ({run.folder.name})" for run in fit or runs)
        raise ValueError(f"{folder}: {len(fit)} runs of {wanted or 'any method'}; expected one of {there}; name it")
    _check(fit[0])
    return fit[0]


def placed(value: str, root: Path, *, of: str) -> Path:
    """A path as receipts write it down: relative to the root, the user's folder or DATA_ROOT."""
    first, _, rest = value.partition("/")
    path = Path(os.environ.get("DATA_ROOT", ""), rest) if first == "DATA_ROOT" else root / Path(value).expanduser()
    if not path.exists():
        raise ValueError(f"{of}: {value} is not in {root}; expected it where the run found it; put it there")
    return path


def _words(method: str, k: int | None, seed: int | None) -> tuple:
    return ("method", method or None), ("k", k), ("seed", seed)


def _runs(folder: Path) -> Iterator[Run]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected an experiment's, or one of {ANSWERED}'s; correct it")
    for receipt in sorted({*folder.glob(RECEIPT), *(folder / ANSWERED).rglob(RECEIPT)}):
        told = read_receipt(receipt.parent)
        if told["stage"] == ANSWERED:
            yield _run(receipt.parent.resolve(), told)


def _run(folder: Path, receipt: dict) -> Run:
    given = receipt["given"]
    out, root = Path(given["out_dir"]), ROOT
    if not out.is_absolute() and folder.parts[-len(out.parts) :] == out.parts:
        root = folder.parents[len(out.parts) - 1]
    checkpoint = placed(given["checkpoint"], root, of=f"checkpoint of {folder}")
    model = read_json(checkpoint / "model" / "model.json")
    return Run(folder, checkpoint, root, given["method"] or model["compressor"], given, model, receipt["digest"])


def _check(run: Run) -> None:
    """Raise ValueError where tables or weights are not those that the receipts are about."""
    for folder in (run.folder, run.checkpoint):
        now, written = outputs_of(folder), read_receipt(folder)["outputs"]
        changed = [name for name in written if now.get(name) != written[name]["sha256"]]
        if changed:
            raise ValueError(f"{folder}: {changed[0]} is not what was written there; run the stage that wrote it again")
    answered = read_receipt(run.folder)["recipe"]["inputs"]["checkpoint"]
    weights = outputs_of(run.checkpoint)
    other = [name for name, digest in answered.items() if name in weights and not weights[name].startswith(digest)]
    if other:
        raise ValueError(
            f"{run.folder}: answered with another {other[0]} than {run.checkpoint} holds now; answer again"
        )
