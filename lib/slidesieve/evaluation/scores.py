"""Scores of many runs beside their floors: accuracy, planted-tile recall, and accuracy against visual tokens.

A floor answers without any image and is a method with k = 0. Scores pool the folds, so that each question counts once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slidesieve.answers.controls import is_control
from slidesieve.answers.tables import COLUMNS, RUN, read_folder
from slidesieve.datasets.questions import Question, groups
from slidesieve.evaluation.floors import WITHOUT_A_MODEL
from slidesieve.evaluation.selection import rates
from slidesieve.evaluation.stats import clustered_accuracy, clustered_ratio
from slidesieve.evaluation.verdicts import accuracy_of_runs

WITHOUT_A_SLIDE = ("text_only", "blank")


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
    """Return accuracy with its patient-clustered interval and coverage for each run and group; uncovered is wrong.

    `per_token` is the accuracy of choices by log-likelihood over the option's tokens; nan where no model answered.
    """
    rows = []
    for run, table in answers.groupby(RUN, sort=False):
        for group, ids in question_groups(questions).items():
            part = table[table["ID"].isin(ids)]
            if len(part):
                correct, patient = part["correct"].to_numpy(bool), part["case_id"].to_numpy(str)
                estimate = clustered_accuracy(correct, patient, draws=draws, seed=seed)
                counts = (len(part), part["Slide"].nunique(), part["covered"].mean())
                per_token = (part["per_token"] == part["answer"]).mean() if part["per_token"].any() else np.nan
                rows.append((*run, group, *counts, *estimate, per_token))
    columns = [*RUN, "group", "n_questions", "n_slides", "coverage", "accuracy", "ci_low", "ci_high", "per_token"]
    return pd.DataFrame(rows, columns=columns)


def over_seeds(answers: pd.DataFrame, questions: Sequence[Question], *, draws: int, seed: int) -> pd.DataFrame:
    """Return a row for each method, k and group: accuracy over all seeds' answers, controls and floors among them.

    The interval is over patients and, from five seeds on, over seeds. The columns are those of `scores`, with `seeds`
    and `n_seeds` for seed; `n_questions` counts each once.
    """
    rows = []
    for run, table in answers.groupby(["method", "k"], sort=False):
        named = sorted(table["seed"].unique())
        for group, ids in question_groups(questions).items():
            part = table[table["ID"].isin(ids)]
            if len(part):
                estimate = accuracy_of_runs(part, draws=draws, seed=seed)
                counts = (len(named), part["ID"].nunique(), part["Slide"].nunique(), part["covered"].mean())
                rows.append((*run, "+".join(map(str, named)), group, *counts, *estimate))
    columns = ["method", "k", "seeds", "group", "n_seeds", "n_questions", "n_slides", "coverage", "accuracy"]
    return pd.DataFrame(rows, columns=[*columns, "ci_low", "ci_high"])


def best_first(scored: pd.DataFrame) -> pd.DataFrame:
    """Put the rows of the method and k with most right answers of all questions first, and so on."""
    whole = scored[scored["group"] == "all"].groupby(["method", "k"], sort=False)["accuracy"].mean()
    place = whole.rank(ascending=False, method="first")
    return scored.iloc[np.argsort(place.loc[pd.MultiIndex.from_frame(scored[["method", "k"]])], kind="stable")]


def in_words(pooled: pd.DataFrame) -> pd.DataFrame:
    """Set out a table of `over_seeds` for reading: a row a method and k, a column a group, per cent and interval."""
    numbers = (100 * pooled[["accuracy", "ci_low", "ci_high"]]).to_numpy()
    said = pooled.assign(said=[f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in numbers])
    return said.pivot_table(index=["method", "k"], columns="group", values="said", aggfunc="first", sort=False)


def seeing_nothing(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that never saw the slide they were asked about: without a model, or trained without a slide."""
    return scored[scored["method"].isin((*WITHOUT_A_MODEL, *WITHOUT_A_SLIDE))]


