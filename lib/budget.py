"""Accuracy against the number of visual tokens that the language model is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.answers import COLUMNS, RUN, is_control, read_folder
from lib.comparison import question_groups
from lib.questions import Question
from lib.stats import clustered_accuracy


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
    """Return accuracy and its slide-clustered interval for each method, k and group: each seed, and `pooled` over all.

    A pooled row's accuracy is over all seeds' answers, a slide resampled with all its seeds; `median` is over seeds.
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
                correct, slide = one["correct"].to_numpy(bool), one["Slide"].to_numpy(str)
                estimate = clustered_accuracy(correct, slide, draws=draws, seed=seed)
                counts = (len(one), one["Slide"].nunique(), median if pooled else np.nan)
                rows.append((method, k, one["tokens"].mean(), group, seeds, pooled, *counts, *estimate))
    counts = ["n_answers", "n_slides", "median", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=["method", "k", "tokens", "group", "seeds", "pooled", *counts])
