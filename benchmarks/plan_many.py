"""An experiment of many cells: planned, and, all of it done, found up to date.

    python -m benchmarks.plan_many [STAGES]

Slides with packed features, five methods and the floors, as many seeds as make STAGES (10,000) stages. Each gets a
receipt of its own recipe and an output, written here, as if it had run; then the plan is made again and every receipt
held against its recipe, which is what a rerun does before it starts anything. Prints CPU seconds of each step at a
tenth of the stages and at all of them, and the exponent between the two.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from flows.plan.graph import Options, plan
from flows.plan.stages import Stage
from flows.run.board import pending
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed
from slidesieve.provenance.files import RECEIPT, ROOT, file_stamp, hash_file, write_json
from slidesieve.provenance.recipes import looked_up_once, recipe_of

SLIDES = 400
LM = "reports/league/language_model"
METHODS = ("fps", "kmeans", "sparselearn", "tcssa", "attention_topk")


def cohort(folder: Path) -> dict[str, str]:
    """Write slides of three tiles each, and a question about each."""
    draw, ids = np.random.default_rng(0), [f"s{i}" for i in range(SLIDES)]
    bags = [make_bag(s, draw.standard_normal((3, 8), dtype=np.float32), np.eye(3, 2, dtype=int), {}) for s in ids]
    write_packed(folder / "store.h5", bags)
    splits = ["test" if i % 5 == 0 else "val" if i % 5 == 1 else "train" for i in range(SLIDES)]
    table = pd.DataFrame({"slide_id": ids, "case_id": ids, "feature_path": "store.h5", "split": splits})
    table.to_csv(folder / "manifest.csv", index=False)
    asked = {"ID": ids, "Slide": ids, "Tumor": "T", "Broad Category": "b", "Narrow Category": "n", "Question": "which?"}
    asked |= {"A": "one", "B": "two", "C": "three", "D": "four", "Answer": ["ABCD"[i % 4] for i in range(SLIDES)]}
    pd.DataFrame(asked).to_csv(folder / "questions.csv", index=False)
    return {"manifest": str(folder / "manifest.csv"), "questions": str(folder / "questions.csv")}


def planned(folder: Path, tables: dict[str, str], seeds: int) -> list[Stage]:
    options = Options(**tables, out=str(folder / "run"), compressors=METHODS, k=(4, 8, 16), llm=LM)
    return plan(options._replace(seeds=tuple(range(seeds))))


def finish(stages: list[Stage]) -> None:
    """Leave behind each stage what it would: in their order, since a recipe holds what earlier ones wrote."""
    with looked_up_once():
        for stage in stages:
            folder = ROOT / stage.out_dir
            folder.mkdir(parents=True)
            (folder / "out.csv").write_text(stage.id)
            size, mtime_ns = file_stamp(folder / "out.csv")
            output = {"sha256": hash_file(folder / "out.csv"), "size": size, "mtime_ns": mtime_ns}
            recipe = recipe_of(stage.notebook, stage.parameters | {"out_dir": stage.out_dir})
            write_json(folder / RECEIPT, {"recipe": recipe._asdict(), "outputs": {"out.csv": output}})


def timed(step: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    return step(), time.process_time() - start


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    told: dict[str, list[float]] = {}
    sizes = []
    with tempfile.TemporaryDirectory() as place:
        few = len(planned(Path(place), tables := cohort(Path(place)), 1))  # imports are paid for here
        more = len(planned(Path(place), tables, 2)) - few
        for n in (most // 10, most):
            folder = Path(place) / f"{n}"
            stages, planning = timed(lambda: planned(folder, tables, 1 + max(0, -(-(n - few) // more))))  # noqa: B023
            due, first = timed(lambda: pending(stages))  # noqa: B023
            assert len(due) == len(stages)
            finish(stages)
            left, again = timed(lambda: pending(stages))  # noqa: B023
            assert not left, f"{len(left)} of {len(stages)} are due, the first for {next(iter(left.items()))}"
            sizes.append(len(stages))
            for name, seconds in (("planned", planning), ("told what is due", first), ("found up to date", again)):
                told.setdefault(name, []).append(seconds)
                print(f"{len(stages):,} stages {name}: {seconds:.1f} s", flush=True)
    for name, (short, long) in told.items():
        exponent = math.log(long / short) / math.log(sizes[1] / sizes[0])
        print(f"{name}: {long:.1f} s at {sizes[1]:,}, exponent {exponent:.2f}")


if __name__ == "__main__":
    main()
