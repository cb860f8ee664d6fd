"""A question asked once for each place that its options can take, so that a liking for a letter falls on all alike."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from slidesieve.datasets.questions import LETTERS, Question


def rotations_of(question: Question, most: int) -> list[Question]:
    """The question with its options moved on by 0, 1, ... places, once each at most; option i stands at (i - r) % n."""
    n = len(question.options)
    return [
        question._replace(options=question.options[r:] + question.options[:r], answer=(question.answer - r) % n)
        for r in range(min(max(most, 1), n))
    ]


def mean_over_rotations(scores: Sequence[Sequence[float]]) -> list[float]:
    """Average each option's scores over the rotations; row r is in the order of rotation r."""
    return np.mean([np.roll(row, r) for r, row in enumerate(scores)], axis=0).tolist()


def letter_bias(answers: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """Return method, letter, how often it was chosen and how often it was right, over questions and rotations.

    `answers` has the column `letters`, chosen at each rotation. Without a bias both shares are close; where all
    rotations are asked, every letter of a question is right equally often.
    """
    table, rows = {question.id: question for question in questions}, []
    for method, part in answers.groupby("method", sort=False):
        said = [
            (table[i], letters) for i, letters in zip(part["ID"], part["letters"].fillna(""), strict=True) if letters
        ]
        chosen = [letter for _, letters in said for letter in letters]
        right = [LETTERS[view.answer] for q, letters in said for view in rotations_of(q, len(letters))]
        rows += [
            (method, letter, chosen.count(letter) / len(chosen), right.count(letter) / len(right))
            for letter in LETTERS
            if chosen and letter in {*chosen, *right}
        ]
    return pd.DataFrame(rows, columns=["method", "letter", "chosen", "right"])
