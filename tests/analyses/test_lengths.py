"""Length bins at their edges, subsets that depend on nothing else, and overlaps for selectors whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from run_here import run_here
from tiny_models import write_model_and_cohort
from torch import nn

from slidesieve.analyses import lengths, sentences
from slidesieve.analyses.lengths import (
    BIN_NAMES,
    Trend,
    accuracy_by_length,
    length_bin,
    lengthy,
    quantile_bins,
    random_tiles,
    stability,
    summary,
    trend,
)
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.features.bag import make_bag
from slidesieve.models.vlm import VLM
from slidesieve.provenance.files import ROOT

K = 7
HOW = {"answer_form": "text", "batch_tokens": 120}
CASES = {f"s{n}": f"p{n}" for n in (12, 75, 90, 131)}


def test_bins_at_their_edges():
    n = np.array([1, 63, 64, 127, 128, 2047, 2048, 4096, 4097, 100_000])
    assert [BIN_NAMES[i] for i in length_bin(n)] == [
        *("<64", "<64", "64-128", "64-128", "128-256"),
        *("1024-2048", "2048-4096", "2048-4096", ">4096", ">4096"),
    ]


def test_accuracy_by_length_by_hand():
    """Slides a (50 tiles, 2 of 3 right) and b (60 tiles, 0 of 1) share the first bin; c has 5,000 tiles."""
    slide, n_tiles = ["a", "a", "a", "b", "c"], [50, 50, 50, 60, 5000]
    answers = pd.DataFrame({"Slide": slide, "case_id": slide, "n_tiles": n_tiles})
    answers = answers.assign(correct=[True, True, False, False, True])
    table = accuracy_by_length(answers, draws=100, seed=0).set_index("bin")
    assert table.loc["<64", ["n_questions", "n_slides", "accuracy"]].tolist() == [4, 2, 0.5]
    assert table.loc["<64", ["ci_low", "ci_high"]].tolist() == [0.0, pytest.approx(2 / 3)]
    assert table.loc["<64", ["binomial_low", "binomial_high"]].tolist() == pytest.approx([0.15, 0.85], abs=0.001)
    assert table.loc[">4096", ["n_questions", "accuracy"]].tolist() == [1, 1.0]
    assert table.loc["512-1024", "n_questions"] == 0 and np.isnan(table.loc["512-1024", "accuracy"])
    assert table["n_questions"].sum() == 5 and tuple(table.index) == BIN_NAMES


@pytest.mark.parametrize(
    ("tiles", "names"),
    [
        (range(1, 41), ("1 to 10", "11 to 20", "21 to 30", "31 to 40")),
        ([7] * 25 + list(range(8, 23)), ("7 to 12", "13 to 22")),  # one length stays together
        ([9] * 33, ("9",)),
        (range(1000, 1019), ("1,000 to 1,018",)),  # too few for two bins of ten
        ([5], ("5",)),
    ],
)
def test_bins_are_cut_at_quantiles_and_hold_the_fewest_slides_at_least(tiles, names):
    bins = quantile_bins(np.array(list(tiles)), most=4, fewest=10)
    assert bins.names == names and len(bins.starts) == len(names) - 1
    counts = np.bincount(length_bin(np.array(list(tiles)), bins))
    assert len(counts) == len(names) and (len(names) == 1 or counts.min() >= 10)


def answered(tiles, correct):
    names = [f"s{i}" for i in range(len(tiles))]
    return pd.DataFrame({"Slide": names, "case_id": names, "n_tiles": tiles, "correct": correct})


def test_a_trend_is_the_slope_over_log2_of_the_tiles():
    """Of each length 2^e there are eleven slides of which e are right: a rise of 1/11 a doubling."""
    tiles = np.repeat(2 ** np.arange(12), 11)
    found = trend(answered(tiles, [j < e for e in range(12) for j in range(11)]), draws=400, seed=0)
    assert found.value == pytest.approx(1 / 11) and found.ci_low > 0.05 and not found.few
    assert (found.n_questions, found.shortest, found.longest) == (132, 1, 2048)
    assert np.polyfit(np.log2(tiles), [j < e for e in range(12) for j in range(11)], 1)[0] == pytest.approx(found.value)


def test_a_trend_of_one_length_is_not_known_and_one_of_few_is_said_to_be_so():
    same = trend(answered([128] * 40, [True] * 40), draws=50, seed=0)
    assert np.isnan(same[:3]).all() and not same.few
    assert trend(answered(range(2, 11), [True, False, True] * 3), draws=50, seed=0).few


TEMPLATE = ROOT / "notebooks/71_length_stability.md.j2"


@pytest.mark.parametrize(
    ("change", "bins", "begins"),
    [
        (Trend(0.02, 0.01, 0.03, 90, 45, 9, 300, False), 3, "**Longer slides are answered better.** In 3 bins"),
        (Trend(-0.02, -0.03, -0.01, 90, 45, 9, 300, False), 3, "**Longer slides are answered worse.**"),
        (Trend(0.02, -0.01, 0.05, 90, 45, 9, 300, False), 3, "**No effect of length is seen.**"),
        (Trend(0.3, 0.2, 0.4, 10, 10, 9, 300, True), 3, "**Too few to tell.** 10 questions on 10 slides"),
        (
            Trend(np.nan, np.nan, np.nan, 90, 45, 128, 128, False),
            1,
            "**This cohort cannot tell.** All its slides have 128",
        ),
        (Trend(0.02, -0.01, 0.05, 40, 15, 9, 300, False), 1, "**One bin.**"),
    ],
)
def test_what_length_does_is_said_or_why_it_cannot_be(change, bins, begins):
    said = sentences.fill(TEMPLATE, "trend", change=change, bins=["x"] * bins, fewest=10)
    assert said.startswith(begins)
    assert ("points (" in said) is ((bins == 1 and change.longest == 300) or begins.startswith("**L") or "No" in begins)


def test_the_papers_bins_are_compared_where_two_are_filled():
    said = [sentences.fill(TEMPLATE, "paper", filled=n, fewest=10, drawn=True) for n in (0, 1, 2)]
    assert [text.split(".**")[0] for text in said[:2]] == ["**Not shown"] * 2 and said[2].startswith("**2 of the paper")


def test_subsets_are_ascending_distinct_and_belong_to_the_slide():
    tiles = random_tiles("a", 75, size=33, draw=0, seed=0)
    assert len(tiles) == 33 and (np.diff(tiles) > 0).all() and tiles[-1] < 75
    assert tiles.tolist() == random_tiles("a", 75, size=33, draw=0, seed=0).tolist()
    for other in (("b", 0, 0), ("a", 1, 0), ("a", 0, 1)):
        again = random_tiles(other[0], 75, size=33, draw=other[1], seed=other[2])
        assert again.tolist() != tiles.tolist()
    with pytest.raises(ValueError, match="a: got 75 tiles, expected at least 76"):
        random_tiles("a", 75, size=76, draw=0, seed=0)


def test_every_tile_is_drawn_equally_often():
    counts = np.zeros(11)
    for draw in range(2000):
        counts[random_tiles("a", 11, size=3, draw=draw, seed=0)] += 1
    assert np.abs(counts / 2000 - 3 / 11).max() < 0.04


@pytest.fixture
def cohort():
    generator = np.random.default_rng(0)
    bags = {f"s{n}": make_bag(f"s{n}", generator.normal(size=(n, 5)), None, {}) for n in (12, 75, 90, 131)}
    questions = [Question(f"q{s}", s, "kind", "broad", "?", ("yes", "no"), 0) for s in bags]
    return bags, questions


class KnownBest(VLM):
    """Stands for a model in `stability`, which hands it on to (here replaced) answer and select."""

    def __init__(self, bags):
        nn.Module.__init__(self)
        self.best = {s: bag.x[:, 0].max() for s, bag in bags.items()}


def answer_by_best_tile(model, questions, bags, *, answer_form, batch_tokens):
    """Say yes while the slide's single best tile is offered."""
    asked = [q for q in questions if q.slide_id in bags]
    said = ["A" if bags[q.slide_id].x[:, 0].max() == model.best[q.slide_id] else "B" for q in asked]
    return pd.DataFrame({"ID": [q.id for q in asked], "Slide": [q.slide_id for q in asked], "predicted": said})


