"""Notebooks 05, 07 and 80 through the code the flow uses: a label cohort made, answers of known quality compared."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import write_cohort, write_run
from run_here import run_here

from slidesieve.answers.select import planted_tiles, read_truth
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.mosaic_sources import by_token
from slidesieve.datasets.questions import read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_available_bags
from slidesieve.features.store import write_packed
from slidesieve.provenance.files import ROOT

NOTEBOOKS = ROOT / "notebooks"
QUALITY = {"sparselearn": (7, 0.9), "random": (7, 0.4), "mean": (7, 0.4), "all": (0, 0.95), "text_only": (0, 0.3)}


def run(name, out, **parameters):
    given = {n: str(v) if isinstance(v, Path) else v for n, v in parameters.items()}
    return run_here(NOTEBOOKS / f"{name}.ipynb", out, given)


def compare(folder, runs, **more):
    tables = {name: folder / f"{name}.csv" for name in ("manifest", "questions", *more.pop("tables", ()))}
    inputs = {"features": "", "truth": "", "draws": 200} | tables | more  # the defaults are the demo's
    result = run("80_compare_methods", folder / "80", answers=[str(path) for path in runs], **inputs)
    return result, folder / "80"


def test_methods_of_known_quality_are_ranked_beside_their_floors(tmp_path):
    write_cohort(tmp_path, n_slides=103)
    quality = QUALITY | {"tcssa": (QUALITY["sparselearn"][0], 0.4)}
    runs = [write_run(tmp_path, m, k=k, accuracy=a, seed=s) for s in (0, 1) for m, (k, a) in quality.items()]
    result, out = compare(tmp_path, runs, tables=["truth"])
    assert result.status == "ran", result.error
    scores = pd.read_csv(out / "scores.csv")
    columns = "method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high,per_token"
    assert ",".join(scores.columns) == columns
    evidence = scores[(scores["group"] == "evidence") & (scores["seed"] == 1)].set_index("method")["accuracy"]
    assert evidence["sparselearn"] > evidence["random"] + 0.25
    assert {"majority", "majority_option", "longest_option", "text_only", "random_wrong_slide"} <= set(evidence.index)
    paired = pd.read_csv(out / "paired.csv").query("method == 'sparselearn' and group == 'evidence' and seed == 1")
    assert paired["difference"].item() == pytest.approx(evidence["sparselearn"] - evidence["random"])
    duels = pd.read_csv(out / "head_to_head.csv").query("group == 'evidence' and method == 'sparselearn'")
    duels = duels.set_index(["matched_by", "other"])
    verdicts = duels["verdict"].loc[[("k", "tcssa"), ("operations", "tcssa")]]
    assert set(verdicts) == {"above in these runs"}  # fewer than five seeds
    both = scores[(scores["group"] == "evidence") & ~scores["method"].str.contains("_")].groupby("method")["accuracy"]
    assert duels.loc[("k", "tcssa"), "difference"] == pytest.approx(both.mean()["sparselearn"] - both.mean()["tcssa"])
    assert pd.read_csv(out / "papers.csv")["n_questions"].max() == 1473
    selection = pd.read_csv(out / "selection.csv")
    assert ",".join(selection.columns) == "method,k,seed,recall,chance,precision,ci_low,ci_high"
    assert {"norm", "outlier", "knn"} <= set(selection["method"]) and set(selection["seed"]) == {0, 1}
    assert set(pd.read_csv(out / "auc.csv")["group"]) == {"finding", "presence", "tissue"}
    by_auc = pd.read_csv(out / "auc_pairs.csv").set_index(["group", "method", "other"])
    assert by_auc.loc[("finding", "sparselearn", "tcssa"), "verdict"] == "above in these runs"
    assert {"scores.png", "soft_and_hard.png", "selection.png", "head_to_head.png"} <= set(
        json.loads((out / "receipt.json").read_text())["outputs"]
    )


def test_methods_of_different_k_are_compared_by_operations_alone(tmp_path):
    write_cohort(tmp_path, n_slides=31)
    runs = [write_run(tmp_path, method, k=k, accuracy=0.7) for method, k in (("sparselearn", 40), ("tcssa", 41))]
    result, out = compare(tmp_path, runs)
    assert result.status == "ran", result.error
    duels = pd.read_csv(out / "head_to_head.csv")
    assert set(duels["matched_by"]) == {"operations"} and duels["difference"].notna().all()
    assert (out / "head_to_head.png").exists()


def test_one_question_for_all_slides_is_scored_as_classification_in_every_fold(tmp_path):
    write_cohort(tmp_path, n_slides=103, same_question=True, folds=5)
    runs = [write_run(tmp_path, "mean", k=7, accuracy=0.9, fold=fold) for fold in range(5)]
    result, out = compare(tmp_path, runs, floor="mean_wrong_slide")
    assert result.status == "ran", result.error
    aucs = pd.read_csv(out / "auc.csv")
    assert aucs.groupby("method")["fold"].nunique().to_dict() == {"mean": 5, "mean_wrong_slide": 5, "mean_pool_lr": 5}
    means = aucs.groupby("method")["auc"].mean()
    assert means["mean_pool_lr"] > 0.85 and means["mean"] > means["mean_wrong_slide"] + 0.2
    assert (out / "auc.png").exists() and pd.read_csv(out / "selection.csv")["method"].tolist() == ["mean"]


def test_a_changed_question_table_is_refused(tmp_path):
    write_cohort(tmp_path, n_slides=31)
    run_folder = write_run(tmp_path, "mean", k=7, accuracy=0.5)
    table = pd.read_csv(tmp_path / "questions.csv")
    table.loc[table.index[-1], "A"] += " "
    table.to_csv(tmp_path / "questions.csv", index=False)
    result, out = compare(tmp_path, [run_folder])
    assert result.status == "failed" and "before comparing" in result.error
    assert not (out / "receipt.json").exists() and not (out / "scores.csv").exists()


def test_a_label_table_becomes_a_cohort(tmp_path):
    generator, names = np.random.default_rng(0), [f"case{i // 2}-{i}" for i in range(75)]
    write_packed(tmp_path / "store.h5", [make_bag(name, generator.normal(size=(9, 5)), None, {}) for name in names])
    labels = pd.DataFrame({"slide_id": [f"{n}.svs" for n in names], "case_id": [n.split("-")[0] for n in names]})
    labels.assign(grade=generator.choice(["low", "high"], size=75)).to_csv(tmp_path / "labels.csv", index=False)
    files = {"labels": tmp_path / "labels.csv", "store": tmp_path / "store.h5"}
    result = run("05_ask_labels", tmp_path / "05", label="grade", text="Which grade?", **files)
    assert result.status == "ran", result.error
    manifest, questions = read_manifest(tmp_path / "05/manifest.csv"), read_questions(tmp_path / "05/questions.csv")
    assert sorted(manifest.table["split"].unique()) == list("01234")
    assert (manifest.root / manifest.table["feature_path"][0]).resolve() == (tmp_path / "store.h5").resolve()
    assert len(questions) == 75 and {q.options for q in questions} == {("low", "high"), ("high", "low")}


def test_stores_of_single_kinds_become_mosaics(tmp_path):
    """Nine kinds of 60 slides, two with subtypes: bags for the same experiment, their evidence planted."""
    rng, stores, labels = np.random.default_rng(0), [], []
    for kind in range(9):
        names = [f"k{kind}-{i}" for i in range(60)]
        stores.append(tmp_path / f"k{kind}.h5")
        write_packed(stores[-1], [make_bag(n, rng.normal(kind, 1, size=(17, 5)), None, {}) for n in names])
        labels += [(n, n, f"s{i % 7}", "low" if i % 2 else "high") for i, n in enumerate(names) if kind < 2]
    columns = ["slide_id", "case_id", "site", "grade"]
    pd.DataFrame(labels, columns=columns).to_csv(tmp_path / "labels.csv", index=False)
    how = {"sizes": [9, 5, 4, 3], "numbers": [3, 4], "tokens": 21, "bags": [20, 4, 8], "subtype": "grade"}
    given = {"stores": [str(path) for path in stores], "labels": [str(tmp_path / "labels.csv")]}
    result = run("07_make_mosaics", tmp_path / "07", **given, **how)
    assert result.status == "ran", result.error
    out = tmp_path / "07"
    manifest, asked = read_manifest(out / "manifest.csv"), read_questions(out / "questions.csv")
    bags = load_available_bags(manifest, None, manifest.table["slide_id"])
    assert {len(bag.x) for bag in bags.values()} == {21} and len(bags) == 32 and len(asked) == 5 * 32
    owned = pd.read_csv(out / "owners.csv")
    for name, part in by_token(owned).sort_values("index").groupby("slide_id"):
        kinds = part["kind"].str[1:].astype(int).to_numpy()  # so far apart that a token tells its own
        assert np.abs(bags[name].x.mean(1) - kinds).max() < 2.5
        small = part.loc[part["role"].isin(["rare", "subtype"]), "index"].tolist()
        assert planted_tiles(bags[name], read_truth(out / "truth.csv")).tolist() == small
        assert part["role"].ne(part["role"].shift()).sum() > part["role"].nunique() + 1  # shuffled
