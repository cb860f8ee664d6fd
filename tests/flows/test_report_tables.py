"""The report's tables: seeds in one row, by hand."""

import pytest

from flows.report.tables import over_seeds, score_groups, score_rows, verdict_groups


def row(method: str, seed: int, recall: str, k: str = "8", **more: str) -> dict[str, str]:
    return {"method": method, "k": k, "seed": str(seed), "recall": recall, "chance": "0.05"} | more


def test_seeds_are_averaged_and_the_best_stands_first():
    rows = [row("fps", s, r) for s, r in enumerate(("0.25", "0.125", "0.75"))]
    rows += [row("kmeans", s, "") for s in range(3)] + [row("sieve", s, r) for s, r in enumerate(("0.5", "", "1.0"))]
    found = over_seeds(rows, "recall")
    assert [each["method"] for each in found] == ["sieve", "fps", "kmeans"]
    sieve, fps, kmeans = found
    assert list(fps) == ["method", "k", "seeds", "recall", "least", "most", "chance"]
    assert float(fps["recall"]) == pytest.approx(0.375) and (fps["least"], fps["most"]) == ("0.125", "0.75")
    assert float(sieve["recall"]) == 0.75 and sieve["seeds"] == "3" and sieve["chance"] == "0.05"
    assert (kmeans["recall"], kmeans["least"], kmeans["most"]) == ("", "", "")


def test_each_k_and_group_has_its_own_row_and_single_runs_keep_their_intervals():
    one = [row("fps", 0, "0.2", k=k, group=g, ci_low="0.1") for k in ("8", "32") for g in ("lung", "kidney")]
    assert over_seeds(one, "recall") == one
    two = over_seeds(one + [each | {"seed": "1", "recall": "0.4"} for each in one], "recall")
    assert [(each["group"], each["k"]) for each in two] == [
        ("kidney", "8"),
        ("kidney", "32"),
        ("lung", "8"),
        ("lung", "32"),
    ]
    assert all(float(each["recall"]) == pytest.approx(0.3) and "ci_low" not in each for each in two)


def test_folds_are_not_counted_as_seeds():
    rows = [row("fps", seed, "0.25", fold=str(fold)) for seed in range(2) for fold in range(3)]
    (only,) = over_seeds(rows, "recall")
    assert (only["seeds"], only["folds"]) == ("2", "3")


def test_pooled_scores_are_told_where_a_method_has_several_seeds():
    single, pooled = [{"method": "fps", "seed": "0"}], [{"method": "fps", "seeds": "0", "n_seeds": "1"}]
    assert score_rows({"scores.csv": single, "over_seeds.csv": pooled}) == [{"method": "fps", "seed": "1"}]
    pooled += [{"method": "sieve", "seeds": "0,1", "n_seeds": "2"}]
    assert [each["seed"] for each in score_rows({"scores.csv": single, "over_seeds.csv": pooled})] == ["1", "2"]


def test_the_same_questions_under_two_names_are_one_panel():
    told = {"method": "fps", "k": "8", "n_questions": "9", "n_slides": "3", "accuracy": "0.5", "ci_low": "0.4"}
    told |= {"ci_high": "0.6", "coverage": "1", "seed": "1"}
    rows = [told | {"group": group} for group in ("all", "label", "subtype")] + [
        told | {"group": "x", "accuracy": "0.6"}
    ]
    assert [(group["name"], group["title"]) for group in score_groups(rows)] == [
        ("all", "all = label = subtype"), ("x", "x"),
    ]  # fmt: skip


def test_a_rival_that_is_best_both_ways_stands_once_and_evidence_first():
    told = {"method": "sieve", "k": "8", "other": "kmeans", "other_k": "8", "verdict": "below"}
    told |= {"difference": "-0.125", "ci_low": "-0.2", "ci_high": "-0.05"}
    rows = [told | {"group": g, "matched_by": by} for g in ("all", "evidence") for by in ("k", "operations")]
    rows += [told | {"group": "all", "method": "tcssa", "matched_by": "k", "other_k": "4", "ci_low": "", "ci_high": ""}]
    evidence, every = verdict_groups(rows)
    assert (evidence["name"], every["name"]) == ("evidence", "all")
    (only,) = evidence["rows"]
    assert only["rival of"] == "the same k, and no more operations"
    assert only["difference (95 % interval)"] == "-12.5 (-20.0 to -5.0)"
    assert [each["best rival"] for each in every["rows"]] == ["k-means", "k-means, k = 4"]
    assert every["rows"][1]["difference (95 % interval)"] == "-12.5"
