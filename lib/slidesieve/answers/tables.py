"""Answers of many runs, read from their stage-60 folders and checked to be answers to the same questions.

An answers table has one row for each method, k, seed, fold and question; methods without a k have k = 0. A fold's test
questions are answered by that fold's model.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from slidesieve.answers.controls import CONTROLS
from slidesieve.cohort.ids import common
from slidesieve.compressors.registry import WITHOUT_K
from slidesieve.datasets.questions import FOUR, LETTERS, Question
from slidesieve.provenance.files import RECEIPT, hash_file, read_receipt

RUN = ["method", "k", "seed"]
LOGP = [f"logp_{letter}" for letter in LETTERS]
COLUMNS = [*RUN, "fold", "ID", "Slide", "case_id", "broad", "narrow", "answer", "predicted", "correct", "covered"]
COLUMNS += ["per_token", "letters", *LOGP[: len(FOUR)]]
SELECTION_COLUMNS = [*RUN, "fold", "slide_id", "n_tiles", "n_planted", "n_kept", "n_kept_planted"]
COST_COLUMNS = [*RUN, "fold", "n_tiles", "visual_tokens", "text_tokens", "tflops", "tflops_attention"]
OPEN = "open_answers.csv"
PROMPT = "prompt.txt"  # `answering.asked_as`
OPEN_COLUMNS = [*RUN, "fold", "ID", "Slide", "case_id", "broad", "narrow", "reference", "said", "ended", "covered"]
HAS_NO_K = rf"({'|'.join(WITHOUT_K)})(:.*)?({'|'.join(CONTROLS)})?"


def read_answers(folders: Sequence[Path], *, questions_path: Path, questions: Sequence[Question]) -> pd.DataFrame:
    """Join the answers.csv of stage-60 folders; raise ValueError where they are not answers to the same questions.

    Refused are: a folder whose receipt names another question file, a row whose slide or key differs from the table's,
    a question answered twice by one method, and methods that were not asked the same questions.
    """
    tables = [read_folder(folder, "answers.csv", COLUMNS) for folder in folders]
    for folder in folders:
        _check_question_file(folder, questions_path)
    answers = pd.concat(tables, ignore_index=True)
    _check_keys(answers, questions)
    _check_same_questions(answers, "fold")
    return answers


def read_selection(folders: Sequence[Path]) -> pd.DataFrame:
    """Join the selection_slides.csv of stage-60 folders; no rows where nothing was selected or no truth is known."""
    tables = [read_folder(folder, "selection_slides.csv", SELECTION_COLUMNS) for folder in folders]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=SELECTION_COLUMNS)


def read_costs(folders: Sequence[Path]) -> pd.DataFrame:
    """Join the costs.csv of stage-60 folders: one row a run and fold, means over its answers (`cost.answer_costs`)."""
    return pd.concat([read_folder(folder, "costs.csv", COST_COLUMNS) for folder in folders], ignore_index=True)


def read_open_answers(folders: Sequence[Path]) -> pd.DataFrame:
    """Join the open_answers.csv of stage-60 folders; no rows if no run was asked any.

    Raises ValueError where runs were not asked the same questions, or have other references.
    """
    asked = [folder for folder in folders if (folder / OPEN).exists()]
    tables = [table for folder in asked if len(table := read_folder(folder, OPEN, OPEN_COLUMNS))]
    if not tables:
        return pd.DataFrame(columns=OPEN_COLUMNS)
    answers = pd.concat(tables, ignore_index=True)
    _check_same_questions(answers, "reference")
    return answers


def read_folder(folder: Path, name: str, columns: list[str]) -> pd.DataFrame:
    """Read one table of a stage-60 folder with k = 0 where there is none; raise ValueError if it lacks a column."""
    path = folder / name
    if not path.exists():
        raise ValueError(f"{path}: not found; expected the output of 60_answer_questions; run it first")
    words = dict.fromkeys(
        [
            "ID",
            "Slide",
            "case_id",
            "slide_id",
            "broad",
            "narrow",
            "answer",
            "predicted",
            "per_token",
            "letters",
            "reference",
            "said",
        ],
        str,
    )
    empty = {column: ["", "nan"] for column in ("k", *LOGP)}
    table = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=empty)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; expected stage 60's; run 60_answer_questions again")
    k = table["k"].fillna(0).astype(int)
    more = [name for name in LOGP if name in table and name not in columns]
    return table[[*columns, *more]].assign(k=k.where(~table["method"].str.fullmatch(HAS_NO_K), 0))


def _check_question_file(folder: Path, questions_path: Path) -> None:
    receipt = folder / RECEIPT
    if not receipt.exists():
        raise ValueError(f"{folder}: no {RECEIPT}; expected a finished 60_answer_questions; run it to its end")
    answered = read_receipt(folder)["recipe"]["inputs"].get("questions", {}).get("")
    asked = hash_file(questions_path)[:16]
    if answered != asked:
        raise ValueError(
            f"{folder}: answers question file {answered}, expected {asked} ({questions_path}); "
            "answer this table with 60_answer_questions before comparing"
        )


def _check_keys(answers: pd.DataFrame, questions: Sequence[Question]) -> None:
    named = common({q.slide_id for q in questions}, answers["Slide"])  # answers bear the manifest's ids
    key = {q.id: (named.get(q.slide_id), LETTERS[q.answer]) for q in questions}
    rows = zip(answers["ID"], answers["Slide"], answers["answer"], strict=True)
    wrong = sorted({i for i, slide, letter in rows if key.get(i) != (slide, letter)})
    if wrong:
        raise ValueError(f"answers: {len(wrong)} IDs have another slide or key than the table ({wrong[0]}, ...)")
    twice = answers.duplicated([*RUN, "ID"])
    if twice.any():
        named = answers.loc[twice, [*RUN, "ID"]].iloc[0].tolist()
        raise ValueError(f"answers: {named} is answered {twice.sum() + 1} times or more; give each run once")
    claimed = answers["correct"].astype(bool)
    if (claimed != ((answers["predicted"] == answers["answer"]) & answers["covered"])).any():
        raise ValueError("answers: column correct disagrees with predicted and answer; run 60_answer_questions again")


def _check_same_questions(answers: pd.DataFrame, beside: str) -> None:
    """Raise ValueError where runs were not asked the same IDs, with the same value `beside` each."""
    asked = {run: frozenset(zip(t[beside], t["ID"], strict=True)) for run, t in answers.groupby(RUN, sort=False)}
    (first, expected), *others = asked.items()
    for run, got in others:
        if got != expected:
            raise ValueError(
                f"answers: {run} was asked {len(got)} questions, {first} {len(expected)}, "
                f"{len(got ^ expected)} of them not the other's; answer the same table and folds"
            )
