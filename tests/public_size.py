"""A stand-in for the public data in its numbers alone: no slide, no feature, words that mean nothing."""

import json
from pathlib import Path

import pandas as pd

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.datasets.questions import COLUMNS

SLIDES, TESTED, CAPTIONS, INSTRUCTIONS, ASKED = 4915, 734, 4152, 174_436, 2202


def write_tables(folder: Path) -> dict[str, Path]:
    """Write a manifest (a tenth of what is not tested validates), captions, instructions and test questions."""
    slides = [f"TCGA-{i % 97:02d}-{i:04d}" for i in range(SLIDES)]
    rest = slides[TESTED:]
    split = ["test"] * TESTED + ["val" if i % 10 == 0 else "train" for i in range(len(rest))]
    manifest = pd.DataFrame("", index=range(SLIDES), columns=list(MANIFEST_COLUMNS))
    paths = [f"features/{slide}.h5" for slide in slides]
    manifest.assign(slide_id=slides, case_id=slides, site="s", feature_path=paths, split=split).to_csv(
        folder / "manifest.csv", index=False
    )
    (folder / "captions.json").write_text(json.dumps([_item(rest[i], i, "word " * 90) for i in range(CAPTIONS)]))
    taught = [
        _item(rest[i % len(rest)], i, "B", "Which of these is seen?\nA. one\nB. two") for i in range(INSTRUCTIONS)
    ]
    (folder / "instructions.json").write_text(json.dumps(taught))
    rows = [
        (f"q{i}", slides[i % TESTED], "", "Microscopy", "Kind", "Which of these is seen?", "one", "two", "", "", "B")
        for i in range(ASKED)
    ]
    columns = ["ID", "Slide", "Tumor", *COLUMNS[2:]]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "questions.csv", index=False)
    suffixes = {"manifest": "csv", "questions": "csv", "captions": "json", "instructions": "json"}
    return {name: folder / f"{name}.{suffix}" for name, suffix in suffixes.items()}


def _item(slide: str, i: int, answer: str, question: str = "Describe the slide.") -> dict:
    said = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": f"i{i}", "image": [f"./X/{slide}.csv"], "conversations": said}
