"""A question asked of many slides with the same options, read as classification: AUROC beside a mean-pool baseline."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from slidesieve.answers.tables import LOGP, RUN
from slidesieve.datasets.questions import Question
from slidesieve.evaluation.stats import Estimate, interval_of, resampled_weights
from slidesieve.features.bag import Bag

BASELINE = "mean_pool_lr"
INVERSE_PENALTY = 0.01
COLUMNS = [*RUN, "fold", "group", "n_slides", "auc", "ci_low", "ci_high"]


def mean_pool_model() -> Pipeline:
    """Standardised logistic regression (C = 0.01), to be fitted on each slide's mean tile feature."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=2000))


def common_options(questions: Sequence[Question]) -> tuple[str, ...]:
    """Return the sorted options if all questions share one text and one option set, else an empty tuple."""
    asked = {(question.text, tuple(sorted(question.options))) for question in questions}
    return asked.pop()[1] if len(asked) == 1 else ()


def asked_alike(questions: Sequence[Question], answers: pd.DataFrame) -> dict[str, list[Question]]:
    """Return, by kind, the questions that share one text and one option set.

    A kind with an option that is nowhere right among some fold's answers is left out.
    """
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(question.kind, []).append(question)
    alike = {kind: own for kind, own in kinds.items() if common_options(own)}
    return {kind: own for kind, own in alike.items() if _complete(own, answers)}


def option_probability(answers: pd.DataFrame, questions: Sequence[Question]) -> Float[np.ndarray, "q c"]:
    """Return each answer's softmax over its options' log-likelihoods, columns in the order of `common_options`."""
    table, options = {question.id: question for question in questions}, common_options(questions)
    columns = [[table[i].options.index(option) for option in options] for i in answers["ID"]]
    scores = answers[[name for name in LOGP if name in answers]].to_numpy(float)
    logp = np.take_along_axis(scores, np.array(columns), axis=1)
    likelihood = np.exp(logp - logp.max(axis=1, keepdims=True))
    return likelihood / likelihood.sum(axis=1, keepdims=True)


def auc_scores(answers: pd.DataFrame, questions: Sequence[Question], *, draws: int, seed: int) -> pd.DataFrame:
    """Return the AUROC of each run, fold and question asked alike; a slide without an answer counts as undecided."""
    rows = []
    for group, asked in asked_alike(questions, answers).items():
        shown = answers[answers["method"].isin(scored(answers)) & answers["ID"].isin([q.id for q in asked])]
        for run, part in shown.groupby([*RUN, "fold"], sort=False):
            probability, label, patient = classified(part, asked)
            rows.append((*run, group, len(part), *macro_auroc(probability, label, patient, draws=draws, seed=seed)))
    return pd.DataFrame(rows, columns=COLUMNS)


