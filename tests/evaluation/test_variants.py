"""Variants beside their reference, from naive loops: Holm, clustered differences and gaps, signs, tokens."""

import numpy as np
import pandas as pd
import pytest
from fake_runs import N_TILES, write_cohort, write_run

from slidesieve.answers.tables import read_answers, read_selection
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation import published, scores, variants
from slidesieve.evaluation.scores import named_groups
from slidesieve.evaluation.stats import clustered_mean
from slidesieve.evaluation.verdicts import holm

HOW = {"reference": "sparselearn", "draws": 400, "seed": 0}
QUALITY = {"sparselearn": 0.8, "sparselearn:gate=scale": 0.5, "sparselearn:denoiser=global": 0.82}
K = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_slides=71)
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    written = [write_run(folder, m, k=K, accuracy=a, seed=s) for s in (0, 1, 2) for m, a in QUALITY.items()]
    return [*written, write_run(folder, "all", k=0, accuracy=0.95), write_run(folder, "text_only", k=0, accuracy=0.3)]


@pytest.fixture(scope="module")
def asked(folder):
    return read_questions(folder / "questions.csv")


@pytest.fixture(scope="module")
def given(folder, runs, asked):
    return read_answers(runs[:9], questions_path=folder / "questions.csv", questions=asked)


@pytest.fixture(scope="module")
def table(given):
    return variants.both_paths(given, reference="sparselearn")


def right(given, method, group="evidence"):
    """Map (seed, question) to whether a method was right, by a loop over the rows."""
    rows = given[(given["method"] == method) & (given["broad"].str.lower() == group)]
    return {(r.seed, r.ID): (float(r.correct), r.Slide) for r in rows.itertuples()}


def resampled_means(value, slide, *, draws, seed):
    """Draw whole slides and average all their rows, one resampling and one slide at a time."""
    names = sorted(set(slide))
    sums = {name: (sum(v for v, s in zip(value, slide, strict=True) if s == name), slide.count(name)) for name in names}
    generator, means = np.random.default_rng(seed), []
    for start in range(0, draws, 250):
        share = np.full(len(names), 1 / len(names))
        for times in generator.multinomial(len(names), share, size=min(250, draws - start)):
            pairs = [(t * sums[n][0], t * sums[n][1]) for t, n in zip(times, names, strict=True)]
            means.append(sum(total for total, _ in pairs) / sum(count for _, count in pairs))
    return means


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], [0.02]])
def test_holm_steps_down(p):
    expected = []
    for mine in p:
        smaller = [other for other in sorted(p) if other <= mine]
        expected.append(min(1.0, max(other * (len(p) - sorted(p).index(other)) for other in smaller)))
    assert holm(np.array(p)).tolist() == pytest.approx(expected)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_clustered_p_is_the_least_level_that_leaves_zero_out():
    generator = np.random.default_rng(1)
    value, slide = generator.normal(0.3, 1, size=75), np.repeat(np.arange(25), 3)
    tested = clustered_mean(value, slide, draws=999, seed=4)
    means = np.array(resampled_means(value.tolist(), slide.tolist(), draws=999, seed=4))
    fewer = min((means <= 0).sum(), (means >= 0).sum())
    assert tested.p == pytest.approx(2 * (fewer + 1) / 1000)
    assert tested.estimate == pytest.approx((value.mean(), *np.quantile(means, [0.025, 0.975])))
    assert clustered_mean(np.zeros(9), slide[:9], draws=99, seed=0).p == 1


def test_pooled_difference_is_the_mean_over_seeds_and_resamples_slides(given, table, asked):
    paired = variants.paired(table, asked, **HOW).query("group == 'evidence'").set_index(["method", "seeds"])
    reference = right(given, "sparselearn")
    for method in list(QUALITY)[1:]:
        other = right(given, method)
        assert other.keys() == reference.keys()
        value = [other[key][0] - reference[key][0] for key in sorted(reference)]
        slide = [reference[key][1] for key in sorted(reference)]
        row = paired.loc[(method, "0+1+2")]
        assert row["difference"] == pytest.approx(np.mean(value)) and row["n_pairs"] == len(value)
        ends = np.quantile(resampled_means(value, slide, draws=400, seed=0), [0.025, 0.975])
        assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(ends.tolist())
        assert row["only_variant"] == value.count(1.0) and row["only_reference"] == value.count(-1.0)
        own = [np.mean([v for v, key in zip(value, sorted(reference), strict=True) if key[0] == s]) for s in (0, 1, 2)]
        assert [paired.loc[(method, str(s)), "difference"] for s in (0, 1, 2)] == pytest.approx(own)
        assert row["seeds_below"] == sum(v < 0 for v in own) and row["seeds_above"] == sum(v > 0 for v in own)


