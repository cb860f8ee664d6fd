"""Numbers in one form, tables set out for reading, and what 80 says of tables that tell something or too little."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.analyses import sentences
from slidesieve.provenance.files import ROOT

TEMPLATE = ROOT / "notebooks/80_compare_methods.md.j2"
nan = np.nan


def said(macro, **about):
    return sentences.fill(TEMPLATE, macro, **about).replace("\N{NO-BREAK SPACE}", " ")


def test_a_share_and_a_difference_are_said_with_their_intervals():
    assert sentences.percent_within(0.814, 0.7773, 0.848) == "81.4\N{NO-BREAK SPACE}% (77.7 to 84.8)"
    assert sentences.percent_within(0.5, nan, nan) == "50.0\N{NO-BREAK SPACE}%"
    assert sentences.points_within(-0.042, -0.1, 0.005) == "-4.2 points (-10.0 to +0.5)"
    rows = pd.DataFrame([(0.5, 0.4, 0.61), (nan, nan, nan), (0.125, nan, nan)], columns=list("abc"))
    assert sentences.intervals(rows, ("a", "b", "c")) == ["50.0 (40.0 to 61.0)", "", "12.5"]
    assert sentences.intervals(rows, ("a", "b", "c"), sign="+")[0] == "+50.0 (+40.0 to +61.0)"


def test_a_table_set_out_is_named_by_its_first_column():
    table = sentences.set_out({"tiles": pd.Series([7, 9], index=[4, 2]), "right (%)": ["1.0", "2.0"]})
    assert table.index.tolist() == [7, 9] and table.columns.name == "tiles" and table.index.name is None
    assert table.loc[9, "right (%)"] == "2.0"


COLUMNS = ["matched_by", "method", "k", "other", "other_k", "group", "n_seeds", "n_pairs", "n_patients"]
COLUMNS += ["difference", "ci_low", "ci_high", "verdict"]


def pairs(n_pairs=500, n_patients=60, verdict="above", difference=0.3):
    row = ("k", "tcssa", 8, "text_only", 0, "all", 5, n_pairs, n_patients, difference, 0.2, 0.4, verdict)
    return pd.DataFrame([row, (*row[:1], "sieve", *row[2:12], "not told apart")], columns=COLUMNS)


def test_verdicts_are_set_out_in_points():
    table = sentences.verdicts(pairs())
    assert table.loc["TC-SSA (k = 8)"].tolist() == ["text only", "+30.0 (+20.0 to +40.0)", "above"]


@pytest.mark.parametrize("macro", ["against_floors", "rivals", "duels"])
@pytest.mark.parametrize(("n", "patients"), [(50, 60), (500, 9)])
def test_ten_questions_or_nine_patients_are_too_few_for_every_verdict(macro, n, patients):
    more = {"most": 40, "rows": 1, "unmatched": []} if macro == "duels" else {}
    text = said(macro, table=pairs(n_pairs=n, n_patients=patients), **more)
    assert text.startswith("**Too few to tell**") and "above" not in text
    assert "Too few" not in said(macro, table=pairs(), **more)


@pytest.mark.parametrize("macro", ["against_floors", "rivals", "duels"])
def test_what_has_no_rows_says_why(macro):
    more = {"most": 40, "rows": 0, "unmatched": []} if macro == "duels" else {}
    assert said(macro, table=pairs().iloc[:0], **more).startswith("**Not shown.** No")


def test_verdicts_are_counted():
    assert said("against_floors", table=pairs()).startswith(
        "**Of 2 methods, each against the best of its floors: 1 above, 0 below, 1 not told apart.**"
    )
    duels = said("duels", table=pairs(), most=0, rows=2, unmatched=["a", "b"])
    assert duels.startswith("**Over all questions, of 2 pairs 1 is told apart**") and "more than 0" in duels
    assert duels.endswith("Not matched: a; b.")


def scored(n_seeds=5):
    rows = [("tcssa", 8, 0.61, 0.52, 0.67), ("all", 0, 0.5, 0.4, 0.6), ("majority", 0, 0.4, 0.3, 0.5)]
    table = pd.DataFrame(rows, columns=["method", "k", "accuracy", "ci_low", "ci_high"])
    return pd.concat([table.assign(group=group, n_seeds=n_seeds) for group in ("all", "evidence", "composition")])


def test_the_best_stands_beside_what_is_answered_without_a_slide():
    seen, blind = (scored().query(f"method {sign} 'majority'") for sign in ("!=", "=="))
    assert said("floors", blind=blind).startswith(
        "**Without a slide 40.0 % of all questions are answered correctly**, by maj"
    )
    text = said("scores", seen=seen, blind=blind)
    assert text == (
        "**Of 1 that choose or compress the best is TC-SSA (k = 8) 61.0 % (52.0 to 67.0)**; all tiles answer 50.0 % "
        "(40.0 to 60.0); without a slide the best is 40.0 %."
    )
    assert "One seed was trained" in said("scores", seen=seen.assign(n_seeds=1), blind=blind)
    assert said("scores", seen=seen.query("k == 0"), blind=blind).startswith("Nothing here chooses or compresses")


def test_rows_are_named_by_method_and_k():
    index = pd.MultiIndex.from_tuples([("all", 0), ("text_only", 0), ("tcssa", 8)], names=["method", "k"])
    table = sentences.by_run(pd.DataFrame({"evidence": ["1.0", "2.0", "3.0"]}, index=index))
    assert table.index.tolist() == ["all tiles", "text only", "TC-SSA (k = 8)"] and table.columns.name == "method"


def test_a_kind_in_which_a_method_loses_to_its_floor_is_named():
    lost = pairs(verdict="below", difference=-0.3).assign(group="composition")
    text = said("kinds", seen=scored().query("k > 0"), groups=["evidence", "composition"], floors=lost)
    assert "On evidence the best is TC-SSA (k = 8) 61.0 % (52.0 to 67.0);" in text
    assert "on composition TC-SSA (k = 8) is **below its floor** text only, -30.0 points" in text
    few = said(
        "kinds", seen=scored().query("k > 0"), groups=["evidence", "composition"], floors=lost.assign(n_pairs=50)
    )
    assert few.endswith("too few questions were asked to tell.") and "below its floor**" not in few
    assert said("kinds", seen=scored(), groups=["diagnosis"], floors=lost).startswith(
        "All questions here are of one kind"
    )


def test_recall_is_said_beside_chance_and_the_best_heuristic():
    rows = [("tcssa", 8, 0, 0.5, 0.06), ("tcssa", 8, 1, 0.6, 0.06), ("norm", 8, 0, 0.08, 0.06), ("all", 0, 0, 1, 1)]
    table = pd.DataFrame(rows, columns=["method", "k", "seed", "recall", "chance"])
    text = said("selection", table=table, truth="truth.csv")
    assert text.startswith(
        "**Best is TC-SSA (k = 8), which keeps 55.0 % of the planted tiles**, where as many at random"
    )
    assert text.endswith("Of the heuristics largest norm (k = 8) keeps most, 8.0 % (chance 6.0 %).")
    easy = said("selection", table=table.replace({0.08: 0.7}), truth="truth.csv")
    assert easy.endswith("70.0 % (chance 6.0 %): **more than any method here**, so that this evidence can be found "
                         "without learning.")  # fmt: skip
    assert said("selection", table=table, truth="").startswith("**Not shown.** Nothing is planted")


def test_the_ledger_names_what_scores_were_measured_on():
    rows = [("f15cbb306643570376df", "not known", 512, 1.0), ("SlideBench", "SlideBench (TCGA) v1", 1473, nan)]
    table = pd.DataFrame(rows, columns=["benchmark", "version", "n_questions", "coverage"])
    assert said("ledger", table=table) == (
        "1 score on all questions of `f15cbb306643…`, which is no version known, 512 questions (coverage 100 %); "
        "1 score on all questions of SlideBench (TCGA) v1."
    )


def test_aurocs_of_nine_patients_tell_nothing():
    table = pd.DataFrame({"verdict": ["above in these runs", "not told apart"], "n_patients": [12, 12]})
    assert "Of 2 pairs of methods 1 are told apart in these runs" in said("alike", alike=["tissue"], table=table)
    assert said("alike", alike=["tissue"], table=table.assign(n_patients=9)).endswith("apart by their AUROC.")
    assert said("alike", alike=[], table=table).startswith("**Not shown.**")
