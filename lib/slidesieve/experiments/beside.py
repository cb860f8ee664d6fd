"""Scores of two experiments beside each other, method by method, on the very same questions.

A difference is the later experiment's accuracy less the earlier one's, over the seeds that both have. What `ledger`
does not let be compared is refused with its reason, and a note says where prompt or head differ; verdicts are those of
`verdicts`: five seeds tell of methods, fewer of these runs, and Holm's correction is over the rows of a group.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from slidesieve.answers.controls import is_control
from slidesieve.evaluation.ledger import note, why_not
from slidesieve.evaluation.pairs import same_questions, tested_numbers
from slidesieve.evaluation.verdicts import judged
from slidesieve.experiments.found import Experiment

ALL = "all"
COLUMNS = [
    "before",
    "experiment",
    "method_before",
    "k_before",
    "method",
    "k",
    "group",
    "seeds",
    "n_seeds",
    "n_questions",
]
COLUMNS += ["n_patients", "accuracy_before", "accuracy", "difference", "ci_low", "ci_high", "gained", "lost", "p"]
COLUMNS += ["refused", "note"]
NUMBERS = COLUMNS[COLUMNS.index("accuracy_before") : COLUMNS.index("p") + 1]


class Pair(NamedTuple):
    """A method of the earlier experiment and one of the later, each at its k (0: it has none)."""

    method_before: str
    k_before: int
    method: str
    k: int


def pairs_of(before: Experiment, after: Experiment, named: Sequence[tuple[str, str]] = ()) -> list[Pair]:
    """Every method that both have, at each k that both have; then the `named` ones, (earlier's, later's).

    Named methods meet at the same k, or at every k if one of them has none. Raises ValueError for a name that an
    experiment has not.
    """
    a, b = (runs_of(experiment) for experiment in (before, after))
    found = [Pair(*run, *run) for run in b if run in a]
    for one, other in named:
        for name, runs, experiment in ((one, a, before), (other, b, after)):
            if name not in {method for method, _ in runs}:
                got = ", ".join(dict.fromkeys(method for method, _ in runs))
                raise ValueError(f"compare: {experiment.name} has no method {name!r}; it has {got}; name one of them")
        ks = [(k, o) for m, k in a if m == one for n, o in b if n == other and (k == o or 0 in (k, o))]
        found += [Pair(one, k, other, o) for k, o in ks]
    return list(dict.fromkeys(found))


def runs_of(experiment: Experiment) -> list[tuple[str, int]]:
    """(method, k) of an experiment's models as they come, controls left out."""
    runs = experiment.answers[["method", "k"]].drop_duplicates()
    return [(m, int(k)) for m, k in runs.itertuples(index=False) if not is_control(m)]


def beside(
    before: Experiment,
    after: Experiment,
    pairs: Sequence[Pair],
    *,
    draws: int,
    seed: int,
    groups: Sequence[str] = (),
) -> pd.DataFrame:
    """Return COLUMNS, `p_holm` and `verdict`: a row a pair of methods and a group of questions (`groups`, or all).

    `gained` and `lost` count the answers that only the later, only the earlier experiment got right. A row that is
    `refused` has no numbers and no verdict; neither has one of a single patient, whose difference has no p.
    """
    rows = []
    for pair in pairs:
        a, b = _of(before, *pair[:2]), _of(after, *pair[2:])
        both = a.merge(b, on=["seed", "ID"], suffixes=("_other", ""))
        for group, ids in groups_of(b).items():
            if groups and group not in groups:
                continue
            told = _Rows(*(_ledger_row(e, *run, group, both) for e, run in ((before, pair[:2]), (after, pair[2:]))))
            refused = told.why_not(before.name) or _why_not(a, b, both)
            part = both[both["ID"].isin(ids)]
            about = {"before": before.name, "experiment": after.name, "group": group, **pair._asdict()}
            about |= {"refused": refused, "note": "" if refused else told.note(part)} | _counts(part)
            rows.append(about | ({} if refused else _numbers(part, draws=draws, seed=seed)))
            if told.of_two_benchmarks:
                break  # one reason for all groups
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table = table.astype(dict.fromkeys(NUMBERS, float) | {"n_seeds": int})
    return judged(table, ["before", "experiment", "group"])


