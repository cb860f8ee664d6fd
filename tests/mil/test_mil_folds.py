"""Bags and folds of a labelled cohort: standardised once, padded, and nobody on two sides of a grouped fold."""

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import INPUTS, SHARED

from slidesieve.cohort.splits import audit_splits, check_classes, grouped_splits, published_splits, splits_of
from slidesieve.datasets.labels import label_slides, read_labels
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import open_features
from slidesieve.features.standardised import Moments
from slidesieve.features.store import PackedStore
from slidesieve.mil.folds import Bags, untrained

HIPT = SHARED / "mil" / "hipt_tcga"


def cohort(n: int = 60) -> pd.DataFrame:
    """Two slides a patient, six sites, two labels."""
    return pd.DataFrame(
        {
            "slide_id": [f"s{i:02}" for i in range(n)],
            "case_id": [f"c{i // 2}" for i in range(n)],
            "site": [f"site{i // 2 % 6}" for i in range(n)],
            "label": ["LUAD" if i // 2 % 4 < 2 else "LUSC" for i in range(n)],
        }
    )


def write_split(folder, fold: int, **sides):
    folder.mkdir(exist_ok=True)
    pd.DataFrame({side: pd.Series(slides) for side, slides in sides.items()}).to_csv(folder / f"splits_{fold}.csv")


@pytest.mark.parametrize(("by", "column", "n_folds"), [("patient", "case_id", 5), ("site", "site", 3)])
def test_no_group_is_on_two_sides_and_each_slide_is_tested_once(by, column, n_folds):
    table = cohort()
    group = table.set_index("slide_id")[column]
    splits = grouped_splits(table, by=by, folds=range(n_folds), n_folds=n_folds, seed=0)
    for split in splits:
        sides = [set(group[slides]) for slides in (split.train, split.validation, split.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert sorted(split.train + split.validation + split.test) == sorted(table["slide_id"])
        assert set(table.set_index("slide_id")["label"][split.test]) == {"LUAD", "LUSC"}
    assert sorted(slide for split in splits for slide in split.test) == sorted(table["slide_id"])
    assert (audit_splits(splits, table)[f"test_{by}_in_train"] == 0).all()
    assert grouped_splits(table, by=by, folds=[1], n_folds=n_folds, seed=0) == splits[1:2]


def test_groups_that_cannot_be_folded_are_refused():
    with pytest.raises(ValueError, match="got folds \\[5\\] of 5"):
        grouped_splits(cohort(), by="patient", folds=[5], n_folds=5, seed=0)
    with pytest.raises(ValueError, match="60 slides have no site"):
        grouped_splits(cohort().assign(site=""), by="site", folds=[0], n_folds=5, seed=0)
    with pytest.raises(ValueError, match="6 groups; expected at least 3 folds"):
        grouped_splits(cohort(), by="site", folds=[0], n_folds=7, seed=0)


def test_published_splits_keep_their_sides_and_leave_out_what_is_not_known(tmp_path):
    write_split(tmp_path, 3, train=["s00", "s02.svs", "absent"], val=["s04"], test=["s01", "s05"])
    (split,) = published_splits(tmp_path, cohort()["slide_id"], [3], min_coverage=0.8)
    assert split == (3, ["s00", "s02"], ["s04"], ["s01", "s05"])
    with pytest.raises(ValueError, match=r"splits_3.csv: 6 asked for, 5 found .*1 lost: 'absent'"):
        published_splits(tmp_path, cohort()["slide_id"], [3])
    told = audit_splits([split], cohort()).iloc[0]
    assert told.to_dict() == {
        "fold": 3, "train": 2, "val": 1, "test": 2, "test_patient_in_train": 1, "test_site_in_train": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"train": ["s00"], "val": ["s01"]}, "no column test"),
        ({"train": ["s00"], "val": ["s01"], "test": ["s00"]}, "s00 stands twice"),
        ({"train": ["s00"], "val": ["x", "y"], "test": ["s02"]}, "none of its 2 val slides"),
    ],
)
def test_faulty_split_files_are_refused(tmp_path, sides, message):
    write_split(tmp_path, 0, **sides)
    with pytest.raises(ValueError, match=message):
        published_splits(tmp_path, cohort()["slide_id"], [0], min_coverage=0.5)
    with pytest.raises(ValueError, match=r"splits_1\.csv not found"):
        published_splits(tmp_path, cohort()["slide_id"], [1])


