"""Experiments one after the other: a row an experiment, method and k, beside the one before it; what moved, in words.

The one before is the latest earlier experiment on the same question file that has the same method and k. Holm's
correction is over the rows of one experiment beside one other.
"""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from slidesieve.answers.names import run_name
from slidesieve.datasets.versions import UNKNOWN
from slidesieve.evaluation.floors import WITHOUT_A_MODEL
from slidesieve.evaluation.verdicts import SEEDS, THESE_RUNS, UNTOLD
from slidesieve.experiments.beside import ALL, Pair, beside, runs_of
from slidesieve.experiments.found import Experiment
from slidesieve.experiments.settings import code_of

FLOORS = ("text_only", "wrong_slide", "random", "mean", "majority")
BESIDE = [
    "before",
    "accuracy_before",
    "difference",
    "diff_low",
    "diff_high",
    "gained",
    "lost",
    "p",
    "p_holm",
    "verdict",
]
COLUMNS = ["date", "experiment", "commit", "code", "benchmark", "version", "method", "k", "seeds", "n_seeds"]
COLUMNS += ["n_questions", "coverage", "accuracy", "ci_low", "ci_high", *FLOORS, *BESIDE, "refused", "note"]
SAID = 3  # differences told one by one; more in a line


def history(experiments: Sequence[Experiment], *, draws: int, seed: int) -> pd.DataFrame:
    """Return COLUMNS, the newest experiment last; accuracy and interval are the experiment's own, over all questions.

    Floors are accuracies at the same k, or of what has none; `majority` is the best of those that need no model.
    `difference` is to the experiment `before`, on their common seeds.
    """
    ordered = in_order(experiments)
    tables = []
    for place, experiment in enumerate(ordered):
        rows = _own_rows(experiment)
        tables.append(
            rows.merge(_beside_earlier(ordered[:place], experiment, draws=draws, seed=seed), "left", ["method", "k"])
        )
    table = pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)
    words = ["before", "verdict", "refused", "note"]
    return table.astype(dict.fromkeys(words, object)).fillna(dict.fromkeys(words, ""))


