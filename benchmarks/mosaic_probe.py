"""What there is to be seen in a folder of 07_make_mosaics, without any language model: which of four kinds is there.

python -m benchmarks.mosaic_probe FOLDER [K ...]

Logistic regression learns the kind of single training tokens, and answers each test question `rare` from the tokens
that a method without training hands it: of each option the mean of its two highest probabilities.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.datasets.questions import Question, read_questions
from slidesieve.evaluation.stats import wilson
from slidesieve.features.store import PackedStore

NAMES, TOKENS, SEED = ("kmeans", "fps", "coverage", "random"), 12_000, 0


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


def main() -> None:
    folder, ks = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [8, 16, 32]
    store, owned = PackedStore(folder / "store.h5"), pd.read_csv(folder / "owners.csv")
    train = owned[owned["slide_id"].str.contains("_train_")]
    x = np.concatenate([store.read(slide).x for slide in train["slide_id"].unique()])
    chosen = np.random.default_rng(SEED).permutation(len(x))[:TOKENS]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    model.fit(x[chosen], train["kind"].to_numpy()[chosen])
    scale = model[0]
    asked = [q for q in read_questions(folder / "questions.csv") if q.kind == "rare" and "_test_" in q.slide_id]
    print(f"{len(asked)} questions; right (95 %)\n| tokens | k | right |\n|---|---|---|")
    for name, k in [("all", 0), ("mean", 0), *((name, k) for name in NAMES for k in ks)]:
        right = 0
        for question in asked:
            tokens = handed_on(name, scale.transform(store.read(question.slide_id).x).astype(np.float32), k)
            right += answered(tokens, question, model[1]) == question.answer
        print("| {} | {} | {:.2f} ({:.2f} to {:.2f}) |".format(name, k or "", *wilson(right, len(asked))), flush=True)


if __name__ == "__main__":
    main()