def test_bags_are_standardised_by_the_training_tiles_and_padded():
    rng = np.random.default_rng(0)
    x = {f"s{i}": (rng.standard_normal((n, 5)) * 3 + 7).astype(np.float32) for i, n in enumerate((4, 9, 2))}
    bags = {name: make_bag(name, value, None, {}) for name, value in x.items()}
    mean, std = Moments.of(x[name] for name in ("s0", "s1"))
    tiles = np.concatenate([x["s0"], x["s1"]])
    assert np.allclose(mean, tiles.mean(0), atol=1e-5) and np.allclose(std, tiles.std(0), atol=1e-5)
    batch, y = Bags(bags, ["s2", "s1"], np.array([1, 0]), Moments(mean, std)).batch(np.array([1, 0]))
    assert y.tolist() == [0, 1] and batch.mask.sum(1).tolist() == [9, 2]
    assert torch.allclose(batch.x[1, :2], torch.from_numpy((x["s2"] - mean) / std), atol=1e-5)
    assert (batch.x[1, 2:] == 0).all()


def test_a_fold_is_standardised_by_its_training_slides_and_no_other():
    table = cohort()
    rng = np.random.default_rng(0)
    bags = {s: make_bag(s, i + rng.standard_normal((5 + i % 3, 7)), None, {}) for i, s in enumerate(table["slide_id"])}
    split = grouped_splits(table, by="patient", folds=[1], n_folds=5, seed=0)[0]
    _, sides = untrained("gated_abmil", split, table, bags, k=0, seed=0, options={})
    tiles = np.concatenate([bags[slide].x for slide in split.train])
    for side in sides:
        assert np.allclose(side.moments.mean, tiles.mean(0), atol=1e-4) and np.allclose(
            side.moments.std, tiles.std(0), atol=1e-4
        )


def test_a_dimension_that_never_varies_does_not_divide_by_zero():
    bags = {"s": make_bag("s", np.ones((4, 2), np.float32), None, {})}
    mean, std = Moments.of([bags["s"].x])
    assert np.isfinite((bags["s"].x - mean) / std).all()


@pytest.mark.shared
@pytest.mark.skipif(not HIPT.exists(), reason=f"no real bags at {HIPT}; set DATA_SHARED")
@pytest.mark.parametrize(("task", "known", "shared"), [("lung", 864, 94), ("kidney", 865, 40)])
def test_the_published_folds_are_not_patient_disjoint_and_ours_are(task, known, shared):
    labels = pd.read_csv(HIPT / "labels" / f"tcga_{task}_subtype.csv", dtype=str)
    stored = list(open_features(HIPT / f"{task.upper()}.h5"))
    table = label_slides(labels, label="oncotree_code", stored=stored)
    how = {"n_folds": 5, "seed": 0}
    told = audit_splits(splits_of(table, HIPT / "splits" / f"tcga_{task}", folds=range(10), **how), table)
    assert (told["test"].sum(), told["test_patient_in_train"].sum()) == (known, shared)
    ours = audit_splits(splits_of(table, "patient", folds=range(5), **how), table)
    assert ours["test"].sum() == len(table) and (ours["test_patient_in_train"] == 0).all()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("labels", "folder", "fault"),
    [
        ("labels", "ok", None),
        ("labels_NA", "ok", None),
        ("labels", "test_one_class", "fold 0: no 'ILC' in test"),
        ("labels", "val_one_class", "fold 0: no 'ILC' in val"),
        ("labels3", "train_lacks_A", "fold 0: no 'A' in train"),
        ("labels3", "train_lacks_C", "fold 0: no 'C' in train"),
    ],
)
def test_folds_of_the_field_are_cut_or_refused_by_class(labels, folder, fault):
    store = PackedStore(INPUTS / "mil/store.h5")
    table = label_slides(read_labels(INPUTS / f"mil/{labels}.csv"), label="code", stored=store.slide_ids, most=None)
    assert len(table) == (28 if labels == "labels_NA" else 36)
    cut = published_splits(INPUTS / "mil" / folder, table["slide_id"].tolist(), [0])
    if fault:
        with pytest.raises(ValueError, match=fault):
            check_classes(cut, table)
    else:
        assert len(check_classes(cut, table)) == len(table)


def test_a_fold_without_validation_is_refused_by_name(tmp_path):
    (tmp_path / "splits_0.csv").write_text("train,val,test\na,,c\nb,NA,d\n")
    with pytest.raises(ValueError, match=r"splits_0.csv: none of its 0 val slides has a label and features"):
        published_splits(tmp_path, list("abcd"), [0])
