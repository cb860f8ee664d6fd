"""How near an answer's words are to a reference's: BLEU-1 to 4, ROUGE-L, METEOR, by the libraries that define them.

BLEU is sacrebleu's, over all answers of a group together (13a tokens, lower case, its own smoothing); ROUGE-L the mean
F1 of rouge-score, stemmed; METEOR the mean of nltk's with exact and stem matches alone: its synonyms need WordNet,
which is not shipped, so that it is lower than where they count. An answer that is absent has no words, and scores 0.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float

from slidesieve.evaluation.stats import Estimate, interval_of, resampled_weights

ORDERS = (1, 2, 3, 4)
COUNTS = [f"{what}_{n}" for what in ("right", "all") for n in ORDERS] + ["length", "reference_length"]
MEANS = ("rouge_l", "meteor")


def word_scores(said: Sequence[str], reference: Sequence[str]) -> pd.DataFrame:
    """One row an answer: COUNTS of BLEU (n-grams that are the reference's, all, and lengths), `rouge_l`, `meteor`."""
    return pd.DataFrame([_row(*pair) for pair in zip(said, reference, strict=True)], columns=[*COUNTS, *MEANS])


def bleu(counts: Float[np.ndarray, " c"], order: int) -> float:
    """BLEU of `order`, 0 to 1, of the summed COUNTS of some answers."""
    from sacrebleu.metrics import BLEU

    right, total = counts[:order], counts[len(ORDERS) : len(ORDERS) + order]
    lengths = {"sys_len": int(counts[-2]), "ref_len": int(counts[-1])}
    ints = (list(map(int, part)) for part in (right, total))
    return BLEU.compute_bleu(*ints, **lengths, max_ngram_order=order).score / 100


def open_scores(table: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """Score answers by group: `all`, each broad and each narrow category; intervals resample whole patients.

    `table` has said, reference, case_id, broad, narrow, covered. Columns: group, n, patients, coverage, and of each
    measure (bleu_1 ... bleu_4, rouge_l, meteor) its value, `_low` and `_high`.
    """
    table = table.reset_index(drop=True)
    scored = pd.concat([table, word_scores(table["said"].fillna(""), table["reference"])], axis=1)
    groups = {"all": scored.index}
    for column in ("broad", "narrow"):  # two categories of one name are one group, as in `questions.groups`
        for name, rows in scored.groupby(column, sort=False).groups.items():
            groups[name.lower()] = groups.get(name.lower(), rows[:0]).union(rows, sort=False)
    return pd.DataFrame([{"group": name, **_scores(scored.loc[rows], draws, seed)} for name, rows in groups.items()])


def scores_by_run(answers: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """The scores of each method, k and seed (`open_scores`), in columns method, k, seed before the rest."""
    runs = answers.groupby(["method", "k", "seed"], sort=False)
    names = ("method", "k", "seed")
    rows = [open_scores(own, draws=draws, seed=seed).assign(**dict(zip(names, run, strict=True))) for run, own in runs]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*names, "group", "rouge_l"])
    return table[[*names, *(name for name in table if name not in names)]]


def mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The means over seeds of `scores_by_run`, by group, method and k; no rows if there are none."""
    shown = ["n", "coverage", *(f"bleu_{n}" for n in ORDERS), *MEANS]
    by_method = scores.reindex(columns=["group", "method", "k", *shown]).groupby(["group", "method", "k"], sort=False)
    return by_method[shown].mean()


def _scores(own: pd.DataFrame, draws: int, seed: int) -> dict[str, float]:
    by_patient = own.groupby("case_id", sort=False)
    sums, n = by_patient[[*COUNTS, *MEANS]].sum().to_numpy(float), by_patient.size().to_numpy(float)
    several = resampled_weights(len(n), draws=draws, seed=seed) if len(n) > 1 else ()
    drawn = [(one, count) for times in several for one, count in zip(times @ sums, times @ n, strict=True)]
    row = {"n": len(own), "patients": len(n), "coverage": own["covered"].mean()}
    for name, of in _measures().items():
        value = of(sums.sum(0), n.sum())
        values = np.array([of(*one) for one in drawn])
        found = interval_of(value, values) if len(values) else Estimate(value, np.nan, np.nan)
        row |= {name: value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def _measures() -> dict:
    """Each measure as a function of summed columns and of the number of answers."""
    of_bleu = {f"bleu_{n}": (lambda sums, count, n=n: bleu(sums[: len(COUNTS)], n)) for n in ORDERS}
    of_mean = {m: (lambda sums, count, i=i: sums[len(COUNTS) + i] / count) for i, m in enumerate(MEANS)}
    return of_bleu | of_mean


def _row(said: str, reference: str) -> list[float]:
    metric, rouge, meteor = _metrics()
    found = metric.sentence_score(said, [reference])
    counts = [*found.counts, *found.totals, found.sys_len, found.ref_len]
    return [*counts, rouge(said, reference), meteor(said, reference)]


@cache
def _metrics():
    """Made once: BLEU's counter, ROUGE-L, METEOR."""
    from nltk.stem import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    words, stemmer, rouge = Tokenizer13a(), PorterStemmer(), RougeScorer(["rougeL"], use_stemmer=True)

    def rouge_l(said: str, reference: str) -> float:
        return rouge.score(reference, said)["rougeL"].fmeasure

    def meteor(said: str, reference: str) -> float:
        own, right = (words(text.lower()).split() for text in (said, reference))
        return single_meteor_score(right, own, stemmer=stemmer, wordnet=_NoSynonyms) if own and right else 0.0

    return BLEU(lowercase=True, effective_order=True), rouge_l, meteor


class _NoSynonyms:
    """WordNet without words."""

    @staticmethod
    def synsets(word: str) -> list:
        return []