def groups_of(answers: pd.DataFrame) -> dict[str, set[str]]:
    """Map each score group to the ids of its questions: all, then categories as they come."""
    found = {ALL: set(answers["ID"])}
    for kind in ("broad", "narrow"):
        for name, part in answers.groupby(answers[kind].str.lower(), sort=False):
            found.setdefault(str(name), set()).update(part["ID"])
    return found


class _Rows(NamedTuple):
    """The ledger's rows of two scores; None: no question of this kind."""

    before: pd.Series | None
    after: pd.Series | None

    @property
    def of_two_benchmarks(self) -> bool:
        known = self.before is not None and self.after is not None
        return known and self.before["benchmark"] != self.after["benchmark"]

    def why_not(self, name: str) -> str:
        if self.before is None or self.after is None:
            return f"no question of this kind in {name}"
        return why_not(self.before, self.after)

    def note(self, part: pd.DataFrame) -> str:
        regrouped = (part["case_id"] != part["case_id_other"]).sum()
        patients = f"patients are the later manifest's, which differ for {regrouped} answers" if regrouped else ""
        return "; ".join(filter(None, [note(self.before, self.after), patients]))


def _ledger_row(experiment: Experiment, method: str, k: int, group: str, both: pd.DataFrame) -> pd.Series | None:
    """The ledger's row at the first seed that both have; at its own first if there is none."""
    table = experiment.ledger
    own = table[(table["method"] == method) & (table["k"] == k) & (table["group"] == group)]
    own = own[own["seed"] == both["seed"].min()] if len(both) else own
    return own.iloc[0] if len(own) else None


def _why_not(a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame) -> str:
    """What the ledger's numbers do not tell: other ids, no common seed, other slides covered."""
    ids = [set(own["ID"]) for own in (a, b)]
    if apart := len(ids[0] ^ ids[1]):
        return f"they are of other questions: {apart} of {len(ids[0] | ids[1])} were asked in one alone"
    if both.empty:
        named = [", ".join(map(str, sorted(own["seed"].unique()))) for own in (a, b)]
        return f"they have no seed in common ({' and '.join(named)})"
    if not same_questions(both):
        apart = (both["covered"] != both["covered_other"]).sum()
        return f"they cover other slides: {apart} answers are given in one alone"
    return ""


def _counts(part: pd.DataFrame) -> dict[str, object]:
    seeds = sorted(part["seed"].unique())
    counts = {"n_questions": part["ID"].nunique(), "n_patients": part["case_id"].nunique()}
    return {"seeds": "+".join(map(str, seeds)), "n_seeds": len(seeds)} | counts


def _numbers(part: pd.DataFrame, *, draws: int, seed: int) -> dict[str, float]:
    difference, low, high, p = tested_numbers(part, draws=draws, seed=seed)
    gained, lost = (part["correct"] & ~part["correct_other"]).sum(), (~part["correct"] & part["correct_other"]).sum()
    accuracies = (part["correct_other"].mean(), part["correct"].mean())
    return dict(zip(NUMBERS, (*accuracies, difference, low, high, gained, lost, p), strict=True))


def _of(experiment: Experiment, method: str, k: int) -> pd.DataFrame:
    table = experiment.answers
    names = ["seed", "ID", "case_id", "broad", "narrow", "correct", "covered"]
    own = table.loc[(table["method"] == method) & (table["k"] == k), names]
    return own.astype({"correct": bool, "covered": bool})


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables of `beside` as one; without any, its columns alone."""
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "p_holm", "verdict"])
