"""The toy cohort's tables agree with its plans, and give no answer away."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slidesieve.cohort.manifest import read_manifest
from slidesieve.provenance.parameters import read_parameters
from slidesieve.synthetic import cohort, tables
from slidesieve.synthetic.classes import BY_KIND, CLASSES, FINDINGS, GRADES, KIND, TISSUES
from slidesieve.synthetic.drawing import HEIGHT, WIDTH
from slidesieve.synthetic.plans import COLS, ROWS, TILE_PX0

ROOT = Path(__file__).parents[2]
CONTENT = {"evidence_tiles": (2, 4), "n_decoys": 12}


@pytest.fixture(scope="module")
def many():
    """Plans and splits of a cohort large enough for statistics; no pixels."""
    splits = cohort.split_names(601, 37, 143)
    return cohort.draw_plans(0, len(splits), **CONTENT), splits


def test_truth_lists_every_tile_in_raster_order(many):
    plans = many[0][:9]
    truth = tables.truth_table(plans)
    assert len(truth) == 9 * 128
    rows = iter(truth.itertuples(index=False))
    for plan, y, x in itertools.product(plans, range(ROWS), range(COLS)):
        name = CLASSES[plan.labels[y, x]]
        assert tuple(next(rows)) == (tables.slide_id(plan.number), 64 * x, 64 * y, KIND[name], name)


def test_answers_follow_from_the_truth(many):
    plans, splits = many
    questions = tables.question_table(plans, splits, seed=0)
    assert len(questions) == 4 * len(plans) and questions["ID"].is_unique
    truth = {s: t["name"].value_counts() for s, t in tables.truth_table(plans).groupby("slide_id")}
    pool = {"finding": FINDINGS, "grade": GRADES, "tissue": TISSUES}
    for q in questions.to_dict("records"):
        shown, answer, kind = truth[q["Slide"]], q[q["Answer"]], q["Narrow Category"]
        options = [q[letter] for letter in "ABCD" if q[letter]]
        assert len(set(options)) == len(options)
        if kind == "presence":
            asked = re.fullmatch(r"Is (\w+) present\?", q["Question"]).group(1)
            assert sorted(options) == ["no", "yes"] and (answer == "yes") == (asked in shown)
        else:
            counts = [shown.get(name, 0) for name in pool[kind]]
            assert set(options) <= set(pool[kind]) and len(options) == 4
            assert shown[answer] == max(counts) and counts.count(max(counts)) == 1


def test_no_letter_word_or_length_gives_the_answer_away(many):
    plans, splits = many
    table = tables.question_table(plans, splits, seed=0)
    split = dict(zip((tables.slide_id(p.number) for p in plans), splits, strict=True))
    for (kind, _), part in table.groupby(["Narrow Category", table["Slide"].map(split)]):
        counts = part["Answer"].value_counts()
        assert (
            len(counts) == (2 if kind == "presence" else 4) and counts.max() - counts.min() <= (kind == "presence") + 1
        )
    four = table[table["Narrow Category"] != "presence"]
    right = np.array([max("ABCD", key=lambda c: len(q[c])) == q["Answer"] for q in four.to_dict("records")])
    assert abs(right.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(right))
    asked = table[table["Narrow Category"] == "presence"]
    yes = np.array([q[q["Answer"]] == "yes" for q in asked.to_dict("records")])
    assert abs(yes.mean() - 0.5) < 0.01
    for _, index in asked.reset_index().groupby("Question").groups.items():
        assert abs(yes[index].mean() - 0.5) < 4 * np.sqrt(0.25 / len(index))


def test_captions_say_what_is_in_their_box(many):
    plans, splits = many
    captions = tables.caption_table(plans, splits, regions_per_slide=3, seed=0)
    assert captions["ID"].is_unique and len(captions) == 4 * (601 + 37)
    assert not set(captions["Slide"]) & {
        tables.slide_id(p.number) for p, s in zip(plans, splits, strict=True) if s == "test"
    }
    truth = dict(list(tables.truth_table(plans).groupby("slide_id")))
    evidence = 0
    for row in captions.to_dict("records"):
        tiles, whole = truth[row["Slide"]], pd.isna(row["x_px0"])
        if not whole:
            x, y, width, height = (row[c] for c in ("x_px0", "y_px0", "width_px0", "height_px0"))
            assert not any(v % TILE_PX0 for v in (x, y, width, height)) and 6 <= width * height / TILE_PX0**2 <= 32
            assert x + width <= WIDTH and y + height <= HEIGHT and min(x, y) >= 0
            inside = tiles["x_px0"].between(x, x + width - 1) & tiles["y_px0"].between(y, y + height - 1)
            tiles = tiles[inside]
        names = tiles["name"].value_counts()
        found = {kind: [n for n in group if n in names] for kind, group in BY_KIND.items()}
        tissue = max(found["tissue"], key=lambda n: (names[n], -TISSUES.index(n)))
        text = f"tissue: {tissue} . finding: {' '.join(found['finding']) or 'none'} . "
        text += f"grade: {' '.join(found['grade']) or 'none'} ."
        text += "" if whole else f" also: {' '.join(found['decoy']) or 'none'} ."
        assert row["Caption"] == text
        evidence += not whole and bool(found["finding"] or found["grade"])
    assert evidence > 0.5 * 3 * (601 + 37)


def test_the_manifest_in_the_repository_is_the_one_that_01_makes():
    given = {p.name: p.default for p in read_parameters(ROOT / "notebooks/01_make_toy_cohort.ipynb").values()}
    splits = cohort.split_names(given["n_train"], given["n_val"], given["n_test"])
    plans = cohort.draw_plans(
        given["seed"],
        len(splits),
        evidence_tiles=(given["least_evidence"], given["most_evidence"]),
        n_decoys=given["n_decoys"],
    )
    table = tables.manifest_table(plans, splits, slides_dir=f"{given['out_dir']}/slides")
    assert table.to_csv(index=False) == (ROOT / "data_manifest.csv").read_text(), "write it again with manifest_table"
    assert len(read_manifest(ROOT / "data_manifest.csv").table) == 1792
