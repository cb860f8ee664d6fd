"""Experiments on disk, each read whole or named with the reason why not.

An experiment is what its last comparison says it is: the answers that it names, its scores, its ledger. All three must
still be what the receipts say, so that no score is taken from one run and its answers from another.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.answers.tables import COLUMNS, RUN, read_folder
from slidesieve.datasets.versions import UNKNOWN
from slidesieve.evaluation.ledger import COLUMNS as LEDGER
from slidesieve.evaluation.ledger import OURS
from slidesieve.provenance.files import RECEIPT, hash_file, read_receipt
from slidesieve.provenance.folders import owner_of

ANSWERED, COMPARED = "60_answer_questions", "80_compare_methods"
MEASURED = ("method", "k", "seed", "group", "n_questions", "coverage", "benchmark", "source")
DEPTH = 3  # folders between the one that is searched and an experiment, itself included


class Experiment(NamedTuple):
    """A finished experiment.

    `receipts` are of every stage that has one, by its folder (`50_tune_answers/all_s0`); `answers` are those compared,
    a row a method, k, seed and question; `scores` are of all seeds together (`scores.over_seeds`), `ledger` a row a
    score of its own, with what it was measured on.
    """

    name: str
    finished: datetime
    receipts: dict[str, dict]
    answers: pd.DataFrame
    scores: pd.DataFrame
    ledger: pd.DataFrame

    @property
    def benchmark(self) -> str:
        """The sha256 of the question file."""
        return str(self.ledger["benchmark"].iloc[0])

    @property
    def commits(self) -> str:
        """The commits of the code that made it, `""` where receipts do not tell."""
        told = [receipt.get("environment", {}).get("commit", "") for receipt in self.receipts.values()]
        return ", ".join(commit for commit, _ in Counter(filter(None, told)).most_common())


class Found(NamedTuple):
    """Experiments, in the order asked for or the oldest first, and those that cannot be read: (name, why)."""

    experiments: list[Experiment]
    unread: list[tuple[str, str]]


def find(places: Sequence[Path]) -> Found:
    """Read experiments and folders of experiments; what a folder holds comes the oldest first.

    Raises FileNotFoundError for a place that is not there, ValueError for a folder that holds no experiment and where
    none of all can be read.
    """
    folders = [folder for place in places for folder in _at(place)]
    names = _names(folders)
    read: list[Experiment] = []
    unread = []
    for folder, name in zip(folders, names, strict=True):
        try:
            read.append(read_experiment(folder, name))
        except (ValueError, FileNotFoundError) as fault:
            unread.append((name, str(fault).replace(f"{folder}/", "")))
    if not read:
        told = "; ".join(f"{name}: {why}" for name, why in unread)
        raise ValueError(f"compare: no finished experiment among {len(unread)} ({told}); let one end, or name another")
    if len(places) == 1:
        read.sort(key=lambda one: (one.finished, one.name))
    return Found(read, unread)


def read_experiment(folder: Path, name: str) -> Experiment:
    """Read one experiment.

    Raises FileNotFoundError or ValueError if its comparison has not ended, or if what it compared is damaged or was
    answered again since.
    """
    compared = folder / COMPARED
    if not (compared / RECEIPT).exists():
        raise ValueError(f"not finished: {COMPARED} has no {RECEIPT}; run the experiment to its end")
    receipt = read_receipt(compared)
    for table in ("over_seeds.csv", "score_ledger.csv"):
        _check(compared, table, receipt)
    own = _own_scores(compared / "score_ledger.csv")
    return Experiment(
        name=name,
        finished=datetime.fromisoformat(receipt["finished"]).astimezone(UTC),
        receipts=_receipts(folder),
        answers=_answers(folder, receipt),
        scores=pd.read_csv(compared / "over_seeds.csv", dtype={"seeds": str}),
        ledger=own,
    )


def _own_scores(path: Path) -> pd.DataFrame:
    """An experiment's own rows of its ledger; columns that an earlier version had not are empty."""
    table = pd.read_csv(path)
    missing = [name for name in MEASURED if name not in table]
    own = table[table["source"] == OURS] if not missing else table.iloc[:0]
    if own.empty:
        what = f"no column {', '.join(missing)}" if missing else "no score of its own"
        raise ValueError(f"{COMPARED}/{path.name}: {what}; run {COMPARED} again")
    whole = own.reindex(columns=LEDGER).astype({"version": object}).fillna({"k": 0, "version": UNKNOWN})
    return whole.astype({"k": int, "seed": int}).reset_index(drop=True)


