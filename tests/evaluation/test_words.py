"""Answers in words beside references: the libraries' own numbers, by patient; n-grams counted by hand."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from slidesieve.evaluation.words import COUNTS, bleu, mean_scores, open_scores, scores_by_run, word_scores

REFERENCE = [
    "The tumor is graded as G2, indicating moderate differentiation.",
    "Keratin pearls are present in the center of the nests.",
    "No necrosis is seen.",
    "The cells are arranged in glands.",
    "Grade 3.",
]
SAID = [
    "The tumor is graded as G3, indicating poor differentiation.",
    "Keratin pearls are seen in nests and in the center of the nests.",
    "No necrosis is seen.",
    "",
    "It is of grade 3, with necrosis.",
]


def ngrams(words: list[str], n: int) -> Counter:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def test_counts_are_those_of_n_grams():
    plain = word_scores(["the cat the cat sat"], ["the cat sat on the mat"]).iloc[0]
    said, reference = ["the", "cat", "the", "cat", "sat"], ["the", "cat", "sat", "on", "the", "mat"]
    for n in (1, 2, 3, 4):
        own, right = ngrams(said, n), ngrams(reference, n)
        assert plain[f"right_{n}"] == sum((own & right).values()) and plain[f"all_{n}"] == sum(own.values())
    assert (plain["length"], plain["reference_length"]) == (5, 6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_summed_counts_is_sacrebleus_of_the_corpus(order):
    counts = word_scores(SAID, REFERENCE)[COUNTS].to_numpy(float).sum(0)
    expected = BLEU(lowercase=True, max_ngram_order=order).corpus_score(SAID, [REFERENCE]).score / 100
    assert bleu(counts, order) == pytest.approx(expected, abs=1e-12) and 0.1 < expected < 0.9


def test_rouge_and_meteor_of_single_answers():
    table = word_scores(SAID, REFERENCE)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [scorer.score(r, s)["rougeL"].fmeasure for s, r in zip(SAID, REFERENCE, strict=True)]
    assert table["rouge_l"].tolist() == expected
    assert table["rouge_l"][2] == 1 and table["rouge_l"][3] == table["meteor"][3] == 0
    # five words matched in one chunk: F = 1, penalty 0.5 (1 / 5) ** 3
    assert table["meteor"][2] == pytest.approx(1 - 0.5 * (1 / 5) ** 3)
    stems = word_scores(["gland"], ["glands"])["meteor"][0]
    assert stems == pytest.approx(0.5) and word_scores(["acinus"], ["glands"])["meteor"][0] == 0


def test_groups_coverage_and_intervals_by_patient():
    n = 40
    table = pd.DataFrame(
        {
            "said": [SAID[i % 5] for i in range(n)],
            "reference": [REFERENCE[i % 5] for i in range(n)],
            "case_id": [f"p{i // 4}" for i in range(n)],
            "broad": "WSI-Bench",
            "narrow": ["Grading" if i < 24 else "Report" for i in range(n)],
            "covered": [i % 5 != 3 for i in range(n)],
        }
    )
    scores = open_scores(table, draws=300, seed=0).set_index("group")
    assert list(scores.index) == ["all", "wsi-bench", "grading", "report"]
    assert scores.loc["grading", ["n", "patients"]].tolist() == [24, 6] and scores.loc["all", "coverage"] == 0.8
    every = word_scores(table["said"], table["reference"])
    assert scores.loc["all", "rouge_l"] == pytest.approx(every["rouge_l"].mean())
    drawn = []
    generator = np.random.default_rng(0)
    for times in generator.multinomial(10, np.full(10, 0.1), size=300):
        rows = np.repeat(np.arange(n), np.repeat(times, 4))
        drawn.append(every["meteor"][rows].mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert scores.loc["all", ["meteor_low", "meteor_high"]].tolist() == pytest.approx([low, high])
    for name in ("bleu_1", "bleu_4", "rouge_l", "meteor"):
        assert scores.loc["all", f"{name}_low"] < scores.loc["all", name] < scores.loc["all", f"{name}_high"]
    single = open_scores(table[:4], draws=50, seed=0).iloc[0]
    assert np.isnan(single["bleu_1_low"]) and single["patients"] == 1


def test_runs_and_their_means_over_seeds():
    row = {"said": "No necrosis.", "reference": "No necrosis is seen.", "broad": "b", "narrow": "n", "covered": True}
    rows = [row | {"case_id": f"p{i}", "method": m, "k": 8, "seed": s} for i in range(3) for m in "ab" for s in (0, 1)]
    table = scores_by_run(pd.DataFrame(rows), draws=9, seed=0)
    assert list(table.columns[:4]) == ["method", "k", "seed", "group"] and len(table) == 4 * 3
    means = mean_scores(table)
    assert list(means.index)[:2] == [("all", "a", 8), ("b", "a", 8)] and (means["n"] == 3).all()
    assert means["rouge_l"].to_numpy() == pytest.approx(np.full(6, 2 / 3))
    none = scores_by_run(pd.DataFrame(columns=["method", "k", "seed"]), draws=9, seed=0)
    assert len(none) == 0 and len(mean_scores(none)) == 0


def test_two_categories_of_one_name_are_one_group():
    names = ["Diagnosis", "diagnosis", "Stage", "Diagnosis", "Stage"]
    narrow = ["Grade", "Grade", "diagnosis", "Type", "Stage"]
    table = pd.DataFrame({"said": SAID, "reference": REFERENCE, "case_id": list("abcde"), "covered": True})
    scores = open_scores(table.assign(broad=names, narrow=narrow), draws=0, seed=0).set_index("group")
    assert scores["n"].to_dict() == {"all": 5, "diagnosis": 4, "stage": 2, "grade": 2, "type": 1}
