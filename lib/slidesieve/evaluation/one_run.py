"""One run's answers looked at closely: beside floors, from another slide, option by option, and how sure it was.

Confidence is the chosen option's share, the softmax of the options' log-likelihoods; a model is calibrated where of the
answers given with confidence p a share p is right (Guo et al. 2017, arXiv 1706.04599, Eq. 3 for the error).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import softmax

from slidesieve.answers.tables import LOGP
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.evaluation.floors import floor_answers
from slidesieve.evaluation.scores import scores
from slidesieve.evaluation.stats import Paired, clustered_accuracy, paired_difference


def beside_floors(
    answers: pd.DataFrame, questions: Sequence[Question], split: pd.Series, *, draws: int, seed: int
) -> pd.DataFrame:
    """`scores` of one run, its controls, and floors without a model; `questions` are all, `split` says which train."""
    told = answers.assign(k=answers["k"].fillna(0).astype(int))
    (fold,) = told["fold"].unique()
    own = told[told["method"] == told["method"].iloc[0]]
    floors = floor_answers(own, questions, split={fold: split})
    return scores(pd.concat([told, floors], ignore_index=True), questions, draws=draws, seed=seed)


def against_another_slide(answers: pd.DataFrame, method: str, *, draws: int, seed: int) -> Paired | None:
    """How a run differs from the same weights shown another patient's slide; None where that was not asked."""
    columns = ["ID", "correct", "case_id"]
    own, other = (answers.loc[answers["method"] == name, columns] for name in (method, f"{method}_wrong_slide"))
    both = own.merge(other[["ID", "correct"]], on="ID", suffixes=("", "_other"))
    if both.empty:
        return None
    right = (both[name].to_numpy(bool) for name in ("correct", "correct_other"))
    return paired_difference(*right, both["case_id"].to_numpy(str), draws=draws, seed=seed)


def shares(answers: pd.DataFrame) -> Float[np.ndarray, "q o"]:
    """Each option's share of a question's probability, 0 for an option that is not offered."""
    logp = answers[[c for c in LOGP if c in answers]].to_numpy(float)
    return softmax(np.where(np.isnan(logp), -np.inf, logp), axis=1)


def options_of(answers: pd.DataFrame, questions: Sequence[Question], *, most: int) -> pd.DataFrame:
    """A row an option of the first question of each kind that was right, and the first that was wrong.

    Columns ID, slide_id, kind, question, letter, option, logp, share, is_key, is_chosen; at most so many questions.
    """
    asked, rows = {question.id: question for question in questions}, []
    first = answers[answers["covered"]].drop_duplicates(["narrow", "correct"]).head(most)
    for row, share in zip(first.to_dict("records"), shares(first), strict=True):
        q = asked[row["ID"]]
        for i, (letter, option) in enumerate(zip(LETTERS, q.options, strict=False)):
            verdicts = (i == q.answer, letter == row["predicted"])
            rows.append((q.id, q.slide_id, q.kind, q.text, letter, option, row[f"logp_{letter}"], share[i], *verdicts))
    columns = ["ID", "slide_id", "kind", "question", "letter", "option", "logp", "share", "is_key", "is_chosen"]
    return pd.DataFrame(rows, columns=columns)


def calibration(answers: pd.DataFrame, *, bins: int, draws: int, seed: int) -> pd.DataFrame:
    """Of answers in bins of equal width by confidence: n, mean confidence, accuracy and its interval over patients."""
    own = answers[answers["covered"]]
    own = own.assign(confidence=shares(own).max(axis=1))
    own["bin"] = np.minimum((own["confidence"] * bins).astype(int), bins - 1)
    rows = []
    for place, part in own.groupby("bin"):
        right, patient = part["correct"].to_numpy(bool), part["case_id"].to_numpy(str)
        estimate = clustered_accuracy(right, patient, draws=draws, seed=seed)
        rows.append((place / bins, (place + 1) / bins, len(part), part["confidence"].mean(), *estimate))
    return pd.DataFrame(rows, columns=["low", "high", "n", "confidence", "accuracy", "ci_low", "ci_high"])


def calibration_error(table: pd.DataFrame) -> float:
    """ECE: the mean gap between accuracy and confidence over bins, weighed by their answers."""
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["n"]))
