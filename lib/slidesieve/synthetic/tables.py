"""The toy cohort's tables: manifest, truth, questions, captions. Pure functions of the plans and a seed."""

import numpy as np
import pandas as pd

from slidesieve.synthetic.classes import BY_KIND, CLASSES, FINDINGS, GRADES, KIND, TISSUES
from slidesieve.synthetic.plans import COLS, N_TILES, ROWS, TILE_PX0, Plan, dominant_tissue, names_in

N_SITES = 8
LETTERS = "ABCD"


def slide_id(number: int) -> str:
    """Name slide `number`."""
    return f"toy-{number:05d}"


def slide_number(name: str) -> int:
    """Read the number back from a slide's name."""
    return int(name.removeprefix("toy-"))


def manifest_table(plans: list[Plan], splits: list[str], *, slides_dir: str) -> pd.DataFrame:
    """List the slides in the columns of data_manifest.csv, one case a slide; paths begin with `slides_dir`."""
    rows = [
        {
            "slide_id": slide_id(plan.number),
            "case_id": f"toy-case-{plan.number:05d}",
            "site": f"toy-site-{plan.number % N_SITES}",
            "slide_path": f"{slides_dir}/{slide_id(plan.number)}.tif",
            "feature_path": "",
            "mpp": 1.0,
            "split": split,
            "sha256": "",
            "source": "slidesieve.synthetic",
            "licence": "Apache-2.0",
            "label_finding": names_in(plan.labels, "finding")[0],
            "label_grade": names_in(plan.labels, "grade")[0],
            "label_tissue": dominant_tissue(plan.labels),
        }
        for plan, split in zip(plans, splits, strict=True)
    ]
    return pd.DataFrame(rows)


def truth_table(plans: list[Plan]) -> pd.DataFrame:
    """List every tile of every slide in raster order: position (level-0 px, top-left), kind and name."""
    cols, rows = np.meshgrid(np.arange(COLS), np.arange(ROWS))
    labels = np.concatenate([plan.labels.ravel() for plan in plans])
    names, kinds = np.array(CLASSES, dtype=object), np.array([KIND[name] for name in CLASSES], dtype=object)
    return pd.DataFrame(
        {
            "slide_id": np.repeat([slide_id(plan.number) for plan in plans], N_TILES),
            "x_px0": np.tile(cols.ravel() * TILE_PX0, len(plans)),
            "y_px0": np.tile(rows.ravel() * TILE_PX0, len(plans)),
            "kind": kinds[labels],
            "name": names[labels],
        }
    )


def _balanced(rng: np.random.Generator, n: int, values: int) -> np.ndarray:
    """Return n numbers under `values`, each as often as any other (to within one), in random order."""
    return rng.permutation(np.arange(n) % values)


def _choice_row(rng: np.random.Generator, truth: str, names: tuple[str, ...], answer: int) -> dict:
    """Put the truth at place `answer` among three other names."""
    options = list(rng.choice([name for name in names if name != truth], len(LETTERS) - 1, replace=False))
    options.insert(answer, truth)
    return dict(zip(LETTERS, options, strict=True)) | {"Answer": LETTERS[answer]}


def _presence_row(rng: np.random.Generator, truth: str, combination: int) -> dict:
    """Ask for the finding that is there or another; `combination` 0-3 sets whether, and which letter means yes."""
    present, yes_first = bool(combination & 1), bool(combination & 2)
    asked = truth if present else str(rng.choice([name for name in FINDINGS if name != truth]))
    options = ("yes", "no") if yes_first else ("no", "yes")
    answer = LETTERS[options.index("yes" if present else "no")]
    return {"Question": f"Is {asked} present?", "A": options[0], "B": options[1], "C": "", "D": "", "Answer": answer}


