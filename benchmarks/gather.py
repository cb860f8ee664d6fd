"""What gathering and auditing a large cohort costs: feature files by the thousand, ten questions a file.

    python -m benchmarks.gather [FILES]

Makes FILES (10,000) small feature files and ten times as many questions in a temporary folder, a label table, and times
each step at an eighth, a quarter, half and all of it: looking through the folder, bringing ids together, reading
questions, the manifest written and read, the audit, the ledger of slides. Prints seconds, the exponent of each step's
growth over the last doubling, and the peak of memory.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from math import log2
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from slidesieve.cohort.audit import file_faults, leakage, site_counts, split_counts
from slidesieve.cohort.ledger import Ledger, Outcome
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.asked_files import file_table, read_asked_files, write_tables
from slidesieve.datasets.found_files import look_through
from slidesieve.datasets.gathered import chosen_features, manifest_table, slide_names, with_asked, with_labels
from slidesieve.datasets.questions import in_cohort, read_questions

FILES, QUESTIONS = 10_000, 10
HOW = {"val_share": 0.1, "test_share": 0.2, "seed": 0, "source": ""}


def name_of(i: int) -> str:
    return f"TCGA-{i % 97:02d}-{i:04d}-01Z-00-DX1"


def write(folder: Path, n: int) -> None:
    """Feature files of nine tiles, a question table, a label table with a UUID in every other name."""
    (folder / "features").mkdir(parents=True)
    x = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float16)
    for i in range(n):
        with h5py.File(folder / "features" / f"{name_of(i)}.h5", "w") as file:
            file["features"], file["coords"] = x, np.arange(18).reshape(9, 2) * 512
    asked = ("B", "n", "Which?", "x", "y", "z", "w")
    rows = [(f"q{i}", name_of(i // QUESTIONS), *asked, "ABCD"[i % 4]) for i in range(n * QUESTIONS)]
    names = ["ID", "Slide", "Broad Category", "Narrow Category", "Question", *"ABCD", "Answer"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "questions.csv", index=False)
    uuid = ".8288CA92-B611-4ACF-986E-0B8A3F620B94"
    labels = [(name_of(i) + uuid * (i % 2), name_of(i)[:12], "ILC" if i % 3 else "IDC") for i in range(n)]
    pd.DataFrame(labels, columns=["slide_id", "case_id", "type"]).to_csv(folder / "labels.csv", index=False)


def steps(folder: Path) -> dict[str, Callable[[dict], object]]:
    """Each step takes what those before it made."""

    def audited(made: dict) -> object:
        manifest = made["manifest"]
        faults = file_faults(manifest, check_sha256=False)
        return [split_counts(manifest), site_counts(manifest), leakage(manifest), faults]

    def gathered(made: dict) -> object:
        cohort, _ = slide_names(made["look through"], chosen_features(made["look through"]))
        return with_labels(cohort, folder / "labels.csv")[0]

    def manifest(made: dict) -> object:
        cohort = with_asked(made["ids and labels"], made["questions"])
        table = manifest_table(cohort, made["questions"], root=folder, **HOW)
        table.to_csv(folder / "manifest.csv", index=False)
        return read_manifest(folder / "manifest.csv")

    def settled(made: dict) -> object:
        slides, book = made["manifest"].table["slide_id"], Ledger(folder / "ledger.csv")
        for slide in slides:
            book.append(Outcome(slide, "ok", "", "", 9, 0, 0.1))
        return book.settle(slides)

    def read_again(made: dict) -> object:
        return in_cohort(read_questions(folder / "questions.csv"), made["manifest"], what="questions")

    return {
        "look through": lambda made: look_through([folder / "features"]),
        "ids and labels": gathered,
        "questions": lambda made: read_asked_files(
            [folder / "questions.csv"], made["ids and labels"]["slide_id"].tolist(), corrections=None
        ),
        "manifest": manifest,
        "tables": lambda made: (file_table(made["questions"]), write_tables(made["questions"], folder)),
        "read again": read_again,
        "audit": audited,
        "ledger": settled,
    }


def seconds(folder: Path) -> dict[str, float]:
    """Time each step once."""
    made, found = {}, {}
    for name, step in steps(folder).items():
        start = time.perf_counter()
        made[name] = step(made)
        found[name] = time.perf_counter() - start
    return found


def main(files: int = FILES) -> pd.DataFrame:
    """Return seconds by step (rows) and number of files (columns), with the last doubling's exponent."""
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (files // 8, files // 4, files // 2, files):
            write(Path(folder) / str(n), n)
            columns[n] = seconds(Path(folder) / str(n))
    table = pd.DataFrame(columns)
    last, before = table[files], table[files // 2]
    return table.assign(exponent=[log2(a / b) for a, b in zip(last, before, strict=True)])


if __name__ == "__main__":
    print(main(int(sys.argv[1]) if len(sys.argv) > 1 else FILES).round(2).to_string())
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