def in_order(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The oldest first."""
    return sorted(experiments, key=lambda one: (one.finished, one.name))


def steps(experiments: Sequence[Experiment]) -> list[tuple[Experiment, Experiment]]:
    """Each experiment with the one before it on the same question file, the oldest first."""
    by_file: dict[str, list[Experiment]] = {}
    for experiment in in_order(experiments):
        by_file.setdefault(experiment.benchmark, []).append(experiment)
    found = [pair for own in by_file.values() for pair in pairwise(own)]
    return sorted(found, key=lambda pair: (pair[1].finished, pair[1].name))


def moved(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """For each benchmark in a table of `history`: a heading and what moved in its newest experiment, in sentences.

    The benchmark with the newest experiment stands first.
    """
    found = []
    for benchmark, rows in reversed(list(table.groupby("benchmark", sort=False))):
        names = rows["experiment"].drop_duplicates().tolist()
        newest = rows[rows["experiment"] == names[-1]]
        found.append(
            (newest["date"].iloc[0], _heading(str(benchmark), newest, len(names)), _moved(rows, newest, names))
        )
    return [(heading, said) for _, heading, said in sorted(found, key=lambda one: one[0], reverse=True)]


def sentences(rows: pd.DataFrame) -> list[str]:
    """Say what the rows of one group tell: what is above, below, not told apart, the same, and not compared."""
    known = rows[rows["difference"].notna()]
    same = known[(known["gained"] == 0) & (known["lost"] == 0)]
    rest = known.drop(same.index)
    said = []
    for word in ("above", "below"):
        told = rest[rest["verdict"].str.startswith(word)]
        said += [
            f"{_name(row)} is {word} {_other(row)}{_runs(row)}: {_points(row)}." for row in told.to_dict("records")
        ]
    untold = rest[~rest["verdict"].str.startswith(("above", "below"))].to_dict("records")
    if 0 < len(untold) <= SAID:
        said += [f"{_name(row)} is {_untold(row)} {_other(row)}{_runs(row)}: {_points(row)}." for row in untold]
    elif untold:
        low, high = (100 * pick(row["difference"] for row in untold) for pick in (min, max))
        told = f"{', '.join(map(_name, untold))}; differences of {low:+.1f} to {high:+.1f} points"
        said.append(f"Not told apart: {told}.")
    if len(same):
        whose = "every method" if len(same) == len(rows) else ", ".join(map(_name, same.to_dict("records")))
        said.append(f"The same answers are right as before, of {whose}: the difference is 0.")
    for reason, part in rows[rows["difference"].isna() & (rows["refused"] != "")].groupby("refused", sort=False):
        said.append(f"Not compared: {', '.join(map(_name, part.to_dict('records')))}: {reason}.")
    if (rest["n_seeds"] < SEEDS).any():
        said.append("Fewer than five seeds speak of these runs alone: another seed may say otherwise.")
    return said


def _own_rows(experiment: Experiment) -> pd.DataFrame:
    """An experiment's own scores over all questions, with their floors, a row a method and k."""
    scores = experiment.scores[experiment.scores["group"] == ALL].assign(k=lambda t: t["k"].fillna(0).astype(int))
    known = {(row.method, row.k): row.accuracy for row in scores.itertuples()}
    rows = scores.set_index(["method", "k"]).loc[[run for run in runs_of(experiment) if run in known]].reset_index()
    at = lambda floor: [known.get((floor, k), known.get((floor, 0))) for k in rows["k"]]  # noqa: E731
    wrong = [known.get((f"{row.method}_wrong_slide", row.k)) for row in rows.itertuples()]
    majority = max((known[name, 0] for name in WITHOUT_A_MODEL if (name, 0) in known), default=None)
    floors = {"text_only": at("text_only"), "random": at("random"), "mean": at("mean")}
    about = {"benchmark": experiment.benchmark, "version": experiment.ledger["version"].iloc[0]}
    about |= {"commit": experiment.commits, "code": code_of(experiment), "experiment": experiment.name}
    about |= {"date": experiment.finished.isoformat(timespec="seconds")}
    return rows.assign(**about, **floors, wrong_slide=wrong, majority=majority).astype(dict.fromkeys(FLOORS, float))


def _beside_earlier(earlier: Sequence[Experiment], experiment: Experiment, *, draws: int, seed: int) -> pd.DataFrame:
    """The differences to the latest earlier experiment of the same benchmark that has the method and k."""
    left, tables = set(runs_of(experiment)), []
    for before in reversed(earlier):
        own = [run for run in runs_of(before) if run in left] if before.benchmark == experiment.benchmark else []
        if own:
            pairs = [Pair(*run, *run) for run in own]
            tables.append(beside(before, experiment, pairs, draws=draws, seed=seed, groups=[ALL]))
            left -= set(own)
    names = {"ci_low": "diff_low", "ci_high": "diff_high"}
    kept = ["method", "k", *BESIDE, "refused", "note"]
    if not tables:
        return pd.DataFrame(columns=kept).astype({"k": int})
    return pd.concat(tables, ignore_index=True).rename(columns=names)[kept]


def _heading(benchmark: str, newest: pd.DataFrame, n: int) -> str:
    row = newest.iloc[0]
    file = f"question file {benchmark[:12]}" + (f", {row['version']}" if row["version"] != UNKNOWN else "")
    of = f"the newest of {n} experiments" if n > 1 else "the only experiment"
    return f"{row['experiment']} ({row['date'][:10]}), {of} on {file}, {row['n_questions']:.0f} questions"


def _moved(rows: pd.DataFrame, newest: pd.DataFrame, names: list[str]) -> list[str]:
    compared = newest[newest["before"] != ""].drop(columns=["ci_low", "ci_high"])
    said = sentences(compared.rename(columns={"diff_low": "ci_low", "diff_high": "ci_high"}))
    runs = {
        experiment: set(zip(own["method"], own["k"], strict=True)) for experiment, own in rows.groupby("experiment")
    }
    seen = set().union(*(runs[name] for name in names[:-1]))
    new = [run_name(*run) for run in zip(newest["method"], newest["k"], strict=True) if run not in seen]
    if len(names) == 1:
        return ["Nothing stands before it on these questions, so nothing is said of what moved."]
    gone = sorted(run_name(*run) for run in runs[names[-2]] - runs[names[-1]])
    said += [f"New: {', '.join(new)}."] if new else []
    return said + ([f"No longer there, and in {names[-2]}: {', '.join(gone)}."] if gone else [])


def _name(row: dict) -> str:
    return run_name(row["method"], row["k"])


def _other(row: dict) -> str:
    """The experiment before, and its method where another was asked for."""
    method = run_name(row.get("method_before", row["method"]), row.get("k_before", row["k"]))
    return row["before"] if method == _name(row) else f"{method} of {row['before']}"


def _untold(row: dict) -> str:
    return f"{UNTOLD} from" if row["verdict"] else "of too few patients for a verdict beside"


def _runs(row: dict) -> str:
    return THESE_RUNS if row["verdict"].endswith(THESE_RUNS) else ""


def _points(row: dict) -> str:
    interval = f" ({100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f})" if pd.notna(row["ci_low"]) else ""
    moved = f"{100 * row['accuracy_before']:.1f} to {100 * (row['accuracy_before'] + row['difference']):.1f} %"
    return f"{moved}, {100 * row['difference']:+.1f} points{interval}"
