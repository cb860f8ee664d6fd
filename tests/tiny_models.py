"""A whole model and its cohort, small and untrained, written to a folder."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.datasets.questions import COLUMNS
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed
from slidesieve.models.checkpoints import build_vlm, save_model
from slidesieve.synthetic.language import build_lm, build_tokenizer


def write_model_and_cohort(folder: Path, sizes: Int[np.ndarray, " s"]) -> None:
    """An untrained SparseLearn (d 33, k 8) on a tiny language model, and one yes/no question about each slide."""
    tokenizer = build_tokenizer()
    build_lm(tokenizer, width=24, layers=2, heads=3, seed=0).save_pretrained(folder / "lm")
    tokenizer.save_pretrained(folder / "lm")
    options = {"scorer_heads": 3, "scorer_width": 12}
    model = build_vlm(str(folder / "lm"), "sparselearn", d=33, k=8, seed=1, options=options, projector_width=19)
    save_model(model, folder / "checkpoint" / "model")
    generator, names = np.random.default_rng(0), [f"s{i:02d}" for i in range(len(sizes))]
    bags = [make_bag(name, generator.normal(size=(n, 33)), None, {}) for name, n in zip(names, sizes, strict=True)]
    write_packed(folder / "store.h5", bags)
    manifest = pd.DataFrame("", index=range(len(names)), columns=list(MANIFEST_COLUMNS))
    manifest = manifest.assign(slide_id=names, case_id=names, feature_path="store.h5", split="test")
    manifest.to_csv(folder / "manifest.csv", index=False)
    rows = [
        (f"q{s}", s, "Evidence", "presence", "Is cyst present?", "yes", "no", "", "", "AB"[i % 2])
        for i, s in enumerate(names)
    ]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "questions.csv", index=False)
