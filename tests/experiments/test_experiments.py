"""Experiments beside each other: what differs, verdicts on the same questions, what is refused, what moved."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from fake_experiments import METHODS, compare, rewritten, write_experiment
from scipy.stats import t as student

from slidesieve.evaluation.verdicts import SEEDS, holm
from slidesieve.experiments.beside import Pair, beside, pairs_of
from slidesieve.experiments.found import find, read_experiment
from slidesieve.experiments.history import history, moved, sentences, steps
from slidesieve.experiments.settings import Setting, compare_settings
from slidesieve.provenance.receipts import commit_of

HOW = {"draws": 300, "seed": 0}
BETTER = METHODS | {"sparselearn": (7, 0.95)}
ALONE = {"random": (7, 0.4)}


def read(*folders):
    return [read_experiment(folder, folder.name) for folder in folders]


def of(table: pd.DataFrame, method: str, group: str = "all") -> pd.Series:
    (row,) = table[(table["method"] == method) & (table["group"] == group)].to_dict("records")
    return row


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Two experiments of five seeds on 103 slides, the later with a better sparselearn and another learning rate."""
    lab = tmp_path_factory.mktemp("lab")
    how = {"seeds": range(SEEDS), "n_slides": 103}
    first = write_experiment(lab / "a", day=3, lr=0.001, steps=200, **how)
    return read(first, write_experiment(lab / "b", day=10, lr=0.01, steps=200, methods=BETTER, **how))


@pytest.fixture(scope="module")
def table_of_five(five):
    return beside(*five, pairs_of(*five), **HOW)


def test_a_difference_is_that_of_the_same_questions_and_five_seeds_give_a_verdict(five, table_of_five):
    (a, b), table = five, table_of_five
    row, after, before = of(table, "sparselearn", "evidence"), b.answers, a.answers
    by = lambda t: t[(t["method"] == "sparselearn") & (t["broad"] == "Evidence")].set_index(["seed", "ID"])["correct"]  # noqa: E731
    one, other = by(after).sort_index(), by(before).sort_index()
    assert row["difference"] == pytest.approx(np.mean([one[key] - 1.0 * other[key] for key in one.index]))
    assert row["gained"] - row["lost"] == sum(one) - sum(other) and row["gained"] == sum(one & ~other)
    assert (row["accuracy_before"], row["accuracy"]) == (pytest.approx(other.mean()), pytest.approx(one.mean()))
    assert (row["n_seeds"], row["n_questions"], row["n_patients"]) == (5, 122, 61)
    assert row["verdict"] == "above" and row["ci_low"] > 0
    assert (of(table, "random")["difference"], of(table, "random")["verdict"]) == (0, "not told apart")


def test_the_interval_is_that_of_independent_seeds_and_of_patients_drawn_together(five, table_of_five):
    """Naive loops: every resampling draws patients once, for all seeds of both experiments."""
    (a, b), row = five, of(table_of_five, "sparselearn")
    tables = [e.answers[e.answers["method"] == "sparselearn"] for e in (a, b)]
    patients = sorted(set(tables[0]["case_id"]))
    weights = np.random.default_rng(0).multinomial(61, [1 / 61] * 61, size=300)
    value, resampled = [], []
    for table in tables:
        seeds = [t.groupby("case_id")["correct"].agg(["sum", "size"]).loc[patients] for _, t in table.groupby("seed")]
        value.append([s["sum"].sum() / s["size"].sum() for s in seeds])
        resampled.append(np.array([[(w * s["sum"]).sum() / (w * s["size"]).sum() for s in seeds] for w in weights]))
    v_seeds = sum(np.var(v, ddof=1) / 5 for v in value)
    v_both = sum(np.var(r - r.mean(1, keepdims=True), axis=0, ddof=1).sum() / 20 for r in resampled)
    v_patients = max(0, np.var(resampled[1].mean(1) - resampled[0].mean(1), ddof=1) - v_both)
    half = (row["ci_high"] - row["ci_low"]) / 2
    freedom = (v_seeds + v_patients) ** 2 / (
        sum((np.var(v, ddof=1) / 5) ** 2 / 4 for v in value) + v_patients**2 / (len(patients) - 1)
    )
    assert half == pytest.approx(student.ppf(0.975, freedom) * (v_seeds + v_patients) ** 0.5, rel=1e-9)


