"""Statistics on cases worked by hand, and laws on random ones."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from slidesieve.datasets.questions import Question
from slidesieve.evaluation import stats
from slidesieve.evaluation.auroc import auroc, macro_auroc
from slidesieve.evaluation.floors import longest_option, majority_letter, majority_option
from slidesieve.evaluation.stats import clustered_accuracy, clustered_mean, clustered_ratio, paired_difference, wilson


def question(name, kind, options, answer):
    return Question(name, "s" + name, kind, "broad", "?", tuple(options), answer)


@pytest.mark.parametrize(("right", "asked"), [(0, 7), (3, 7), (7, 7), (61, 75)])
def test_wilson_is_scipys(right, asked):
    ends = binomtest(right, asked).proportion_ci(method="wilson")
    assert wilson(right, asked) == pytest.approx((right / asked, ends.low, ends.high))


def test_accuracy_is_over_questions_and_its_interval_over_slides():
    """Two slides, 3 of 3 and 0 of 1: 75 % of questions; a resample is all right, all wrong or the mix."""
    correct, slide = np.array([True, True, True, False]), np.array(["a", "a", "a", "b"])
    estimate = clustered_accuracy(correct, slide, draws=600, seed=3)
    assert estimate == (0.75, 0.0, 1.0)


def test_interval_widens_with_the_size_of_a_cluster():
    """60 slides asked five identical questions say as much as 60 questions, and not as much as 300."""
    generator = np.random.default_rng(5)
    once = generator.random(60) < 0.7
    slides = np.arange(60)
    single = clustered_accuracy(once, slides, draws=2000, seed=0)
    repeated = clustered_accuracy(np.repeat(once, 5), np.repeat(slides, 5), draws=2000, seed=0)
    independent = clustered_accuracy(np.repeat(once, 5), np.arange(300), draws=2000, seed=0)
    assert repeated == pytest.approx(single)
    ratio = (repeated.high - repeated.low) / (independent.high - independent.low)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.15)


def test_interval_agrees_with_the_normal_one_on_independent_questions():
    correct = np.arange(400) < 300
    estimate = clustered_accuracy(correct, np.arange(400), draws=4000, seed=1)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert estimate == pytest.approx((0.75, 0.75 - half, 0.75 + half), abs=0.004)


def test_interval_covers_the_truth_as_often_as_it_says():
    """Slides differ in difficulty (beta), 1 to 6 questions each; 95 % intervals cover the mean in 90 to 99 %."""
    generator, covered = np.random.default_rng(11), 0
    for trial in range(200):
        slide = np.repeat(np.arange(77), generator.integers(1, 7, size=77))
        correct = generator.random(len(slide)) < generator.beta(3, 2, size=77)[slide]
        estimate = clustered_accuracy(correct, slide, draws=300, seed=trial)
        covered += estimate.low <= 0.6 <= estimate.high
    assert 180 <= covered <= 198


def test_slides_that_agree_get_wilsons_interval_with_slides_as_n():
    """Ten slides, 40 questions, all right: no spread to resample, so n = 10 decides: 10 / (10 + 1.96^2) = 0.722."""
    estimate = clustered_accuracy(np.ones(40, dtype=bool), np.repeat(np.arange(10), 4), draws=100, seed=0)
    assert estimate == pytest.approx((1.0, 0.7225, 1.0), abs=1e-4)


def test_no_questions_is_an_error():
    with pytest.raises(ValueError, match="got no questions"):
        clustered_accuracy(np.zeros(0, dtype=bool), np.zeros(0), draws=10, seed=0)


def test_paired_difference_by_hand():
    """6 only a, 1 only b of 16: difference 5/16, exact p = 2 (C(7,0) + C(7,1)) / 2^7 = 0.125."""
    a = np.array([True] * 6 + [False] + [True] * 4 + [False] * 5)
    b = np.array([False] * 6 + [True] + [True] * 4 + [False] * 5)
    result = paired_difference(a, b, np.arange(16), draws=500, seed=0)
    assert (result.only_a, result.only_b, result.difference.value, result.p) == (6, 1, 5 / 16, 0.125)
    mirrored = paired_difference(b, a, np.arange(16), draws=500, seed=0)
    assert mirrored.difference.value == -5 / 16 and mirrored.difference.low == pytest.approx(-result.difference.high)


def test_a_method_does_not_differ_from_itself():
    a = np.random.default_rng(0).random(33) < 0.5
    alike = paired_difference(a, a, np.arange(33), draws=100, seed=0)
    assert alike == (stats.unspread(0.0, 33), 0, 0, 1.0) and alike.difference.high == pytest.approx(0.1043, abs=1e-4)


def test_without_spread_an_interval_is_as_wide_as_wilsons_of_a_share_of_one():
    assert stats.unspread(1.0, 17, least=0.0) == pytest.approx(wilson(17, 17))
    assert stats.unspread(0.0, 17, least=0.0) == pytest.approx(wilson(0, 17))
    told = clustered_mean(np.full(12, 0.25), np.arange(12) // 2, draws=50, seed=0, least=-1.0, most=1.0)
    share = stats.Z**2 / (6 + stats.Z**2)
    assert told.estimate == pytest.approx((0.25, 0.25 - 1.25 * share, 0.25 + 0.75 * share))
    assert clustered_mean(np.full(12, 0.25), np.arange(12), draws=50, seed=0).estimate == (0.25, 0.25, 0.25)


def test_p_goes_on_where_draws_end_and_never_below_what_signs_can_say():
    draws = np.random.default_rng(0).normal(6.0, 1.0, 500)
    assert (draws > 0).all()
    assert stats.tested(6.0, draws, n_patients=200).p == pytest.approx(2 * norm.sf(6.0 / draws.std()))
    assert stats.tested(6.0, draws, n_patients=12).p == 2.0**-11
    assert stats.tested(6.0, draws, n_patients=5).p == 2 / 501  # as it was: a tail makes no p larger
    assert stats.tested(1.0, np.ones(500), n_patients=200).p == 2.0**-199
    crossed = np.append(draws, -0.1)
    assert stats.tested(6.0, crossed, n_patients=200).p == pytest.approx(4 / 502)


def test_an_undefined_score_has_neither_interval_nor_p():
    """No value; a value without a defined draw; one patient: nothing may be read from any."""
    tested = partial(stats.tested, n_patients=40)
    for told in (tested(np.nan, np.zeros(9)), tested(0.3, np.full(9, np.nan))):
        assert np.isnan([told.estimate.low, told.estimate.high, told.p]).all()
    part = tested(0.3, np.array([np.nan] * 90 + [-1.0] + [1.0] * 9))
    assert part.p == pytest.approx(2 * 2 / 11) and part.estimate.low > -1  # ten draws, not a hundred
    alone = clustered_mean(np.array([1.0, 0.0]), np.array(["p", "p"]), draws=99, seed=0)
    assert alone.estimate.value == 0.5 and np.isnan([alone.estimate.low, alone.estimate.high, alone.p]).all()


def test_auroc_resamples_patients_with_all_their_slides():
    generator = np.random.default_rng(4)
    probability, label = generator.dirichlet([2, 2], size=60), generator.integers(0, 2, size=60)
    one, twice = (np.repeat(part, 2, axis=0) for part in (probability, label))
    single = macro_auroc(probability, label, np.arange(60), draws=300, seed=0)
    assert macro_auroc(one, twice, np.repeat(np.arange(60), 2), draws=300, seed=0) == pytest.approx(single)


def test_auroc_by_hand():
    """Positives 3, 1 against negatives 2, 1: won 2 + 0.5 of 4 pairs; a slide drawn twice counts twice."""
    score, positive = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    weight = np.array([[1.0, 1, 1, 1], [2, 1, 1, 0], [0, 0, 2, 2]])
    np.testing.assert_allclose(auroc(score, positive, weight), [2.5 / 4, 2 / 3, np.nan])


def test_auroc_is_sklearns_with_ties_and_weights():
    generator = np.random.default_rng(2)
    score, positive = generator.integers(0, 9, size=75).astype(float), generator.random(75) < 0.4
    weight = generator.integers(0, 3, size=(7, 75)).astype(float)
    expected = [roc_auc_score(positive, score, sample_weight=row) for row in weight]
    np.testing.assert_allclose(auroc(score, positive, weight), expected)


def test_macro_auroc_averages_classes_and_refuses_an_absent_one():
    generator = np.random.default_rng(3)
    probability = generator.dirichlet([1, 1, 1], size=81)
    label = generator.integers(0, 3, size=81)
    estimate = macro_auroc(probability, label, np.arange(len(label)), draws=300, seed=0)
    assert estimate.value == pytest.approx(roc_auc_score(label, probability, multi_class="ovr"))
    assert estimate.low < estimate.value < estimate.high
    with pytest.raises(ValueError, match=r"no slide of class \[2\]"):
        macro_auroc(probability, label % 2, np.arange(len(label)), draws=10, seed=0)


def test_majority_letter_is_the_key_share_of_each_kind():
    train = [question(str(i), "x", "abcd", answer) for i, answer in enumerate([2, 2, 2, 1, 0])]
    train += [question(str(i + 9), "y", "ab", answer) for i, answer in enumerate([1, 1, 0])]
    asked = [question("1", "x", "abcd", 0), question("2", "y", "ab", 1), question("3", "new", "abcd", 3)]
    assert majority_letter(train, asked) == [2, 1, 1]  # "new": of all eight keys, 1 is right three times, as is 2
    six = [question("e", "x", "abcdef", 4), question("f", "x", "abcdef", 4)]
    assert majority_letter(six, six) == [4, 4]  # of more options than SlideBench's
    floor = np.array(majority_letter(train, train[:5]))
    assert (floor == [q.answer for q in train[:5]]).mean() == 3 / 5  # I48


def test_majority_option_follows_the_words_not_the_letter():
    train = [question("1", "x", ["fat", "nerve"], 1), question("2", "x", ["nerve", "fat"], 0)]
    train += [question("3", "x", ["fat", "gland"], 0)]
    asked = [question("4", "x", ["gland", "nerve", "fat"], 2), question("5", "x", ["cyst", "gland"], 1)]
    assert majority_option(train, asked) == [1, 0]


def test_longest_option_is_the_first_of_equals():
    assert longest_option([question("1", "x", ["aa", "bbbb", "cccc"], 0)]) == [1]


def test_overall_is_the_count_weighted_mean_of_categories():
    """I48: accuracy over all questions = the mean of the categories' accuracies weighted by their counts."""
    generator = np.random.default_rng(7)
    correct, kind, slide = generator.random(75) < 0.6, generator.integers(0, 3, size=75), np.arange(75) // 4
    shares = [clustered_accuracy(correct[kind == c], slide[kind == c], draws=10, seed=0).value for c in range(3)]
    overall = clustered_accuracy(correct, slide, draws=10, seed=0).value
    assert overall == pytest.approx(np.average(shares, weights=np.bincount(kind)))


def test_a_ratios_interval_resamples_patients_with_all_their_slides():
    part, whole = np.array([2.0, 0, 1, 4, 0]), np.array([4.0, 1, 2, 4, 0])
    patient = np.array(["a", "a", "b", "c", "d"])
    found = clustered_ratio(part, whole, patient, draws=4000, seed=0)
    rng, own = np.random.default_rng(1), {"a": (2, 5), "b": (1, 2), "c": (4, 4), "d": (0, 0)}
    drawn = [[own[p] for p in rng.choice(list(own), 4)] for _ in range(20000)]
    ratios = [sum(x for x, _ in d) / sum(y for _, y in d) for d in drawn if sum(y for _, y in d)]
    assert found.value == 7 / 11
    assert abs(found.low - np.quantile(ratios, 0.025)) < 0.03 and abs(found.high - np.quantile(ratios, 0.975)) < 0.03
    assert np.isnan(clustered_ratio(part * 0, whole * 0, patient, draws=9, seed=0)).all()
    alone = clustered_ratio(part[:2], whole[:2], patient[:2], draws=9, seed=0)
    assert alone.value == 0.4 and np.isnan(alone.low)