def test_agreeing_seeds_do_not_narrow_the_interval(table, asked):
    """Three copies of one seed tell no more than that seed."""
    one = table[table["seed"] == 0]
    copies = pd.concat([one.assign(seed=s) for s in (0, 1, 2)])
    paired = variants.paired(copies, asked, **HOW).query("group == 'evidence'").set_index(["method", "seeds"])
    columns = ["difference", "ci_low", "ci_high", "p"]
    pooled, single = (paired.loc[("sparselearn:gate=scale", s), columns].tolist() for s in ("0+1+2", "1"))
    assert pooled == pytest.approx(single)


def test_the_verdict_is_holm_corrected_within_a_group(table, asked):
    paired = variants.paired(table, asked, **HOW)
    for _, part in paired[paired["pooled"]].groupby("group"):
        assert part["p_holm"].tolist() == pytest.approx(holm(part["p"].to_numpy()).tolist())
        words = ["not told apart" if p >= 0.05 else "below" if d < 0 else "above"
                 for p, d in zip(part["p_holm"], part["difference"], strict=True)]  # fmt: skip
        assert part["verdict"].tolist() == [f"{word} in these runs" for word in words]
    chosen = paired.query("pooled and group == 'evidence'").set_index("method")
    assert chosen.loc["sparselearn:gate=scale", "verdict"] == "below in these runs"
    assert chosen.loc["sparselearn:gate=scale", "seeds_below"] == 3
    assert (
        set(paired.loc[~paired["pooled"], "verdict"]) == {""} and paired.loc[~paired["pooled"], "p_holm"].isna().all()
    )


def test_gaps_and_their_differences(given, table, asked):
    gaps = variants.gaps(table, asked, **HOW).query("group == 'evidence' and pooled").set_index("method")
    hard, soft = right(given, "sparselearn"), right(given, "sparselearn_soft")
    base = {key: soft[key][0] - hard[key][0] for key in hard}
    assert gaps.loc["sparselearn", "gap"] == pytest.approx(np.mean(list(base.values())))
    assert np.isnan(gaps.loc["sparselearn", "difference"]) and gaps.loc["sparselearn", "verdict"] == ""
    method = "sparselearn:gate=scale"
    hard, soft = right(given, method), right(given, f"{method}_soft")
    value = [soft[key][0] - hard[key][0] - base[key] for key in sorted(base)]
    ends = np.quantile(resampled_means(value, [hard[k][1] for k in sorted(base)], draws=400, seed=0), [0.025, 0.975])
    row = gaps.loc[method]
    assert row[["difference", "ci_low", "ci_high"]].tolist() == pytest.approx([np.mean(value), *ends])


def test_the_table_holds_every_seed_and_their_median(runs, given, table, asked):
    by_seed = variants.by_seed(table, asked, read_selection(runs[:9]))
    row = variants.summary(by_seed).set_index(["method", "group"]).loc[("sparselearn:gate=scale", "evidence")]
    answers = right(given, "sparselearn:gate=scale")
    own = [np.mean([v for (s, _), (v, _) in answers.items() if s == seed]) for seed in (0, 1, 2)]
    assert row[["hard_s0", "hard_s1", "hard_s2"]].tolist() == pytest.approx(own)
    assert row["hard"] == pytest.approx(np.median(own)) and row["n_seeds"] == 3
    assert row["chance"] == pytest.approx(K / N_TILES)
    assert row["gap_s1"] == pytest.approx(row["soft_s1"] - row["hard_s1"])
    slides = pd.read_csv(runs[1] / "selection_slides.csv")
    assert row["recall_s0"] == pytest.approx(slides["n_kept_planted"].sum() / slides["n_planted"].sum())


