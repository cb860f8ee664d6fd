"""Scores of many runs beside their floors: accuracy, paired differences, planted-tile recall, AUROC.

A floor answers without any image and is a method with k = 0. Scores pool the folds, so that each question counts once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.answers import LOGP, RUN
from lib.bag_files import BagView
from lib.features import Bag
from lib.questions import LETTERS, Question, groups
from lib.selection import heuristic_selection, rates
from lib.stats import clustered_accuracy, longest_option, majority_letter, majority_option, paired_difference

FLOORS: dict[str, Callable[[Sequence[Question], Sequence[Question]], list[int]]] = {
    "majority": majority_letter,
    "majority_option": majority_option,
    "longest_option": lambda train, asked: longest_option(asked),
}
WITHOUT_KEY = ("longest_option",)


def floor_answers(answers: pd.DataFrame, questions: Sequence[Question], *, split: dict[int, pd.Series]) -> pd.DataFrame:
    """Answer the same questions without any image, once for each seed; `split` maps fold -> (slide_id -> split).

    Frequencies come from the training split's key alone; a table of test questions only has no majority floors.
    """
    table = {question.id: question for question in questions}
    rows = []
    asked = answers.drop_duplicates(["seed", "fold", "ID"])
    for (seed, fold), part in asked.groupby(["seed", "fold"]):
        train = [question for question in questions if split[fold].get(question.slide_id) == "train"]
        for name in FLOORS if train else WITHOUT_KEY:
            predicted = [LETTERS[i] for i in FLOORS[name](train, [table[i] for i in part["ID"]])]
            floor = part.assign(method=name, k=0, seed=seed, fold=fold, predicted=predicted, covered=True)
            rows.append(floor.assign(correct=floor["predicted"] == floor["answer"], **dict.fromkeys(LOGP, np.nan)))
    return pd.concat(rows, ignore_index=True)


def question_groups(questions: Sequence[Question]) -> dict[str, set[str]]:
    """Map each score group to the ids of its questions: all, then broad and narrow categories as they come."""
    members: dict[str, set[str]] = {}
    for question in questions:
        for group in groups(question):
            members.setdefault(group, set()).add(question.id)
    return members


def named_groups(questions: Sequence[Question], names: Sequence[str]) -> list[str]:
    """Return the named score groups, or the broad categories as they come if none is named.

    Raises ValueError for a name that is no group of these questions.
    """
    known = question_groups(questions)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"group: got {', '.join(unknown)}; the questions have {', '.join(known)}; name one of them")
    return list(names) or list(dict.fromkeys(question.broad.lower() for question in questions))


def panel_groups(questions: Sequence[Question]) -> dict[str, str]:
    """Map a panel's title to a group, joining groups of the very same questions: {"composition = tissue": ...}."""
    joined: dict[frozenset[str], list[str]] = {}
    for group, ids in question_groups(questions).items():
        joined.setdefault(frozenset(ids), []).append(group)
    return {" = ".join(names): names[0] for names in joined.values()}


def scores(answers: pd.DataFrame, questions: Sequence[Question], *, draws: int, seed: int) -> pd.DataFrame:
    """Return accuracy with its slide-clustered interval and coverage for each run and group; uncovered is wrong."""
    rows = []
    for run, table in answers.groupby(RUN, sort=False):
        for group, ids in question_groups(questions).items():
            part = table[table["ID"].isin(ids)]
            if len(part):
                correct, slide = part["correct"].to_numpy(bool), part["Slide"].to_numpy(str)
                estimate = clustered_accuracy(correct, slide, draws=draws, seed=seed)
                counts = (len(part), part["Slide"].nunique(), part["covered"].mean())
                rows.append((*run, group, *counts, *estimate))
    columns = [*RUN, "group", "n_questions", "n_slides", "coverage", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def paired(answers: pd.DataFrame, questions: Sequence[Question], *, floor: str, draws: int, seed: int) -> pd.DataFrame:
    """Compare each run with the floor method of the same seed, per group, at the run's own k or the floor's only one.

    A pair whose methods covered different questions is flagged `comparable = False` and gets no numbers.
    """
    rows = []
    for run, table in answers.groupby(RUN, sort=False):
        other = _floor_run(answers, floor, k=int(run[1]), seed=int(run[2]))
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


def soft_and_hard(scored: pd.DataFrame) -> pd.DataFrame:
    """Return method, k, seed, group, soft, hard and their gap (soft - hard) for each method scored both ways."""
    on = [*RUN, "group"]
    soft = scored[scored["method"].str.endswith("_soft")][[*on, "accuracy"]].rename(columns={"accuracy": "soft"})
    soft = soft.assign(method=soft["method"].str.removesuffix("_soft"))
    both = soft.merge(scored[[*on, "accuracy"]].rename(columns={"accuracy": "hard"}), on=on)
    return both.assign(gap=both["soft"] - both["hard"])


def selection_scores(selection: pd.DataFrame) -> pd.DataFrame:
    """Return the pooled recall of planted tiles, chance and precision of each run."""
    rows = [(*run, *rates(table)) for run, table in selection.groupby(RUN, sort=False)]
    return pd.DataFrame(rows, columns=[*RUN, "recall", "chance", "precision"])


def heuristic_rows(selection: pd.DataFrame, bags: Mapping[str, Bag], truth: pd.DataFrame) -> pd.DataFrame:
    """Return selection rows of every heuristic on the same slides, for each k > 0 and seed that the runs used."""
    runs = selection.loc[selection["k"] > 0, ["k", "seed"]].drop_duplicates()
    used = BagView(bags, selection["slide_id"].unique())
    rows = heuristic_selection(used, truth, ks=sorted(int(k) for k in runs["k"].unique()))
    return rows.merge(runs, on="k")


def _floor_run(answers: pd.DataFrame, floor: str, *, k: int, seed: int) -> pd.DataFrame:
    runs = answers[(answers["method"] == floor) & (answers["seed"] == seed)]
    at_k = runs[runs["k"] == k]
    return at_k if len(at_k) or runs["k"].nunique() > 1 else runs


def _paired_numbers(part: pd.DataFrame, *, draws: int, seed: int) -> tuple[float | int, ...]:
    a, b = part["correct"].to_numpy(bool), part["correct_floor"].to_numpy(bool)
    result = paired_difference(a, b, part["Slide"].to_numpy(str), draws=draws, seed=seed)
    return (*result.difference, result.only_a, result.only_b, result.p)