def seeing(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods that saw their slide, without controls."""
    return scored.drop(index=seeing_nothing(scored).index).loc[lambda rows: ~rows["method"].map(is_control)]


def soft_and_hard(scored: pd.DataFrame) -> pd.DataFrame:
    """Return method, k, seed, group, soft, hard and their gap (soft - hard) for each method scored both ways.

    The intervals of both (`soft_low`, `soft_high`, `hard_low`, `hard_high`) stand beside them.
    """
    on, told = [*RUN, "group"], {"accuracy": "", "ci_low": "_low", "ci_high": "_high"}
    own = scored[[*on, *told]]
    soft = own[own["method"].str.endswith("_soft")].rename(columns={n: f"soft{end}" for n, end in told.items()})
    soft = soft.assign(method=soft["method"].str.removesuffix("_soft"))
    both = soft.merge(own.rename(columns={n: f"hard{end}" for n, end in told.items()}), on=on)
    return both.assign(gap=both["soft"] - both["hard"])


def selection_scores(
    selection: pd.DataFrame, patients: Mapping[str, str] | None = None, *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return the pooled recall of planted tiles, chance and precision of each run, and the recall's interval.

    Whole patients are resampled; `patients` says whose each slide is: without it, each slide is a patient's own.
    """
    rows = []
    for run, table in selection.groupby(RUN, sort=False):
        whose = table["slide_id"].astype(str).map(lambda slide: (patients or {}).get(slide, slide)).to_numpy(str)
        found, planted = (table[name].to_numpy(float) for name in ("n_kept_planted", "n_planted"))
        rows.append((*run, *rates(table), *clustered_ratio(found, planted, whose, draws=draws, seed=seed)[1:]))
    return pd.DataFrame(rows, columns=[*RUN, "recall", "chance", "precision", "ci_low", "ci_high"])


def tokens(folders: Sequence[Path]) -> pd.DataFrame:
    """Return method, k, seed, tokens of stage-60 folders: k, or without a k the mean number of tiles kept a slide.

    A slide of fewer than k tiles gives a selector fewer tokens than k; `k` is the budget.
    """
    rows = []
    for folder in folders:
        answers = read_folder(folder, "answers.csv", COLUMNS)
        answers = answers[~answers["method"].map(is_control)]
        run = tuple(answers[RUN].iloc[0])
        kept = 0 if run[1] else len(pd.read_csv(folder / "selected.csv", usecols=["slide_id"]))
        rows.append((*run, kept, answers.loc[answers["covered"], "Slide"].nunique()))
    table = pd.DataFrame(rows, columns=[*RUN, "n_kept", "n_slides"]).groupby(RUN, sort=False).sum().reset_index()
    mean = table["n_kept"] / table["n_slides"].clip(lower=1)
    return table[RUN].assign(tokens=np.where(table["k"] > 0, table["k"], mean))


def by_tokens(
    answers: pd.DataFrame, questions: Sequence[Question], tokens: pd.DataFrame, *, draws: int, seed: int
) -> pd.DataFrame:
    """Return accuracy and its interval over patients for each method, k and group: each seed, and `pooled` over all.

    A pooled row's accuracy is over all seeds' answers, its interval over patients and, from five on, over seeds;
    `median` is over seeds.
    """
    shown = answers[~answers["method"].map(is_control)].merge(tokens, on=RUN)
    rows = []
    for (method, k), runs in shown.groupby(["method", "k"], sort=False):
        for group, ids in question_groups(questions).items():
            part = runs[runs["ID"].isin(ids)]
            if part.empty:
                continue
            median = part.groupby("seed")["correct"].mean().median()
            named = "+".join(map(str, sorted(part["seed"].unique())))
            for seeds, pooled, one in [(named, True, part), *((str(s), False, p) for s, p in part.groupby("seed"))]:
                estimate = accuracy_of_runs(one, draws=draws, seed=seed)
                counts = (len(one), one["Slide"].nunique(), median if pooled else np.nan)
                rows.append((method, k, one["tokens"].mean(), group, seeds, pooled, *counts, *estimate))
    counts = ["n_answers", "n_slides", "median", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=["method", "k", "tokens", "group", "seeds", "pooled", *counts])