def question_table(plans: list[Plan], splits: list[str], *, seed: int) -> pd.DataFrame:
    """Ask four questions of each slide, in SlideBench's columns; within a split every kind's key is balanced."""
    rows = []
    for number, split in enumerate(sorted(set(splits))):
        rng = np.random.default_rng([seed, 3, number])
        chosen = [plan for plan, s in zip(plans, splits, strict=True) if s == split]
        places = {kind: _balanced(rng, len(chosen), 4) for kind in ("finding", "presence", "grade", "tissue")}
        for i, plan in enumerate(chosen):
            finding, grade = names_in(plan.labels, "finding")[0], names_in(plan.labels, "grade")[0]
            asked = {
                "finding": {"Question": "Which finding is present?"}
                | _choice_row(rng, finding, FINDINGS, places["finding"][i]),
                "presence": _presence_row(rng, finding, int(places["presence"][i])),
                "grade": {"Question": "What is the grade?"} | _choice_row(rng, grade, GRADES, places["grade"][i]),
                "tissue": {"Question": "Which tissue dominates?"}
                | _choice_row(rng, dominant_tissue(plan.labels), TISSUES, places["tissue"][i]),
            }
            for kind, row in asked.items():
                name = slide_id(plan.number)
                broad = "Composition" if kind == "tissue" else "Evidence"
                head = {"ID": f"{name}-{kind}", "Slide": name, "Tumor": "TOY"}
                rows.append(head | {"Broad Category": broad, "Narrow Category": kind} | row)
    columns = ["ID", "Slide", "Tumor", "Broad Category", "Narrow Category", "Question", *LETTERS, "Answer"]
    return pd.DataFrame(rows)[columns].sort_values("Slide", kind="stable", ignore_index=True)


def caption(labels: np.ndarray, *, decoys: bool) -> str:
    """Say what some tiles show; the decoys only where asked for."""
    parts = [("tissue:", [dominant_tissue(labels)])]
    parts += [("finding:", names_in(labels, "finding")), ("grade:", names_in(labels, "grade"))]
    parts += [("also:", names_in(labels, "decoy"))] if decoys else []
    return " ".join(f"{head} {' '.join(names) or 'none'} ." for head, names in parts)


def draw_box(rng: np.random.Generator, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Draw a box (row, col, rows, cols) of 6 to 32 tiles, four in five of them round a finding, grade or decoy tile."""
    while True:
        rows, cols = int(rng.integers(2, 6)), int(rng.integers(2, 9))
        if 6 <= rows * cols <= 32:
            break
    aim = rng.choice(("finding", "grade", "decoy", "decoy", "anywhere"))
    wanted = [CLASSES.index(name) for name in BY_KIND.get(aim, CLASSES)]
    at = int(rng.choice(np.flatnonzero(np.isin(labels.ravel(), wanted))))
    row = int(np.clip(at // COLS - rng.integers(0, rows), 0, ROWS - rows))
    col = int(np.clip(at % COLS - rng.integers(0, cols), 0, COLS - cols))
    return row, col, rows, cols


def caption_table(plans: list[Plan], splits: list[str], *, regions_per_slide: int, seed: int) -> pd.DataFrame:
    """Caption regions and whole slides of train and val; boxes in level-0 px, empty for a whole slide."""
    table = []
    for plan, split in zip(plans, splits, strict=True):
        if split == "test":
            continue
        rng, name = np.random.default_rng([seed, 4, plan.number]), slide_id(plan.number)
        for i in range(regions_per_slide):
            row, col, rows, cols = draw_box(rng, plan.labels)
            text = caption(plan.labels[row : row + rows, col : col + cols], decoys=True)
            box = [v * TILE_PX0 for v in (col, row, cols, rows)]
            table.append([f"{name}-region{i}", name, *box, text])
        table.append([f"{name}-slide", name, *[None] * 4, caption(plan.labels, decoys=False)])
    columns = ["ID", "Slide", "x_px0", "y_px0", "width_px0", "height_px0", "Caption"]
    return pd.DataFrame(table, columns=columns).astype(dict.fromkeys(columns[2:6], "Int64"))