def test_holm_is_over_the_rows_of_a_group(table_of_five):
    for _, rows in table_of_five.groupby("group"):
        assert len(rows) == 3 and rows["p_holm"].tolist() == holm(rows["p"].to_numpy()).tolist()


def test_fewer_seeds_tell_of_these_runs_and_only_common_ones_are_compared(tmp_path):
    own, better = ({"sparselearn": row["sparselearn"]} for row in (METHODS, BETTER))
    a = write_experiment(tmp_path / "a", seeds=(0, 1, 2), methods=own)
    b = write_experiment(tmp_path / "b", seeds=(1, 2, 3), methods=better, day=2)
    c = write_experiment(tmp_path / "c", seeds=(7,), methods=own, day=3)
    a, b, c = read(a, b, c)
    row = of(beside(a, b, pairs_of(a, b), **HOW), "sparselearn")
    assert (row["seeds"], row["n_seeds"], row["verdict"]) == ("1+2", 2, "above in these runs")
    apart = of(beside(a, c, pairs_of(a, c), **HOW), "sparselearn")
    assert apart["refused"] == "they have no seed in common (0, 1, 2 and 7)" and np.isnan(apart["p"])
    assert apart["verdict"] == "" and np.isnan(apart["difference"])
    assert compare_settings(a, b).differing == [Setting("seeds", "", "0, 1, 2", "1, 2, 3")]


def test_a_run_beside_itself_differs_in_nothing(five):
    a, _ = five
    table = beside(a, a, pairs_of(a, a), **HOW)
    assert set(table["difference"]) == {0} and set(table["gained"]) == set(table["lost"]) == {0}
    assert set(table["verdict"]) == {"not told apart"} and set(table["p_holm"]) == {1}
    assert compare_settings(a, a) == ([], 2 * 2 + 1)  # lr and steps of two stages, the question file of one
    assert sentences(table[table["group"] == "all"]) == [
        "The same answers are right as before, of every method: the difference is 0."
    ]


def test_one_patient_has_a_difference_and_no_verdict(tmp_path):
    folders = [write_experiment(tmp_path / name, n_slides=23, methods=ALONE) for name in "ab"]
    for folder in folders:
        for place in (folder / "60_answer_questions").iterdir():
            rewritten(place, lambda table: table.assign(case_id="one"))
        compare(folder, sorted((folder / "60_answer_questions").iterdir()), code={}, commit="", settings={}, day=1)
    a, b = read(*folders)
    table = beside(a, b, pairs_of(a, b), **HOW)
    assert table["p"].isna().all() and set(table["verdict"]) == {""} and set(table["difference"]) == {0}


def test_other_questions_and_other_coverage_are_refused_with_the_reason(tmp_path):
    plain, other = (write_experiment(tmp_path / name, n_slides=n, day=n) for name, n in (("a", 23), ("other", 27)))
    few = write_experiment(tmp_path / "few", n_slides=23, uncovered=("s002",), day=28)
    a, other, few = read(plain, other, few)
    table = beside(a, other, pairs_of(a, other), **HOW)
    assert set(table["group"]) == {"all"} and len(table) == 3  # one reason a method, not one a group
    assert all(reason.startswith("they are of two benchmarks (file ") for reason in table["refused"])
    covered = beside(a, few, pairs_of(a, few), **HOW)
    assert covered["difference"].isna().all() and covered["verdict"].eq("").all()
    assert "they cover 1.000 and 0.9" in of(covered, "random")["refused"]
    said = sentences(covered[covered["group"] == "all"])
    assert len(said) == 1 and said[0].startswith(
        "Not compared: SparseLearn (k = 7), random (k = 7), text only: they cover"
    )


def test_a_prompt_that_differs_is_noted_and_compared(tmp_path):
    a, b = (write_experiment(tmp_path / name, n_slides=23, methods=ALONE) for name in "ab")
    for folder, prompt in ((a, "Look."), (b, "Look well.")):
        path = folder / "80_compare_methods"
        rewritten(path, lambda t, said=prompt: t.assign(prompt=said, head="text"), "score_ledger.csv")
    a, b = read(a, b)
    assert of(beside(a, b, pairs_of(a, b), **HOW), "random")["note"] == 'prompt: "Look." and "Look well."'