def keep_best(model, bags, *, batch_tokens):
    """Keep the K tiles of the highest first feature: a scorer that looks at each tile alone."""
    best = {s: np.argsort(-bag.x[:, 0])[:K] for s, bag in bags.items()}
    return {s: (tiles, bags[s].x[tiles, 0]) for s, tiles in best.items()}


def test_a_tilewise_selector_retains_everything(cohort, monkeypatch):
    bags, questions = cohort
    monkeypatch.setattr(lengths, "answer", answer_by_best_tile)
    monkeypatch.setattr(lengths, "select", keep_best)
    model = KnownBest(bags)
    full = answer_by_best_tile(model, questions, bags, **HOW)
    result = stability(model, questions, bags, full=full, sizes=[10, 33, 80, 500], draws=3, seed=0, **HOW)
    table = summary(result, CASES, draws=50, seed=0).set_index("size")
    assert table["n_slides"].to_dict() == {10: 4, 33: 3, 80: 2}  # only slides longer than the subset; none beyond 500
    assert (table["accuracy_full"] == 1).all() and (table["retained"] == 1).all()
    assert table["retained_chance"].tolist() == pytest.approx([K / 10, K / 33, K / 80])
    assert table["accuracy"].tolist() == pytest.approx(
        (1 - table["flips"]).tolist()
    )  # a flip is the only way to be wrong here
    assert table["jaccard"].is_monotonic_increasing and table.loc[80, "jaccard"] > 0.4
    _, rows = next(iter(result.kept.groupby(["size", "draw"])))
    assert set(rows["slide_id"]) == set(bags)