def test_signs_are_compared_where_the_paper_has_one():
    rows = [("sparselearn:gate=scale", -0.1), ("sparselearn:denoiser=global", 0.02), ("sparselearn:gate=sqrt", -0.3)]
    paired = pd.DataFrame(rows, columns=["method", "difference"])
    table = variants.beside_paper(paired, published.ablation())
    assert table["sign_agrees"].tolist() == ["yes", "no", ""]
    assert table["paper_delta"].tolist()[:2] == pytest.approx([-0.0292, -0.017])


def test_what_cannot_be_compared_is_refused(given):
    with pytest.raises(ValueError, match="expected tcssa and variants named tcssa:"):
        variants.both_paths(given, reference="tcssa")
    is_variant = given["method"].str.startswith("sparselearn:gate=scale")
    with pytest.raises(ValueError, match=r"variants at k = \[7, 9\]"):
        variants.both_paths(given.assign(k=given["k"].where(~is_variant, 9)), reference="sparselearn")
    with pytest.raises(ValueError, match="gate=scale: no seed in common"):
        variants.both_paths(given.assign(seed=given["seed"].where(~is_variant, 5)), reference="sparselearn")
    other = given.assign(covered=given["covered"] & ~(is_variant & (given["Slide"] == given["Slide"].iloc[0])))
    with pytest.raises(ValueError, match="gate=scale: other slides covered"):
        variants.both_paths(other, reference="sparselearn")


def test_a_method_that_mixes_tiles_has_neither_gap_nor_recall(folder, asked):
    runs = [write_run(folder, method, k=K, accuracy=0.5) for method in ("mean", "mean:x=1")]
    for run in runs:
        pd.read_csv(run / "selection_slides.csv").iloc[:0].to_csv(run / "selection_slides.csv", index=False)
    given = read_answers(runs, questions_path=folder / "questions.csv", questions=asked)
    table = variants.both_paths(given, reference="mean")
    summary = variants.summary(variants.by_seed(table, asked, read_selection(runs)))
    assert summary[["soft", "gap", "recall", "chance"]].isna().all(axis=None) and summary["hard"].notna().all()
    how = {"reference": "mean", "draws": 99, "seed": 0}
    assert variants.gaps(table, asked, **how).empty and len(variants.paired(table, asked, **how)) == 2 * 6


def test_groups_are_named_or_the_broad_ones(asked):
    assert named_groups(asked, []) == ["evidence", "composition"]
    assert named_groups(asked, ["finding", "all"]) == ["finding", "all"]
    with pytest.raises(ValueError, match="group: got diagnosis; the questions have all, evidence, finding"):
        named_groups(asked, ["diagnosis"])


def test_tokens_are_k_or_what_was_kept(folder, runs, asked):
    tokens = scores.tokens([runs[0], runs[3], *runs[-2:]]).set_index(["method", "seed"])["tokens"]
    assert tokens.to_dict() == {("sparselearn", 0): K, ("sparselearn", 1): K, ("all", 0): N_TILES, ("text_only", 0): 0}
    chosen = [runs[0], runs[3], runs[6]]
    given = read_answers(chosen, questions_path=folder / "questions.csv", questions=asked)
    table = scores.by_tokens(given, asked, scores.tokens(chosen), draws=400, seed=0)
    pooled = table.query("group == 'evidence' and pooled").iloc[0]
    answers = right(given, "sparselearn")
    value, slide = map(list, zip(*(answers[key] for key in sorted(answers)), strict=True))
    ends = np.quantile(resampled_means(value, slide, draws=400, seed=0), [0.025, 0.975])
    assert pooled[["accuracy", "ci_low", "ci_high"]].tolist() == pytest.approx([np.mean(value), *ends])
    own = [np.mean([v for (s, _), (v, _) in answers.items() if s == seed]) for seed in (0, 1, 2)]
    assert pooled["median"] == pytest.approx(np.median(own)) and set(table["method"]) == {"sparselearn"}
