"""What there is to be seen in a folder of 07_make_mosaics, without any language model.

python -m benchmarks.mosaic_probe FOLDER [K ...]

Coverage: which of four kinds is there. Logistic regression learns the kind of single training tokens, and answers each
test question `rare` from the tokens that a method without training hands it: of each option the mean of its two highest
probabilities.

Evidence: which subtype a small piece has. A second regression learns it from single training tokens of that kind, and
answers by the mean over tokens, each weighted by its probability of the kind: the area under the curve of each subtype
against the others, their mean. `oracle` keeps the k tokens that are likeliest of the kind asked for: what a selector
can learn to do, and nothing that knows no question can. `piece` is the tokens that the question is about.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.datasets.mosaic_sources import by_token
from slidesieve.datasets.mosaics import SUBTYPE
from slidesieve.datasets.questions import Question, read_questions
from slidesieve.evaluation.auroc import macro_auroc
from slidesieve.evaluation.stats import wilson
from slidesieve.features.store import PackedStore

NAMES, ORACLE, TOKENS, SEED = ("kmeans", "fps", "coverage", "random"), "oracle", 12_000, 0
BAGS = 1200  # of those for training: what a regression learns from is drawn from these


def handed_on(name: str, x: np.ndarray, k: int) -> np.ndarray:
    """The tokens that a method makes of one bag."""
    if name == "all":
        return x
    if name == "mean":
        return x.mean(0, keepdims=True)
    place = torch.arange(len(x))
    coords = torch.stack([place, torch.zeros_like(place)], -1)[None]
    made = COMPRESSORS[name](x.shape[1], k).eval()
    return made(torch.from_numpy(x)[None], coords, torch.ones(1, len(x), dtype=torch.bool)).tokens[0].numpy()


def answered(tokens: np.ndarray, question: Question, model) -> int:
    """The option of which the two likeliest tokens are likeliest."""
    best = np.sort(model.predict_proba(tokens), 0)[-2:].mean(0)
    return int(np.argmax([best[list(model.classes_).index(option)] for option in question.options]))


def learnt(x: np.ndarray, label: np.ndarray):
    """A regression of single tokens, on at most TOKENS of them."""
    chosen = np.random.default_rng(SEED).permutation(len(x))[:TOKENS]
    return LogisticRegression(max_iter=300, C=0.1).fit(x[chosen], label[chosen])


def coverage(asked: list[Question], bags: dict[str, np.ndarray], ks: list[int], kinds) -> None:
    print(f"{len(asked)} questions, which is there; right (95 %)\n| tokens | k | right |\n|---|---|---|")
    for name, k in [("all", 0), ("mean", 0), *((name, k) for name in NAMES for k in ks)]:
        right = sum(answered(handed_on(name, bags[q.slide_id], k), q, kinds) == q.answer for q in asked)
        print("| {} | {} | {:.2f} ({:.2f} to {:.2f}) |".format(name, k or "", *wilson(right, len(asked))), flush=True)


def evidence(kind: str, asked: list[Question], bags, ks: list[int], kinds, subtypes, own: dict[str, list[int]]) -> None:
    names, of_kind = sorted(set(asked[0].options)), list(kinds.classes_).index(kind)
    label = np.array([names.index(q.options[q.answer]) for q in asked])
    print(f"\n{len(asked)} questions, which subtype of {kind}; AUC (95 %)\n| tokens | k | AUC |\n|---|---|---|")
    for name, k in [("piece", 0), ("all", 0), ("mean", 0), *((name, k) for name in (ORACLE, *NAMES) for k in ks)]:
        scores = []
        for question in asked:
            x = bags[question.slide_id]
            if name == "piece":
                tokens = x[own[question.slide_id]]
            elif name == ORACLE:
                tokens = x[np.argsort(-kinds.predict_proba(x)[:, of_kind])[:k]]
            else:
                tokens = handed_on(name, x, k)
            weight = kinds.predict_proba(tokens)[:, of_kind]
            scores.append(weight @ subtypes.predict_proba(tokens) / weight.sum())
        found = macro_auroc(np.array(scores), label, np.arange(len(asked)), draws=1000, seed=SEED)
        print("| {} | {} | {:.2f} ({:.2f} to {:.2f}) |".format(name, k or "", *found), flush=True)


def main() -> None:
    folder, ks = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [8, 16, 32]
    store, owned = PackedStore(folder / "store.h5"), pd.read_csv(folder / "owners.csv", keep_default_na=False)
    learnt_from = owned.loc[owned["slide_id"].str.contains("_train_"), "slide_id"].unique()[:BAGS]
    train = by_token(owned[owned["slide_id"].isin(learnt_from)])
    x = np.concatenate([store.read(slide).x for slide in train["slide_id"].unique()])
    scale = StandardScaler().fit(x)
    x = scale.transform(x)
    kinds, questions = learnt(x, train["kind"].to_numpy()), read_questions(folder / "questions.csv")
    asked = [q for q in questions if "_test_" in q.slide_id]
    bags = {s: scale.transform(store.read(s).x).astype(np.float32) for s in {q.slide_id for q in asked}}
    coverage([q for q in asked if q.kind == "rare"], bags, ks, kinds)
    for kind in sorted({q.kind.partition(" ")[2] for q in asked if q.kind.startswith("subtype ")}):
        own = ((train["kind"] == kind) & (train["subtype"] != "")).to_numpy()
        subtypes = learnt(x[own], train["subtype"].to_numpy()[own])
        piece = by_token(owned[(owned["kind"] == kind) & (owned["role"] == SUBTYPE)])
        piece = piece.groupby("slide_id")["index"].apply(list)
        evidence(kind, [q for q in asked if q.kind == f"subtype {kind}"], bags, ks, kinds, subtypes, dict(piece))


if __name__ == "__main__":
    main()