def test_overlaps_are_in_the_numbering_of_the_whole_bag(cohort, monkeypatch):
    """Keep the first K offered: the kept set of a subset is its K lowest numbers."""
    bags, questions = cohort
    monkeypatch.setattr(lengths, "answer", answer_by_best_tile)
    monkeypatch.setattr(
        lengths, "select", lambda model, bags, batch_tokens: {s: (np.arange(K), np.zeros(K)) for s in bags}
    )
    model = KnownBest(bags)
    full = answer_by_best_tile(model, questions, bags, **HOW)
    result = stability(model, questions, bags, full=full, sizes=[33], draws=2, seed=5, **HOW)
    for row in result.kept.itertuples():
        offered = random_tiles(row.slide_id, len(bags[row.slide_id].x), size=33, draw=row.draw, seed=5)
        common = len(set(range(K)) & set(offered[:K].tolist()))
        assert row.jaccard == common / (2 * K - common)
        assert row.retained == 1 if common else np.isnan(row.retained)  # the lowest that are left are kept again


def test_a_method_that_keeps_no_tile_has_no_overlap(cohort, monkeypatch):
    bags, questions = cohort
    monkeypatch.setattr(lengths, "answer", answer_by_best_tile)
    nothing = (np.empty(0, np.int64), np.empty(0))
    monkeypatch.setattr(lengths, "select", lambda model, bags, batch_tokens: dict.fromkeys(bags, nothing))
    model = KnownBest(bags)
    full = answer_by_best_tile(model, questions, bags, **HOW).assign(predicted=LETTERS[1])
    found = stability(model, questions, bags, full=full, sizes=[10], draws=1, seed=0, **HOW)
    table = summary(found, CASES, draws=9, seed=0)
    assert np.isnan(table[["jaccard", "retained", "retained_chance"]]).all(axis=None)
    assert table["accuracy_full"].item() == 0


def test_sizes_beyond_every_slide_have_no_rows_and_say_so(cohort, monkeypatch):
    bags, questions = cohort
    monkeypatch.setattr(lengths, "select", keep_best)
    found = stability(KnownBest(bags), questions, bags, full=pd.DataFrame(), sizes=[131, 500], draws=3, seed=0, **HOW)
    table = summary(found, CASES, draws=9, seed=0)
    assert table.empty and lengths.readable(table).empty
    said = sentences.fill(TEMPLATE, "shorter", sizes=table, smallest=131, longest=131)
    assert said.startswith("**Not shown.** The longest slide has 131 tiles and the smallest subset 131")


def test_answers_stand_beside_their_slides_length_and_patient(cohort):
    bags, questions = cohort
    said = pd.DataFrame({"ID": ["qs75", "qs12"], "Slide": ["s75", "s12"], "predicted": ["A", "B"]})
    table = lengthy(said, questions, bags, CASES)
    assert table[["correct", "case_id", "n_tiles"]].values.tolist() == [[True, "p75", 75], [False, "p12", 12]]


def test_the_notebook_runs_on_slides_of_many_lengths(tmp_path):
    sizes = np.random.default_rng(1).integers(9, 300, size=41)
    write_model_and_cohort(tmp_path, sizes)
    given = {name: str(tmp_path / f"{name}.csv") for name in ("manifest", "questions")}
    given |= {name: str(tmp_path / name) for name in ("checkpoint", "lm")}
    result = run_here(ROOT / "notebooks/71_length_stability.ipynb", tmp_path / "71", given | {"features": ""})
    assert result.status == "ran", result.error
    by_length = pd.read_csv(tmp_path / "71/by_length_paper.csv").set_index("bin")
    assert by_length["n_questions"].tolist() == np.bincount(length_bin(sizes), minlength=8).tolist()
    own = pd.read_csv(tmp_path / "71/by_length.csv")
    assert own["n_slides"].min() >= 10 and own["n_slides"].sum() == 41 and len(own) == 4
    assert (tmp_path / "71/by_length.png").exists()
    stable = pd.read_csv(tmp_path / "71/stability.csv").set_index("size")
    assert stable["n_slides"].to_dict() == {size: int((sizes > size).sum()) for size in (16, 32, 64, 256)}
    assert stable["retained"].between(0, 1).all() and stable["flips"].between(0, 1).all()
