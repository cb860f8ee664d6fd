"""Verdicts on methods: the variance from naive loops, and how often they are wrong and right when it is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from slidesieve.evaluation import verdicts
from slidesieve.evaluation.stats import LEVEL, resampled_weights, unspread, wilson
from slidesieve.evaluation.verdicts import between_methods, between_variants, judged, mean_runs, over_seeds

HOW = {"draws": 300, "seed": 3}


def rows(s=5, patients=23, seed=0):
    """Answers of two methods, one to four questions a patient, the same for all seeds."""
    rng = np.random.default_rng(seed)
    case = np.repeat([f"p{i}" for i in range(patients)], rng.integers(1, 5, size=patients))
    part = pd.DataFrame({"seed": np.repeat(np.arange(s), len(case)), "case_id": np.tile(case, s)})
    one, other = (pd.Series((rng.random(len(part)) < share).astype(float), index=part.index) for share in (0.7, 0.5))
    order = rng.permutation(len(part))
    return part.iloc[order], one.iloc[order], other.iloc[order]


def naive_variance(part, values, *, draws, seed):
    """V and its parts by loops: every resampling, seed and patient one by one."""
    cases, seeds = sorted(part["case_id"].unique()), sorted(part["seed"].unique())
    more = np.random.default_rng(seed)
    weights = [
        w
        for start in range(0, draws, 250)
        for w in more.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=min(250, draws - start))
    ]
    drawn = []
    for value in values:
        by_seed = []
        for s in seeds:
            own = [
                [v for v, c, z in zip(value, part["case_id"], part["seed"], strict=True) if (c, z) == (case, s)]
                for case in cases
            ]
            by_seed.append(
                [
                    sum(w * sum(v) for w, v in zip(weight, own, strict=True))
                    / sum(w * len(v) for w, v in zip(weight, own, strict=True))
                    for weight in [np.ones(len(cases)), *weights]
                ]
            )
        drawn.append(np.array(by_seed))
    of_seeds = [np.var(d[:, 0], ddof=1) / len(seeds) for d in drawn]
    both = 0.0
    for d in drawn:
        for s in range(len(seeds)):
            both += np.var(d[s, 1:] - d[:, 1:].mean(0), ddof=1) / (len(seeds) * (len(seeds) - 1))
    signs = [1, -1][: len(values)]
    together = sum(sign * d[:, 1:].mean(0) for sign, d in zip(signs, drawn, strict=True))
    of_patients = max(0.0, np.var(together, ddof=1) - both)
    value = sum(sign * d[:, 0].mean() for sign, d in zip(signs, drawn, strict=True))
    return value, of_seeds, of_patients, len(cases)


@pytest.mark.parametrize("one_sample", [False, True])
def test_interval_and_p_are_those_of_the_loops(one_sample):
    part, one, other = rows()
    values = [one - other] if one_sample else [one, other]
    told = between_variants(part, one - other, **HOW) if one_sample else between_methods(part, one, other, **HOW)
    value, of_seeds, of_patients, n = naive_variance(part, values, **HOW)
    variance = sum(of_seeds) + of_patients
    freedom = variance**2 / (sum(v**2 / 4 for v in of_seeds) + of_patients**2 / (n - 1))
    half = student.ppf((1 + LEVEL) / 2, freedom) * variance**0.5
    assert told.estimate == pytest.approx((value, value - half, value + half))
    assert told.p == pytest.approx(2 * student.sf(abs(value) / variance**0.5, freedom))
    assert (told.p < 0.05) == (told.estimate.low > 0 or told.estimate.high < 0)


def test_fewer_than_five_seeds_tell_of_these_runs_alone():
    part, one, other = rows(s=4)
    copies = [between_methods(p, a, b, **HOW) for p, a, b in (
        (part, one, other), (part.assign(seed=part["seed"] + 9), one, other))]  # fmt: skip
    assert copies[0] == copies[1] == between_variants(part, one - other, **HOW)
    table = pd.DataFrame({"difference": [0.2, -0.2, 0.2, 0.0], "p": [0.01, 0.01, 0.01, 0.9], "n_seeds": [4, 4, 5, 5]})
    told = judged(table.assign(group=["a", "b", "c", "d"]), ["group"])["verdict"].tolist()
    assert told == ["above in these runs", "below in these runs", "above", "not told apart"]


def test_a_method_does_not_differ_from_itself_and_what_is_undefined_has_no_p():
    part, one, _ = rows()
    assert between_methods(part, one, one, **HOW).p == 1
    assert between_variants(part, one - one, **HOW) == (unspread(0.0, 23), 1)
    assert np.isnan(between_methods(part.assign(case_id="p"), one, 1 - one, **HOW).p)
    runs = mean_runs(part, one * np.nan, **HOW)
    lost = over_seeds([runs], (1,), n_patients=23)
    assert np.isnan([*lost.estimate, lost.p]).all()
    none = pd.DataFrame({"difference": [np.nan], "p": [np.nan], "n_seeds": [5], "group": "a"})
    assert judged(none, ["group"])["verdict"].tolist() == [""]


def test_slides_of_one_patient_are_one_draw():
    """Each patient asked three times over says what it says once."""
    part, one, other = rows()
    thrice = [pd.concat([x] * 3, ignore_index=True) for x in (part, one, other)]
    assert between_methods(*thrice, **HOW).estimate == pytest.approx(between_methods(part, one, other, **HOW).estimate)


def test_accuracy_counts_seeds_from_five_on():
    part, one, _ = rows()
    noisy = part.assign(correct=one > 0)
    few = noisy[noisy["seed"] < 4]
    apart = noisy.assign(correct=np.where(noisy["seed"] == 0, True, noisy["correct"]))
    widths = [np.diff(verdicts.accuracy_of_runs(x, **HOW)[1:]).item() for x in (few, noisy, apart)]
    assert widths[2] > 1.5 * widths[1] and verdicts.accuracy_of_runs(apart, **HOW).high <= 1


def test_few_questions_or_patients_tell_nothing_whatever_the_interval_says():
    assert [verdicts.too_few(*n) for n in ((29, 50), (30, 9), (30, 10))] == [True, True, False]
    table = pd.DataFrame(
        [(0.001, 50, 5, 10), (0.001, 150, 5, 10), (0.001, 30, 1, 9), (np.nan, 10, 1, 1), (0.6, 60, 1, 12)],
        columns=["p", "n_pairs", "n_seeds", "n_patients"],
        index=[4, 2, 9, 1, 7],
    ).assign(difference=0.1, group=list("abcde"))
    said = judged(table, ["group"])["verdict"]
    few, untold = verdicts.TOO_FEW, "not told apart in these runs"
    assert said.tolist() == [few, "above", few, "", untold] and said.index.tolist() == [4, 2, 9, 1, 7]
    alone = judged(table.drop(columns="n_pairs"), ["group"])["verdict"]  # slides, not questions, are counted
    assert alone.tolist() == ["above", "above", few, "", untold]


def test_without_any_spread_there_is_no_certainty():
    part, _, _ = rows()
    right = part.assign(correct=True)
    four = right[right["case_id"].isin(sorted(right["case_id"].unique())[:4])]
    assert verdicts.accuracy_of_runs(four, **HOW) == wilson(4, 4)  # not 100 to 100
    told = between_methods(four, four["correct"] * 1.0, four["correct"] * 0.0, **HOW)
    assert told.p == 2**-3 and told.estimate == unspread(1.0, 4) and told.estimate.low < 0.1


def test_seeds_of_one_score_on_patients_of_their_own_have_what_resampling_shows():
    """Always one of two letters, which of them by seed: each seed is right on half, V is cut off at 0."""
    n, s = 40, 5
    part = pd.DataFrame({"seed": np.repeat(range(s), n), "case_id": np.tile([f"p{i:02}" for i in range(n)], s)})
    half = np.tile(np.arange(n) % 2, s)
    right = pd.Series(np.where(np.isin(part["seed"], (0, 3)), half, 1 - half), dtype=float)
    value, low, high = verdicts.accuracy_of_runs(part.assign(correct=right > 0), draws=400, seed=0)
    mean_of_patient = np.where(np.arange(n) % 2, 2 / 5, 3 / 5)
    weights = np.concatenate(list(resampled_weights(n, draws=400, seed=0)))
    sd = ((weights @ mean_of_patient) / n).std(ddof=1)
    reach = student.ppf((1 + LEVEL) / 2, n - 1) * sd
    assert (value, low, high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach)) and reach > 0.02


def test_a_verdict_is_not_lost_to_the_number_of_comparisons_where_no_draw_crosses():
    """Sixty pairs of one run each: without a tail the least p of 200 draws would be 0.6 after Holm."""
    part = pd.DataFrame({"seed": 0, "case_id": [f"p{i}" for i in range(40)]})
    better = pd.Series(np.arange(40) < 30, dtype=float)
    p = between_methods(part, better, better * 0, draws=200, seed=0).p
    assert 2 ** (1 - 40) <= p < 0.05 / 60


# --- simulation: the truth is known

PATIENTS, QUESTIONS, SD, TRIALS = 200, 4, 0.04, 400


def told_apart(s: int, *, gain: float, sd: float, seed: int, trials: int = TRIALS) -> dict[str, float]:
    """How often two methods are told apart: by `verdicts`, by resampling both ways at once, by patients alone.

    A method's seeds differ by a normal of `sd`, the second is better by `gain`; patients and questions differ in how
    hard they are, for both methods alike.
    """
    rng, found = np.random.default_rng(seed), {"verdicts": 0, "both ways": 0, "patients": 0}
    for _ in range(trials):
        hard = rng.normal(size=(PATIENTS, 1)) + rng.normal(size=(PATIENTS, QUESTIONS))
        right = 0.6 + 0.25 * np.tanh(hard) + rng.normal(0, sd, (2, s, 1, 1)) + np.reshape([0, gain], (2, 1, 1, 1))
        share = (rng.random(right.shape) < right).mean(-1)
        weight = rng.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), size=300) / PATIENTS
        runs = [verdicts.Runs(y.mean(1), weight @ y.T) for y in share]
        apart = runs[1].resampled - runs[0].resampled
        seeds = rng.multinomial(s, np.full(s, 1 / s), size=300) / s
        for name, drawn in (("both ways", (apart * seeds).sum(1)), ("patients", apart.mean(1))):
            found[name] += 2 * min((drawn <= 0).mean(), (drawn >= 0).mean()) < 0.05
        found["verdicts"] += over_seeds(runs[::-1], (1, -1), n_patients=PATIENTS).p < 0.05
    return {name: count / trials for name, count in found.items()}


@pytest.mark.parametrize("sd", [0.0, SD])
def test_identical_methods_are_seldom_told_apart(sd):
    found = told_apart(5, gain=0, sd=sd, seed=1)
    assert found["verdicts"] <= 0.07
    assert sd == 0 or (found["patients"] > 0.3 and found["both ways"] > 0.08)  # the rules that this one replaces


@pytest.mark.parametrize(("sd", "share"), [(SD, 0.45), (SD / 2**0.5, 0.65)])
def test_a_difference_of_six_points_is_found_by_five_seeds_about_every_second_time(sd, share):
    """Where each method's seeds differ by 4 points, and where those of the difference do.

    Of normal seeds alone, the patients without number, Student's t would find 52 % of the former.
    """
    assert told_apart(5, gain=0.06, sd=sd, seed=2)["verdicts"] >= share
