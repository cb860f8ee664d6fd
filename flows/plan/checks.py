"""An experiment as asked for, and its tables, read whole before anything is planned on them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flows.plan.notebooks import NOTEBOOKS
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import read_parameters

TABLES = ("manifest", "questions", "captions", "instructions", "open_questions", "truth")


class Options(NamedTuple):
    """An experiment as asked for. Paths: relative to the repository's root, or absolute; `settings`: `-p` words."""

    manifest: str
    questions: str
    out: str
    captions: str = ""
    instructions: str = ""
    open_questions: str = ""
    truth: str = ""
    compressors: tuple[str, ...] = ("sparselearn",)
    k: tuple[int, ...] = (8,)
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = (-1,)
    encoder: str = ""
    llm: str = ""
    floors: bool = True
    alignment: bool = True
    workers: int = 1
    threads: int = 1
    device: str = ""
    shards: int = 1
    settings: tuple[str, ...] = ()


def check_options(options: Options) -> bool:
    """Read every table, raising on a fault; return whether a slide lacks features.

    Raises FileNotFoundError for a table that is not there, before any is read.
    """
    from slidesieve.cohort import manifest as manifests
    from slidesieve.cohort import splits
    from slidesieve.datasets import examples
    from slidesieve.datasets import questions as tables
    from slidesieve.datasets.open_questions import read_open_questions

    for name in TABLES:
        given = getattr(options, name)
        if given and not (ROOT / given).is_file():
            raise FileNotFoundError(
                f"{name}: {given} not found under {ROOT}; correct the path (slidesieve init writes these tables)"
            )
    manifest, least = manifests.read_manifest(ROOT / options.manifest), _min_coverage(options)
    if options.shards > len(manifest.table):
        raise ValueError(f"shards: got {options.shards} for {len(manifest.table)} slides, expected at most as many")
    asked = tables.read_questions(ROOT / options.questions)
    asked = tables.in_cohort(asked, manifest, what=Path(options.questions).name, least=least)
    for fold in options.folds:
        split = splits.split_of(manifest, fold)
        tested = {q.slide_id for q in asked if split.get(q.slide_id) == "test"}
        _check_controls(options, fold, tested, manifest.cases)
    for path in filter(None, (options.captions, options.instructions)):
        taught = examples.read_examples(ROOT / path, answer_form="text", slide_prompt="", region_prompt="")
        tables.in_cohort(taught, manifest, what=Path(path).name, least=least)
    if options.open_questions:
        opened = read_open_questions(ROOT / options.open_questions)
        tables.in_cohort(opened, manifest, what=Path(options.open_questions).name, least=least)
    return bool((manifest.table["feature_path"] == "").any())


def _min_coverage(options: Options) -> float:
    """What is asked of 50, and so of the tables before any stage runs."""
    declared = NOTEBOOKS / "50_tune_answers.ipynb"
    given = [word.partition("=")[2] for word in options.settings if re.match(r"(50\S*\.)?min_coverage=", word)]
    return float(given[-1]) if given else float(read_parameters(declared)["min_coverage"].default)


def _check_controls(options: Options, fold: int, tested: set[str], cases: Mapping[str, str]) -> None:
    """Raise ValueError if a fold's test slides have no other patient's to be mistaken for."""
    from slidesieve.answers.controls import wrong_slides

    if not tested or any(word.lower().endswith("wrong_slide=false") for word in options.settings):
        return
    try:
        wrong_slides(list(tested), cases, seed=0)
    except ValueError as error:
        of_fold = f" of fold {fold}" if fold >= 0 else ""
        raise ValueError(f"questions: test slides{of_fold}: {error}: -p 60.wrong_slide=false") from None