def test_named_methods_meet_at_the_same_k_or_where_one_has_none(five):
    a, b = five
    named = [("random", "sparselearn"), ("text_only", "sparselearn")]
    pairs = pairs_of(a, b, named)
    assert (
        pairs[-2:] == [Pair("random", 7, "sparselearn", 7), Pair("text_only", 0, "sparselearn", 7)] and len(pairs) == 5
    )
    table = beside(a, b, pairs[-2:-1], **HOW)
    own = b.answers[b.answers["method"] == "sparselearn"]["correct"].mean()
    assert of(table, "sparselearn")["difference"] == pytest.approx(
        own - a.answers[a.answers["method"] == "random"]["correct"].mean()
    )
    assert "SparseLearn (k = 7) is above random (k = 7) of a: " in sentences(table[table["group"] == "all"])[0]
    with pytest.raises(ValueError, match="b has no method 'tcssa'; it has sparselearn, random, text_only"):
        pairs_of(a, b, [("random", "tcssa")])


def test_settings_that_differ_stand_in_words_and_the_rest_is_counted(tmp_path, five):
    assert compare_settings(*five) == ([Setting("lr", "60_answer_questions, 80_compare_methods", "0.001", "0.01")], 3)
    code = {"slidesieve.models.vlm.VLM": "a2", "slidesieve.training.loop.fit": "n"}
    how = {"n_slides": 23, "seeds": (0, 1), "lr": 0.001, "steps": 200}
    a = write_experiment(tmp_path / "a", methods=ALONE, **how)
    b = write_experiment(tmp_path / "b", methods=ALONE | {"kmeans": (7, 0.5)}, code=code, commit="abc123", **how)
    receipt = json.loads((b / "60_answer_questions/random_k7_s1/receipt.json").read_text())
    receipt["recipe"]["parameters"]["steps"] = 300
    receipt["environment"]["packages"]["torch"] = "2.14.0"
    (b / "60_answer_questions/random_k7_s1/receipt.json").write_text(json.dumps(receipt))
    told = compare_settings(*read(a, b))
    rows = {row.what: row[1:] for row in told.differing}
    assert rows["methods that the other has not"] == ("", "none", "k-means (k = 7)")
    assert rows["steps"] == ("60_answer_questions (random_k7_s1)", "200", "300")
    assert rows["code"][0] == "2 definitions that results depend on: models.vlm.VLM, training.loop.fit"
    assert rows["code"][2] == "abc123" and rows["torch"] == ("", "2.13.0", "2.13.0, 2.14.0")
    assert len(rows) == 4 and told.same == 5


def test_inputs_differ_by_content_and_what_an_experiment_made_itself_is_none(tmp_path):
    """A language model elsewhere is the same one; features of its own follow from settings, those given are one."""
    folders = [write_experiment(tmp_path / name, n_slides=23, methods=ALONE, steps=200) for name in "ab"]
    for folder, lm, features in zip(folders, ("m1", "m1"), ("f1", "f2"), strict=True):
        path = folder / "60_answer_questions/random_k7_s0/receipt.json"
        receipt = json.loads(path.read_text())
        receipt["given"] |= {"lm": f"/models/{folder.name}/tiny", "features": f"runs/{folder.name}/20_extract_features"}
        receipt["recipe"]["inputs"] |= {"lm": {"config.json": lm}, "features": {"s1.h5": features}}
        path.write_text(json.dumps(receipt))
    assert compare_settings(*read(*folders)).differing == []
    for folder in folders:
        path = folder / "60_answer_questions/random_k7_s0/receipt.json"
        receipt = json.loads(path.read_text())
        receipt["given"]["features"] = f"/data/{folder.name}/uni"
        receipt["recipe"]["inputs"]["lm"] = {"config.json": folder.name}
        path.write_text(json.dumps(receipt))
    told = compare_settings(*read(*folders)).differing
    where = "60_answer_questions"
    assert told == [Setting("language model", where, "a/tiny", "b/tiny"), Setting("features", where, "a/uni", "b/uni")]


