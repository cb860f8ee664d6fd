"""A manifest for files that bring none: SlideInstruct's and SlideBench's slides, and a folder tree of feature files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slidesieve.cohort.ids import tcga_case
from slidesieve.cohort.manifest import COLUMNS, Manifest, path_of
from slidesieve.datasets.questions import AboutSlide
from slidesieve.features.readers import SUFFIXES

LEFT_OUT = "left out"


def slides_in(folder: Path) -> list[str]:
    """List the slides that have a feature file below a folder, by the file's name up to its first dot."""
    return sorted({p.stem.split(".")[0] for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES})


def feature_files(folder: Path, slide_ids: Sequence[str]) -> dict[str, Path]:
    """Find each slide's feature file below a folder: named like the slide, or with more after a dot (a UUID).

    Slides without a file are left out. Raises ValueError if a slide has several.
    """
    named: dict[str, list[Path]] = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES):
        for name in {path.stem, path.stem.split(".")[0]}:
            named.setdefault(name, []).append(path)
    several = [slide for slide in dict.fromkeys(slide_ids) if len(named.get(slide, [])) > 1]
    if several:
        files = ", ".join(str(path.relative_to(folder)) for path in named[several[0]])
        raise ValueError(
            f"{folder}: {len(several)} slides have several feature files ({several[0]}: {files}); expected one each; "
            "give the folder of one encoder"
        )
    return {slide: named[slide][0] for slide in dict.fromkeys(slide_ids) if slide in named}


def manifest_table(
    train: Sequence[str], test: Sequence[str], *, features: Path, root: Path, val_share: float, seed: int, source: str
) -> pd.DataFrame:
    """Return manifest rows of slides to train and to test on, feature_path relative to DATA_ROOT or else to `root`.

    The case is the patient of a TCGA barcode, the site its tissue source site; other slides are their own case. Slides
    to train on whose case is tested are in no split; of the other cases a share `val_share` is for validation. A slide
    without a feature file gets a path that does not exist, so that audits list it and answers count it as wrong.
    """
    slides = sorted({*train, *test})
    files = feature_files(features, slides)
    if not files:
        raise ValueError(
            f"{features}: none of {len(slides)} slides ({slides[:1]}) has a file; expected names like the slides', "
            f"ending in {', '.join(SUFFIXES)}"
        )
    case = {slide: tcga_case(slide) or slide for slide in slides}
    split = _splits(case, set(test), val_share=val_share, seed=seed)
    base = Path(os.environ.get("DATA_ROOT") or root).resolve()
    paths = {slide: files.get(slide, Path(features) / f"{slide}.csv").resolve() for slide in slides}
    rows = {
        "slide_id": slides,
        "case_id": [case[slide] for slide in slides],
        "site": [slide[5:7] if tcga_case(slide) else "" for slide in slides],
        "feature_path": [os.path.relpath(paths[slide], base) for slide in slides],
        "split": [split[slide] for slide in slides],
        "source": source,
    }
    return pd.DataFrame(dict.fromkeys(COLUMNS, "") | rows, columns=list(COLUMNS))


def overlap(train: Sequence[str], test: Sequence[str]) -> str:
    """Say how many slides to train on, before the split, are of patients who are tested."""
    case = {slide: tcga_case(slide) or slide for slide in {*train, *test}}
    tested = {case[slide] for slide in test}
    shared = [slide for slide in set(train) if case[slide] in tested]
    return (
        f"{len(shared)} of {len(set(train))} slides to train on are of {len({case[s] for s in shared})} of the "
        f"{len(tested)} tested cases; {len(set(shared) & set(test))} of them are tested themselves, none is trained on"
    )


def counts(manifest: Manifest, items: Mapping[str, Sequence[AboutSlide]]) -> pd.DataFrame:
    """Return slides, cases, slides with a feature file and each kind of items about them, one row a split.

    The last row, `left out`, is of slides in no split.
    """
    rows = manifest.table.assign(split=manifest.table["split"].replace("", LEFT_OUT))
    rows["found"] = [path_of(manifest, slide, "feature_path").exists() for slide in rows["slide_id"]]
    parts = rows.groupby("split")
    columns = {"slides": ("slide_id", "size"), "cases": ("case_id", "nunique"), "with features": ("found", "sum")}
    table, split = parts.agg(**columns), rows.set_index("slide_id")["split"]
    for name, asked in items.items():
        table[name] = split[[item.slide_id for item in asked]].value_counts()
    return table.reindex(["train", "val", "test", LEFT_OUT]).fillna(0).astype(int)


def _splits(case: dict[str, str], test: set[str], *, val_share: float, seed: int) -> dict[str, str]:
    tested = {case[slide] for slide in test}
    rest = sorted(set(case.values()) - tested)
    n_val = max(round(val_share * len(rest)), 1) if rest and val_share else 0
    val = {rest[i] for i in np.random.default_rng(seed).permutation(len(rest))[:n_val]}
    return {
        slide: "test" if slide in test else "" if c in tested else "val" if c in val else "train"
        for slide, c in case.items()
    }
