"""Each learned method against the best of what needs no training: at the same k, and for no more operations.

And each method against the best of its floors, another slide's tiles among them.

The rival is the best on the very questions asked. So "above" is said of a method that is above every one of them: its
p is the largest, which needs no correction for their number. Before "below" is said, p is multiplied by that number.
Both are then corrected by Holm over the learned methods of a panel.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from slidesieve.answers.controls import WRONG_SLIDE
from slidesieve.compressors.registry import FLOORS, TRAINING_FREE, WITHOUT_K
from slidesieve.datasets.questions import Question
from slidesieve.evaluation.pairs import COLUMNS, TOLERANCE, Pairing, rivals, same_questions, tested_numbers, together
from slidesieve.evaluation.scores import question_groups
from slidesieve.evaluation.verdicts import judged


def candidates(answers: pd.DataFrame, costs: pd.DataFrame) -> dict[tuple[str, str, int], list[Pairing]]:
    """Return for each (matched by, learned method, k) the runs without training that it may be compared with.

    By operations these are all, at any k, that cost at most as many as the method (and 10 %).
    """
    ks, tflops = answers.groupby("method")["k"].unique(), costs.groupby(["method", "k"])["tflops"].mean()
    named = rivals(answers)
    learned = [name for name in named if name not in TRAINING_FREE and name.partition(":")[0] not in WITHOUT_K]
    free = [(name, int(k)) for name in named if name in TRAINING_FREE for k in ks[name]]
    found: dict[tuple[str, str, int], list[Pairing]] = {}
    for method, k in [(name, int(k)) for name in learned for k in ks[name]]:
        own = float(tflops.get((method, k), np.nan))
        for rival, other_k in free:
            ratio = float(tflops.get((rival, other_k), np.nan)) / own
            for by, matched in (("k", k == other_k), ("operations", ratio <= 1 + TOLERANCE)):
                if matched:
                    found.setdefault((by, method, k), []).append(Pairing(by, method, k, rival, other_k, ratio))
    return found


def floors_of(answers: pd.DataFrame) -> dict[tuple[str, str, int], list[Pairing]]:
    """Return for each (matched by, method, k) its floors: at the same k, or at the only one that a floor has."""
    ks = {name: [int(k) for k in own] for name, own in answers.groupby("method")["k"].unique().items()}
    found = {}
    for method in rivals(answers):
        for k in ks[method]:
            floors = [(name, k if k in ks[name] else ks[name][0]) for name in FLOORS if name in ks]
            floors = [(name, at) for name, at in floors if at == k or len(ks[name]) == 1]
            if k in ks.get(method + WRONG_SLIDE, []):
                floors.append((method + WRONG_SLIDE, k))
            found["floor", method, k] = [Pairing("floor", method, k, name, at, np.nan) for name, at in floors]
    return found


def against_best(
    answers: pd.DataFrame, questions: Sequence[Question], costs: pd.DataFrame, *, draws: int, seed: int
) -> pd.DataFrame:
    """Return a row for each learned method, k, way of matching and group: the best rival, and the difference to it.

    The columns are `pairs.COLUMNS`, `n_rivals`, `p_holm` and `verdict`.
    """
    return _against(candidates(answers, costs), answers, questions, draws=draws, seed=seed)


def against_floors(answers: pd.DataFrame, questions: Sequence[Question], *, draws: int, seed: int) -> pd.DataFrame:
    """Return a row for each method, k and group: the best of its floors, and the difference to it; columns as above."""
    return _against(floors_of(answers), answers, questions, draws=draws, seed=seed)


def _against(
    found: dict[tuple[str, str, int], list[Pairing]],
    answers: pd.DataFrame,
    questions: Sequence[Question],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    rows, groups = [], question_groups(questions)
    for pairings in found.values():
        both = {pairing: together(answers, pairing) for pairing in pairings}
        may = [pairing for pairing in pairings if same_questions(both[pairing])]
        for group, ids in groups.items():
            parts = {pairing: both[pairing][both[pairing]["ID"].isin(ids)] for pairing in may}
            parts = {pairing: part for pairing, part in parts.items() if len(part)}
            if not parts:
                continue
            tested = {pairing: tested_numbers(part, draws=draws, seed=seed) for pairing, part in parts.items()}
            best = min(parts, key=lambda pairing: tested[pairing][0])  # the least ahead of; seeds may differ by rival
            part, (*estimate, p) = parts[best], tested[best]
            p = min(1.0, p * len(parts)) if estimate[0] < 0 else max(p for *_, p in tested.values())
            named = sorted(part["seed"].unique())
            counts = (len(named), len(part), part["case_id"].nunique())
            rows.append((*best, True, group, "+".join(map(str, named)), *counts, *estimate, p, len(parts)))
    return judged(pd.DataFrame(rows, columns=[*COLUMNS, "n_rivals"]), ["matched_by", "group"])
