"""Cases by rule: which questions are shown, whatever pleases."""

import numpy as np
import pandas as pd
import pytest
from slide_files import smooth_noise, write_manifest, write_slide

from slidesieve.analyses.cases import KINDS, about, choose, crops, evidence, views
from slidesieve.analyses.token_maps import picture
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.questions import Question
from slidesieve.features.bag import Bag

RIGHT = {  # of seven questions about four slides: the run, and two others
    "q1": (True, False, False), "q2": (True, True, True), "q3": (True, True, False), "q4": (False, True, True),
    "q5": (False, False, False), "q6": (False, True, False), "q7": (True, False, False),
}  # fmt: skip
SLIDES = dict(zip(RIGHT, ("a", "b", "c", "d", "a", "b", "a"), strict=True))
SURE = {"q7": 3.0, "q1": 1.0}


def answers() -> pd.DataFrame:
    rows = []
    for i, method in enumerate(("sparselearn", "kmeans", "random", "kmeans_wrong_slide")):
        for name, right in RIGHT.items():
            gap = SURE.get(name, 0.5)
            correct = right[i] if i < 3 else True  # a control makes no question easier
            rows.append((method, 8, 0, name, SLIDES[name], name, correct, True, 0.0, -gap))
    columns = ["method", "k", "seed", "ID", "Slide", "narrow", "correct", "covered", "logp_A", "logp_B"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=3)


def test_the_hardest_that_were_right_and_the_easiest_that_were_wrong():
    cases = choose(answers(), ("sparselearn", 8, 0), each=1)
    assert [(case.id, case.others) for case in cases] == [("q7", 0.0), ("q2", 1.0), ("q4", 1.0), ("q5", 0.0)]
    assert [case.why for case in cases] == list(KINDS)


def test_no_question_twice_and_other_slides_before_the_same_again():
    cases = choose(answers(), ("sparselearn", 8, 0), each=2)
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids) == 7
    assert ids[:2] == ["q7", "q3"]  # q1 is as hard, and of q7's slide
    assert ids[2:4] == ["q2", "q1"]


def test_other_kinds_of_question_before_the_same_again_but_never_at_the_price_of_a_slide():
    given = answers()
    given["narrow"] = given["ID"].map({"q7": "grade", "q1": "grade", "q3": "grade", "q2": "tissue"}).fillna("other")
    assert [case.id for case in choose(given, ("sparselearn", 8, 0), each=2)][:2] == ["q7", "q2"]
    given["narrow"] = "grade"  # nothing differs: as if kinds were not looked at
    assert [case.id for case in choose(given, ("sparselearn", 8, 0), each=2)][:2] == ["q7", "q3"]
    given.loc[given["ID"] == "q1", "narrow"] = "tissue"  # of q7's slide
    assert [case.id for case in choose(given, ("sparselearn", 8, 0), each=2)][:2] == ["q7", "q3"]


def test_a_planted_tile_is_about_the_questions_that_name_it():
    rows = [
        ("s", 64, 0, "finding", "cyst"),
        ("s", 0, 0, "grade", "high"),
        ("s", 64, 64, "grade", "hig"),
        ("t", 0, 0, "grade", "high"),
    ]
    truth = pd.DataFrame(rows, columns=["slide_id", "x_px0", "y_px0", "kind", "name"])
    grade = Question("q", "s", "grade", "Evidence", "What is the grade?", ("Low", "High"), 1)
    assert about(truth, grade).index.tolist() == [1, 3]  # whole words, in any case
    assert about(truth, grade._replace(text="Is a cyst of high grade there?")).index.tolist() == [0, 1, 3]
    assert len(about(truth, grade._replace(broad="Composition"))) == 0
    assert len(about(truth.drop(columns="name"), grade)) == len(about(truth.assign(name=""), grade)) == 0
    coords = np.array([(x, y) for y in (0, 64) for x in (0, 64)])
    own, others = evidence(Bag("s", np.zeros((4, 3), np.float32), coords, {}), truth, grade)
    assert own.tolist() == [0] and others.tolist() == [1, 3]


def test_what_was_not_covered_is_no_case_and_an_absent_run_is_named():
    given = answers()
    given.loc[given["ID"] == "q7", "covered"] = False
    assert choose(given, ("sparselearn", 8, 0), each=1)[0].id == "q1"
    with pytest.raises(ValueError, match=r"no answers of \('fps', 8, 0\)"):
        choose(given, ("fps", 8, 0), each=1)


def test_crops_are_the_kept_tiles_by_rank_from_the_slide_itself(tmp_path):
    pixels = smooth_noise(256, 320)
    write_slide(tmp_path / "s.tif", pixels, mpp=0.5)
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", [{"slide_id": "s", "slide_path": "s.tif", "mpp": ""}]))
    coords = np.array([(x, y) for y in (0, 64, 128) for x in (0, 64, 128, 192)])
    bag = Bag("s", np.zeros((12, 3), np.float32), coords, {"patch_size": 32, "patch_size_level0": 64})
    kept = pd.DataFrame({"slide_id": "s", "rank": [1, 0, 2], "index": [7, 2, 11], "score": [0.5, 2.0, np.nan]})
    first, second = crops(manifest, bag, kept, most=2)
    assert (first.rank, first.index, first.score) == (0, 2, 2.0) and (second.rank, second.index) == (1, 7)
    whole = pixels[0:64, 128:192].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert first.pixels.shape == (32, 32, 3) and np.abs(first.pixels - whole).max() <= 2
    assert picture(manifest, "s", bag).mpp == pytest.approx(0.5)
    truth = pd.DataFrame([("s", 64, 0, "finding")], columns=["slide_id", "x_px0", "y_px0", "kind"])
    view = views(manifest, {"s": bag}, ["s"], kept, truth=truth, most=2)["s"]
    assert view.planted.tolist() == [1] and [crop.index for crop in view.crops] == [2, 7] and view.picture.mpp == 0.5
    assert len(views(manifest, {"s": bag}, ["s"], kept, truth=None, most=2)["s"].planted) == 0
    unplaced = Bag("s", bag.x, bag.coords, {})
    assert [crop.pixels for crop in crops(manifest, unplaced, kept, most=5)] == [None] * 3