def is_experiment(folder: Path) -> bool:
    """Say whether stages of an experiment lie in a folder, finished or not."""
    if not folder.is_dir():
        return False
    stages = (path for path in folder.iterdir() if path.is_dir())
    return any(path.name in (ANSWERED, COMPARED) or owner_of(path) == path.name for path in stages)


def _at(place: Path) -> list[Path]:
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such folder; expected an experiment, or a folder of them; correct it")
    if is_experiment(place):
        return [place]
    found = sorted(_below(place, DEPTH))
    if not found:
        raise ValueError(f"{place}: no experiment in it; expected folders with stages such as {ANSWERED}; name another")
    return found


def _below(place: Path, depth: int) -> list[Path]:
    """Experiments below a folder; not inside one another, nor in what a stage or a report wrote."""
    found = []
    for path in place.iterdir():
        if path.name.startswith(".") or not path.is_dir() or owner_of(path):
            continue
        found += [path] if is_experiment(path) else _below(path, depth - 1) if depth > 1 else []
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each: its folder's, with as many of those above as tell it from others; twice the same is counted."""
    parts = [folder.resolve().parts for folder in folders]
    most = max(map(len, parts), default=1)
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        n = next((n for n in range(1, most) if all(other[-n:] != own[-n:] for other in others)), 1)
        name, again = "/".join(own[-n:]), sum(1 for other in parts[: len(names)] if other == own)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _receipts(folder: Path) -> dict[str, dict]:
    """Every receipt of an experiment by its stage's folder, without the list of outputs."""
    paths = sorted((*folder.glob(f"*/{RECEIPT}"), *folder.glob(f"*/*/{RECEIPT}")))
    stages = {path.parent.relative_to(folder).as_posix(): read_receipt(path.parent) for path in paths}
    return {stage: {n: v for n, v in receipt.items() if n != "outputs"} for stage, receipt in stages.items()}


def _answers(folder: Path, receipt: dict) -> pd.DataFrame:
    """The answers that were compared, checked to be those of the receipt and each given once."""
    compared = receipt["recipe"]["inputs"].get("answers", {})
    tables = []
    for name in dict.fromkeys(label.partition("/")[0] for label in compared):
        answered = folder / ANSWERED / name
        digest = _check(answered, "answers.csv", read_receipt(answered))
        if not digest.startswith(compared.get(f"{name}/answers.csv", "?")):
            raise ValueError(f"{ANSWERED}/{name}: answered again since {COMPARED}; run the experiment to its end")
        tables.append(read_folder(answered, "answers.csv", COLUMNS))
    if not tables:
        raise ValueError(f"{COMPARED}: its receipt names no answers; run it again")
    answers = pd.concat(tables, ignore_index=True)
    if (twice := answers.duplicated([*RUN, "ID"])).any():
        raise ValueError(f"answers: {answers.loc[twice, [*RUN, 'ID']].iloc[0].tolist()} is answered twice")
    return answers


def _check(folder: Path, name: str, receipt: dict) -> str:
    """The sha256 of an output that is what its receipt says. Raises ValueError if it is not, or absent."""
    told = receipt["outputs"].get(name, {}).get("sha256")
    if told is None or not (folder / name).is_file():
        raise ValueError(f"{folder.name}/{name}: absent; run the experiment again")
    if hash_file(folder / name) != told:
        raise ValueError(f"{folder.name}/{name}: changed since it was written; run the experiment again")
    return told
