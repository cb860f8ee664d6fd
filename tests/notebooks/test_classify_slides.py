"""Bag classification as a notebook: known signal found, floors beside it, resumed where it was cut, bad input told."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from run_here import run_here

from slidesieve.cohort.splits import Split, check_classes, grouped_splits
from slidesieve.datasets.labels import label_slides
from slidesieve.evaluation.auroc import BASELINE
from slidesieve.features.bag import collate, make_bag
from slidesieve.features.bag_files import open_features
from slidesieve.features.store import write_packed
from slidesieve.mil import folds
from slidesieve.mil.folds import fold_predictions, kept
from slidesieve.mil.models import bag_model, with_options
from slidesieve.mil.training import Settings
from slidesieve.provenance.files import ROOT

NOTEBOOK = ROOT / "notebooks/65_classify_slides.ipynb"
D, SLIDES = 7, 60


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """60 slides of 30 patients in three grades; two tiles of each say which, the rest is noise with the same mean."""
    folder, rng = tmp_path_factory.mktemp("mil"), np.random.default_rng(0)
    bags, rows = [], []
    for i in range(SLIDES):
        x = rng.standard_normal((int(rng.integers(8, 25)), D)).astype(np.float32)
        grade = i // 2 % 3
        x[:2, grade] += 9
        bags.append(make_bag(f"s{i:02}", x, None, {}))
        rows.append((f"c{i // 2}", f"s{i:02}.svs", f"grade {grade}", f"site{i // 2 % 5}"))
    write_packed(folder / "store.h5", bags)
    pd.DataFrame(rows, columns=["case_id", "slide_id", "grade", "site"]).to_csv(folder / "labels.csv", index=False)
    return folder


def table_of(cohort):
    return label_slides(
        pd.read_csv(cohort / "labels.csv", dtype=str),
        label="grade",
        stored=list(open_features(cohort / "store.h5")),
        most=None,
    )


def test_the_notebook_scores_every_model_on_the_same_slides(cohort, tmp_path):
    given = {"features": str(cohort / "store.h5"), "labels": str(cohort / "labels.csv"), "label_column": "grade"}
    given |= {"folds": [0, 1], "n_folds": 3, "k": 5, "options": {"expert_hidden": 16}, "epochs": 12, "lr": 3e-3}
    given |= {"baselines": [BASELINE, "random"], "draws": 100, "seeds": [0, 3]}
    result = run_here(NOTEBOOK, tmp_path / "65", given)
    assert result.status == "ran", result.error
    scores = pd.read_csv(tmp_path / "65/scores.csv").set_index(["model", "metric"])
    assert scores.loc[("tcssa", "auroc"), "value"] > 0.9
    assert (scores["low"] <= scores["value"]).all() and (scores["value"] <= scores["high"]).all()
    told = pd.read_csv(tmp_path / "65/predictions.csv")
    assert told.groupby(["model", "seed", "fold"])["slide_id"].apply(tuple).groupby("fold").nunique().eq(1).all()
    assert np.allclose(told.filter(like="p_").sum(axis=1), 1, atol=1e-6)
    paired = pd.read_csv(tmp_path / "65/paired.csv")
    assert set(paired["baseline"]) == {BASELINE, "random"} and (paired["folds"] == 2).all()
    assert (told.groupby("model")["seed"].unique().map(set) == {0, 3}).all() and (paired["n_seeds"] == 2).all()


def test_a_finished_fold_is_not_trained_again(cohort, tmp_path):
    table, bags = table_of(cohort), open_features(cohort / "store.h5")
    (split,) = grouped_splits(table, by="patient", folds=[0], n_folds=3, seed=0)
    how = {"k": 3, "seed": 0, "settings": Settings(1e-3, 1, 1, 8), "options": {"expert_hidden": 4}}
    how |= {"checkpoint": tmp_path / "c.pt", "save_minutes": 10, "device": "cpu"}
    predict = partial(fold_predictions, "tcssa", split, table, bags, **how)
    first = kept(tmp_path / "a.csv", predict)
    again = kept(tmp_path / "a.csv", lambda: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(first, again)
    other = kept(tmp_path / "b.csv", predict)
    pd.testing.assert_frame_equal(first, other)  # the seed is the run


def test_a_soft_selection_cools_as_its_schedule_says(cohort, tmp_path, monkeypatch):
    table, bags = table_of(cohort), open_features(cohort / "store.h5")
    (split,) = grouped_splits(table, by="patient", folds=[0], n_folds=3, seed=0)
    taus, fit = [], folds.fit_bags

    def fit_and_look(net, *sides, before_step, **how):
        def look(model, step):
            before_step(model, step)
            taus.append(float(model.compressor.tau))

        return fit(net, *sides, before_step=look, **how)

    monkeypatch.setattr(folds, "fit_bags", fit_and_look)
    how = {"k": 3, "seed": 0, "settings": Settings(1e-3, 2, 2, 8), "save_minutes": 10, "device": "cpu"}
    how |= {"options": {"scorer_layers": 1, "scorer_heads": 1, "denoiser": "off"}, "checkpoint": tmp_path / "c.pt"}
    fold_predictions("sparselearn", split, table, bags, tau=(1.0, 0.1, 0.5), **how)
    steps = 2 * -(-len(split.train) // 8)
    assert taus[0] == 1.0 and taus[-1] == pytest.approx(0.1)
    assert taus.count(taus[-1]) >= steps - round(0.5 * steps) and taus == sorted(taus, reverse=True)


def test_baselines_take_the_options_that_they_have_too():
    given, own = {"means": 2, "scorer_layers": 1}, {"scorer_layers": 1}
    told = with_options("sieve", given, ["sparselearn", "kmeans", "gated_abmil", "sieve"])
    assert told == {"sieve": given, "sparselearn": own, "kmeans": {}, "gated_abmil": {}}


@pytest.mark.parametrize("name", ["abmil", "gated_abmil", "transmil", "tcssa", "locpath"])
def test_padding_and_batch_mates_do_not_change_a_slides_logits(cohort, name):
    bags = open_features(cohort / "store.h5")
    model = bag_model(name, d=D, classes=3, k=5, seed=0).eval()
    chosen = [bags[f"s{i:02}"] for i in range(4)]
    with torch.no_grad():
        together, _ = model(*collate(chosen).tiles)
        for i, bag in enumerate(chosen):
            assert torch.allclose(together[i], model(*collate([bag]).tiles)[0][0], atol=1e-6)


def test_unknown_models_and_splits_are_told(cohort, tmp_path):
    with pytest.raises(ValueError, match="no model 'tsca'; there are"):
        bag_model("tsca", d=D, classes=2, k=4, seed=0)
    given = {"features": str(cohort / "store.h5"), "labels": str(cohort / "labels.csv"), "label_column": "grade"}
    result = run_here(NOTEBOOK, tmp_path / "65", given | {"splits": "hospital"})
    assert result.status == "failed" and "no such folder; expected one of splits_<fold>.csv, patient or site" in str(
        result.error
    )


def test_classes_are_those_of_the_slides_that_a_fold_names(cohort, tmp_path):
    table = pd.read_csv(cohort / "labels.csv", dtype=str)
    slide, other = table["slide_id"].str.removesuffix(".svs"), table["grade"] == "grade 2"
    table.loc[other, "grade"] = [f"rare {i % 9}" for i in range(int(other.sum()))]  # eleven classes, two in the folds
    table.to_csv(tmp_path / "labels.csv", index=False)
    named = slide[~other].tolist()
    sides = {"train": named[:24], "val": named[24:32], "test": named[32:]}
    (tmp_path / "splits").mkdir()
    pd.DataFrame({name: pd.Series(side) for name, side in sides.items()}).to_csv(tmp_path / "splits/splits_0.csv")
    given = {"features": str(cohort / "store.h5"), "labels": str(tmp_path / "labels.csv"), "label_column": "grade"}
    given |= {"splits": str(tmp_path / "splits"), "folds": [0], "k": 5, "epochs": 1, "draws": 50}
    given |= {"compressor": "random", "baselines": []}
    result = run_here(NOTEBOOK, tmp_path / "65", given)
    assert result.status == "ran", result.error
    told = pd.read_csv(tmp_path / "65/predictions.csv")
    assert [name for name in told if name.startswith("p_")] == ["p_grade 0", "p_grade 1"]
    assert told["slide_id"].tolist() == sides["test"]


def test_a_side_without_a_class_is_named_before_any_training(cohort):
    table = table_of(cohort)
    sides = [table["slide_id"][table["label"].isin(some)].tolist() for some in (["grade 0", "grade 1"], ["grade 0"])]
    with pytest.raises(ValueError, match=r"fold 4: no 'grade 1' in val; fold 4: no 'grade 1' in test; use fewer folds"):
        check_classes([Split(4, sides[0], sides[1], sides[1])], table)
    with pytest.raises(ValueError, match="no slide with grade grade 7; got grade 0, grade 1, grade 2"):
        label_slides(pd.read_csv(cohort / "labels.csv"), label="grade", stored=["s00", "s02", "s04"], only=["grade 7"])


def test_an_option_that_a_compressor_does_not_have_is_named():
    with pytest.raises(ValueError, match="tcssa: no option 'foo'; there are top, routing_noise, expert_hidden"):
        bag_model("tcssa", d=D, classes=2, k=4, seed=0, options={"foo": 1})
    with pytest.raises(ValueError, match="mean: no option 'top'; there are none"):
        bag_model("mean", d=D, classes=2, k=4, seed=0, options={"top": 1})
