"""Method against method on the same answers: at the same k, and at the same computation.

A k is not the same to every method: kept tiles, slots that mix all tiles, latents that a question reads. So runs are
also matched by the operations of an answer (compressor and language model, see `cost.answer_costs`).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from slidesieve.answers.controls import is_control
from slidesieve.answers.tables import RUN
from slidesieve.compressors.registry import FLOORS
from slidesieve.datasets.questions import Question
from slidesieve.evaluation.floors import WITHOUT_A_MODEL, floor_run
from slidesieve.evaluation.scores import question_groups
from slidesieve.evaluation.stats import paired_difference
from slidesieve.evaluation.verdicts import between_methods, judged

TOLERANCE = 0.1  # how far apart the operations of two runs may be and still be called the same
ON = ["seed", "fold", "ID"]
COLUMNS = ["matched_by", "method", "k", "other", "other_k", "tflops_ratio", "matched", "group", "seeds", "n_seeds"]
COLUMNS += ["n_pairs", "n_patients", "difference", "ci_low", "ci_high", "p"]


class Pairing(NamedTuple):
    """Two runs to be compared, and the other's operations over the method's (nan where they are not known)."""

    matched_by: str
    method: str
    k: int
    other: str
    other_k: int
    tflops_ratio: float

    @property
    def matched(self) -> bool:
        return self.matched_by == "k" or abs(np.log(self.tflops_ratio)) <= np.log1p(TOLERANCE)


def rivals(answers: pd.DataFrame) -> list[str]:
    """Return the methods that are compared with each other: neither floors, baselines, controls nor variants.

    A variant of all tiles (with SlideChat's slide encoder) is a road of its own.
    """
    named = [m for m in answers["method"].unique() if m not in (*FLOORS, *WITHOUT_A_MODEL) and not is_control(m)]
    return [m for m in named if ":" not in m or m.startswith("all:")]


def pairings(answers: pd.DataFrame, costs: pd.DataFrame) -> list[Pairing]:
    """Pair every two rivals at each k that both have, and each run with the other's nearest in operations.

    `costs` has method, k and tflops, one row a run. A method without a k is matched by operations alone.
    """
    ks = answers.groupby("method")["k"].unique()
    tflops = costs.groupby(["method", "k"])["tflops"].mean()
    found = []
    for one, other in combinations(rivals(answers), 2):
        for k in sorted(set(ks[one]) & set(ks[other]) - {0}):
            found.append(Pairing("k", one, k, other, k, _ratio(tflops, (one, k), (other, k))))
        ratios = {(k, o): _ratio(tflops, (one, k), (other, o)) for k in ks[one] for o in ks[other]}
        for k in ks[one]:
            near = {o: abs(np.log(ratios[k, o])) for o in ks[other] if not np.isnan(ratios[k, o])}
            if near:
                o = min(near, key=near.get)
                found.append(Pairing("operations", one, int(k), other, int(o), ratios[k, o]))
    return found


def head_to_head(
    answers: pd.DataFrame, questions: Sequence[Question], costs: pd.DataFrame, *, draws: int, seed: int
) -> pd.DataFrame:
    """Return a row a pairing and group: method - other on the questions of all common seeds, tested as `verdicts` says.

    `p_holm` corrects over the pairings of a group and way of matching. Runs that are not matched (operations more than
    TOLERANCE apart), not of the same coverage or without a common seed have a row without numbers and say so.
    """
    rows = []
    for pairing in pairings(answers, costs):
        both = together(answers, pairing)
        named = sorted(both["seed"].unique())
        for group, ids in question_groups(questions).items():
            part = both[both["ID"].isin(ids)]
            numbers = (
                tested_numbers(part, draws=draws, seed=seed)
                if pairing.matched and same_questions(both) and len(part)
                else (np.nan,) * 4
            )
            counts = (len(named), len(part), part["case_id"].nunique())
            rows.append((*pairing, pairing.matched, group, "+".join(map(str, named)), *counts, *numbers))
    table = judged(pd.DataFrame(rows, columns=COLUMNS), ["matched_by", "group"])
    unknown = np.where(table["matched"], "not the same questions", "no run of like operations")
    return table.assign(verdict=np.where(table["p"].notna(), table["verdict"], unknown))


def unmatched(table: pd.DataFrame) -> list[str]:
    """Name each pairing that has no numbers, and why."""
    rows = table[table["p"].isna()].drop_duplicates(["matched_by", "method", "k", "other"])
    return [
        f"{row.method} (k {row.k}) and {row.other} (k {row.other_k}), same {row.matched_by}: {row.verdict}"
        + ("" if row.matched else f", {row.tflops_ratio:.2f} times as many")
        for row in rows.itertuples()
    ]


def paired(answers: pd.DataFrame, questions: Sequence[Question], *, floor: str, draws: int, seed: int) -> pd.DataFrame:
    """Compare each run with the floor method of the same seed, per group, at the run's own k or the floor's only one.

    A pair whose methods covered different questions is flagged `comparable = False` and gets no numbers.
    """
    rows = []
    for run, table in answers.groupby(RUN, sort=False):
        other = floor_run(answers, floor, k=int(run[1]), seed=int(run[2]))
        if run[0] == floor or other.empty:
            continue
        both = table.merge(other, on="ID", suffixes=("", "_floor"))
        comparable = bool((both["covered"] == both["covered_floor"]).all())
        for group, ids in question_groups(questions).items():
            part = both[both["ID"].isin(ids)]
            if len(part):
                numbers = _paired_numbers(part, draws=draws, seed=seed) if comparable else (np.nan,) * 6
                rows.append((*run, floor, group, len(part), comparable, *numbers))
    numbers = ["difference", "ci_low", "ci_high", "only_method", "only_floor", "mcnemar_p"]
    return pd.DataFrame(rows, columns=[*RUN, "floor", "group", "n_questions", "comparable", *numbers])


def _ratio(tflops: pd.Series, one: tuple[str, int], other: tuple[str, int]) -> float:
    return float(tflops.get(other, np.nan) / tflops.get(one, np.nan))


def together(answers: pd.DataFrame, pairing: Pairing) -> pd.DataFrame:
    """Return the answers of both runs to the same questions at the same seeds."""
    own = answers[(answers["method"] == pairing.method) & (answers["k"] == pairing.k)]
    other = answers[(answers["method"] == pairing.other) & (answers["k"] == pairing.other_k)]
    return own.merge(other[[*ON, "correct", "covered"]], on=ON, suffixes=("", "_other"))


def same_questions(both: pd.DataFrame) -> bool:
    """Say whether two runs covered the same questions, and any."""
    return len(both) > 0 and bool((both["covered"] == both["covered_other"]).all())


def tested_numbers(part: pd.DataFrame, *, draws: int, seed: int) -> tuple[float, ...]:
    """Return the difference in accuracy, its interval and its p."""
    own, other = part["correct"].astype(float), part["correct_other"].astype(float)
    tested = between_methods(part, own, other, draws=draws, seed=seed)
    return (*tested.estimate, tested.p)


def _paired_numbers(part: pd.DataFrame, *, draws: int, seed: int) -> tuple[float | int, ...]:
    a, b = part["correct"].to_numpy(bool), part["correct_floor"].to_numpy(bool)
    result = paired_difference(a, b, part["case_id"].to_numpy(str), draws=draws, seed=seed)
    return (*result.difference, result.only_a, result.only_b, result.p)