def test_what_is_broken_or_not_finished_is_named_and_the_rest_is_read(tmp_path):
    how = {"n_slides": 23, "methods": ALONE}
    write_experiment(tmp_path / "late", day=5, **how)
    early = write_experiment(tmp_path / "deep" / "early", day=4, **how)
    for name in ("answered", "damaged", "unfinished", "altered"):
        shutil.copytree(early, tmp_path / name)
    (tmp_path / "damaged/60_answer_questions/random_k7_s0/receipt.json").write_text("{")
    shutil.rmtree(tmp_path / "unfinished/80_compare_methods")
    rewritten(tmp_path / "answered/60_answer_questions/random_k7_s0", lambda table: table.iloc[::-1])
    with (tmp_path / "altered/60_answer_questions/random_k7_s0/answers.csv").open("a") as file:
        file.write("\n")
    (tmp_path / "cohort").mkdir()
    there = find([tmp_path])
    assert [one.name for one in there.experiments] == ["early", "late"]
    why = dict(there.unread)
    assert why.keys() == {"answered", "damaged", "unfinished", "altered"}
    assert "answered again since 80_compare_methods" in why["answered"] and "damaged, no JSON" in why["damaged"]
    assert why["unfinished"].startswith("not finished: 80_compare_methods has no receipt.json")
    assert why["altered"] == "random_k7_s0/answers.csv: changed since it was written; run the experiment again"
    assert str(tmp_path) not in "".join(why.values())
    with pytest.raises(ValueError, match="no finished experiment among 1 "):
        find([tmp_path / "unfinished"])
    with pytest.raises(ValueError, match="no experiment in it; expected folders with stages"):
        find([tmp_path / "cohort"])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find([tmp_path / "nowhere"])


def test_a_history_looks_past_experiments_that_lack_the_method_or_asked_another_file(tmp_path):
    a = write_experiment(tmp_path / "a", day=1)
    b = write_experiment(tmp_path / "b", day=2, methods=ALONE)
    other = write_experiment(tmp_path / "other", day=3, n_slides=23, methods=ALONE)
    c = write_experiment(tmp_path / "c", day=4, methods={"sparselearn": (7, 0.95), "kmeans": (7, 0.5)} | ALONE)
    experiments = read(c, other, b, a)
    assert [(x.name, y.name) for x, y in steps(experiments)] == [("a", "b"), ("b", "c")]
    table = history(experiments, **HOW)
    assert table["experiment"].drop_duplicates().tolist() == ["a", "b", "other", "c"]
    newest = table[table["experiment"] == "c"].set_index("method")
    assert newest["before"].to_dict() == {"sparselearn": "a", "kmeans": "", "random": "b"}
    assert newest.loc["sparselearn", "verdict"] == "above in these runs" and newest.loc["random", "difference"] == 0
    scores = experiments[0].scores.query("group == 'all'").set_index("method")["accuracy"]
    assert newest["accuracy"].to_dict() == scores[["sparselearn", "kmeans", "random"]].to_dict()
    assert newest.loc["sparselearn", "wrong_slide"] == scores["sparselearn_wrong_slide"]
    assert newest.loc["kmeans", "random"] == scores["random"] and newest["text_only"].isna().all()
    assert table.loc[table["experiment"] == "a", "difference"].isna().all()
    (heading, said), (second, nothing) = moved(table)
    assert heading.startswith("c (2026-11-04), the newest of 3 experiments on question file ")
    gained = 100 * newest.loc["sparselearn", "difference"]
    assert said[0].startswith("SparseLearn (k = 7) is above a in these runs: ") and f"{gained:+.1f} points" in said[0]
    assert (
        "New: k-means (k = 7)." in said
        and "The same answers are right as before, of random (k = 7): the difference is 0." in said
    )
    assert second.startswith("other (2026-11-03), the only experiment") and nothing[0].startswith(
        "Nothing stands before"
    )


def test_a_receipt_s_commit_is_the_checkout_s_and_says_if_files_were_changed(tmp_path):
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y")
    assert commit_of(tmp_path) == ""
    (tmp_path / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "a.py"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit_of(tmp_path) == head[:12]
    (tmp_path / "a.py").write_text("2")
    assert commit_of(tmp_path) == f"{head[:12]}+"