def mean_pool_baseline(
    answers: pd.DataFrame,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    split: dict[int, pd.Series],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return the AUROC of standardised logistic regression (C = 0.01) on mean tile features, on the same folds.

    A class of which no slide is trained on has probability 0; a fold that trains on one class alone has no row.
    """
    pooled = {slide_id: bag.x.mean(axis=0) for slide_id, bag in bags.items() if len(bag.x)}
    rows = []
    for group, asked in asked_alike(questions, answers).items():
        own = answers[answers["ID"].isin([q.id for q in asked])]
        how = {"split": split, "draws": draws, "seed": seed}
        rows += [(BASELINE, 0, seed, fold, group, *score) for fold, *score in _pooled_scores(own, asked, pooled, **how)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _pooled_scores(
    answers: pd.DataFrame,
    questions: Sequence[Question],
    pooled: Mapping[str, Float[np.ndarray, " d"]],
    *,
    split: dict[int, pd.Series],
    draws: int,
    seed: int,
) -> Iterator[tuple]:
    """Yield fold, slides, AUROC and its interval of one question."""
    options = common_options(questions)
    label = {q.slide_id: options.index(q.options[q.answer]) for q in questions}
    for fold, part in answers.drop_duplicates(["fold", "ID"]).groupby("fold"):
        train = [s for s in label if split[fold].get(s) == "train" and s in pooled]
        held = part[part["Slide"].isin(list(pooled))]
        test = held["Slide"].tolist()
        if not train:
            raise ValueError(f"fold {fold}: no training slide with features; expected a train split with bags")
        if len({label[s] for s in train}) < 2:
            continue
        model = mean_pool_model()
        model.fit(np.stack([pooled[s] for s in train]), [label[s] for s in train])
        probability = np.zeros((len(test), len(options)))
        probability[:, model.classes_] = model.predict_proba(np.stack([pooled[s] for s in test]))
        truth = np.array([label[s] for s in test])
        estimate = macro_auroc(probability, truth, held["case_id"].to_numpy(str), draws=draws, seed=seed)
        yield fold, len(test), *estimate


def auroc(
    score: Float[np.ndarray, " s"], positive: Bool[np.ndarray, " s"], weight: Float[np.ndarray, "r s"]
) -> Float[np.ndarray, " r"]:
    """Return the area under the ROC curve for each row of slide weights; ties count half; nan without both classes."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    tied = np.add.reduceat(np.stack([weight * positive, weight * ~positive])[:, :, order], starts, axis=-1)
    negatives_below = np.cumsum(tied[1], axis=-1) - tied[1] / 2
    pairs = tied.sum(axis=-1).prod(axis=0)
    won = (tied[0] * negatives_below).sum(axis=-1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def one_vs_rest(
    probability: Float[np.ndarray, "s c"], label: Int[np.ndarray, " s"], weight: Float[np.ndarray, "r s"]
) -> Float[np.ndarray, " r"]:
    """Return AUROC averaged over classes for each row of weights, of two classes the usual one; nan without a class."""
    classes = range(1, 2) if probability.shape[1] == 2 else range(probability.shape[1])
    return np.mean([auroc(probability[:, c], label == c, weight) for c in classes], axis=0)


def macro_auroc(
    probability: Float[np.ndarray, "s c"],
    label: Int[np.ndarray, " s"],
    patient: Shaped[np.ndarray, " s"],
    *,
    draws: int,
    seed: int,
) -> Estimate:
    """Return the one-vs-rest AUROC averaged over classes (of two the usual); its interval resamples patients.

    Raises ValueError where a class has no slide: the average would silently be over fewer classes.
    """
    absent = set(range(probability.shape[1])) - set(label.tolist())
    if absent:
        raise ValueError(f"AUROC: no slide of class {sorted(absent)}; expected every class; join folds or drop it")

    value = one_vs_rest(probability, label, np.ones((1, len(label))))[0]
    patients, of = np.unique(patient, return_inverse=True)
    resampled = [
        one_vs_rest(probability, label, weight[:, of])
        for weight in resampled_weights(len(patients), draws=draws, seed=seed)
    ]
    return interval_of(float(value), np.concatenate(resampled))


def scored(answers: pd.DataFrame) -> list[str]:
    """The methods that a model answered for: those with a log-likelihood anywhere."""
    return list(answers.loc[answers[LOGP[0]].notna(), "method"].unique())


def classified(
    answers: pd.DataFrame, questions: Sequence[Question]
) -> tuple[Float[np.ndarray, "q c"], Int[np.ndarray, " q"], Shaped[np.ndarray, " q"]]:
    """Return probabilities (equal where there is no answer), labels and patients of answers to one question."""
    probability = np.nan_to_num(option_probability(answers, questions), nan=1 / len(common_options(questions)))
    return probability, _labels(answers, questions), answers["case_id"].to_numpy(str)


def _complete(questions: Sequence[Question], answers: pd.DataFrame) -> bool:
    """Say whether every option is the right one of some answered question in each fold."""
    own = answers[answers["ID"].isin([q.id for q in questions])]
    n = len(common_options(questions))
    return len(own) > 0 and all(len(set(_labels(part, questions))) == n for _, part in own.groupby("fold"))


def _labels(answers: pd.DataFrame, questions: Sequence[Question]) -> Int[np.ndarray, " q"]:
    table, options = {question.id: question for question in questions}, common_options(questions)
    return np.array([options.index(table[i].options[table[i].answer]) for i in answers["ID"]])
