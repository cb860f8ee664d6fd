"""Variants of a compressor beside it: paired differences and gaps pooled over seeds, and the paper's signs.

A variant is a method named `<reference>:<what differs>`. Pooling adds answers, not patients: one is resampled with the
answers of all its seeds. Variants share seeds, start and order of slides, and are tested seed by seed (`verdicts`); in
how many seeds a difference has its sign stands beside each interval.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from slidesieve.answers.controls import is_control
from slidesieve.answers.tables import RUN
from slidesieve.datasets.questions import Question
from slidesieve.evaluation.scores import question_groups, selection_scores
from slidesieve.evaluation.stats import Tested, mcnemar
from slidesieve.evaluation.verdicts import between_variants, judged

SOFT = "_soft"
ON = ["seed", "fold", "ID"]
METRICS = ["hard", "soft", "gap", "recall"]
TESTED = ["difference", "ci_low", "ci_high", "p"]


def both_paths(answers: pd.DataFrame, *, reference: str) -> pd.DataFrame:
    """Return one row for each answer of the reference, then its variants: `hard`, `soft` (nan: no soft path), 0 or 1.

    Raises ValueError unless there are the reference and a variant, all at one k and of the same coverage.
    """
    own = answers["method"].str.removesuffix(SOFT)
    family = answers[(own == reference) | own.str.startswith(f"{reference}:")]
    family = family[~family["method"].str.removesuffix(SOFT).map(is_control).astype(bool)]
    is_soft = family["method"].str.endswith(SOFT)
    soft = family[is_soft].assign(method=own[family.index][is_soft])
    table = family[~is_soft].merge(
        soft[[*RUN, "fold", "ID", "correct"]], on=[*RUN, "fold", "ID"], how="left", suffixes=("", SOFT)
    )
    _check_family(table, answers, reference)
    columns = {"correct": "hard", f"correct{SOFT}": "soft"}
    table = table[[*RUN, "fold", "ID", "Slide", "case_id", *columns]].rename(columns=columns)
    first = table.sort_values("method", key=lambda method: method != reference, kind="stable", ignore_index=True)
    return first.astype({"hard": float, "soft": float})


def by_seed(table: pd.DataFrame, questions: Sequence[Question], selection: pd.DataFrame) -> pd.DataFrame:
    """Return method, k, seed, group, hard, soft, gap (soft - hard), recall, chance; `table` is of `both_paths`."""
    parts = []
    for group, ids in question_groups(questions).items():
        part = table[table["ID"].isin(ids)].groupby(RUN, sort=False)[["hard", "soft"]].mean().reset_index()
        parts.append(part.assign(group=group, gap=part["soft"] - part["hard"]))
    kept = selection_scores(selection[selection["method"].isin(table["method"])])[[*RUN, "recall", "chance"]]
    columns = [*RUN, "group", "hard", "soft", "gap", "recall", "chance"]
    return pd.concat(parts, ignore_index=True).merge(kept, on=RUN, how="left")[columns]


def summary(seeds: pd.DataFrame) -> pd.DataFrame:
    """Return one row a method and group: the median of each metric over seeds, and each seed's value (`hard_s0`)."""
    keys = ["method", "k", "group"]
    grouped = seeds.astype(dict.fromkeys([*METRICS, "chance"], float)).groupby(keys, sort=False)
    medians = grouped[[*METRICS, "chance"]].median().assign(n_seeds=grouped["seed"].nunique())
    wide = seeds.pivot(index=keys, columns="seed", values=METRICS)
    wide.columns = [f"{metric}_s{seed}" for metric, seed in wide.columns]
    return medians.join(wide).reset_index()


def paired(
    table: pd.DataFrame, questions: Sequence[Question], *, reference: str, draws: int, seed: int
) -> pd.DataFrame:
    """Compare each variant's hard answers with the reference's, seed by seed and over all seeds (`pooled`).

    `difference` is variant - reference. `p` is the interval's, `p_holm` corrects it over the variants of a group,
    `verdict` reads it at 5 %; McNemar's exact test of the same pairs takes answers as independent.
    """
    rows = []
    for keys, part in _beside(table, questions, reference):
        tested = _test(part["hard"] - part["hard_reference"], part, draws=draws, seed=seed)
        counts = mcnemar(part["hard"].to_numpy(bool), part["hard_reference"].to_numpy(bool))
        rows.append((*keys, len(part), part["case_id"].nunique(), *tested.estimate, tested.p, *counts))
    counted = ["n_pairs", "n_patients", *TESTED, "only_variant", "only_reference", "mcnemar_p"]
    return _judged(pd.DataFrame(rows, columns=["method", "k", "group", "seeds", "pooled", *counted]))


def gaps(table: pd.DataFrame, questions: Sequence[Question], *, reference: str, draws: int, seed: int) -> pd.DataFrame:
    """Return each method's gap (soft - hard) and its difference from the reference's, paired as in `paired`.

    Methods without a soft path have no row. The reference's own rows have no difference.
    """
    rows = []
    for keys, part in _beside(table.dropna(subset="soft"), questions, reference, itself=True):
        gap = part["soft"] - part["hard"]
        own = _test(gap, part, draws=draws, seed=seed)
        more = _test(gap - part["soft_reference"] + part["hard_reference"], part, draws=draws, seed=seed)
        beside = (*more.estimate, more.p) if keys[0] != reference else (np.nan,) * 4
        rows.append((*keys, part["soft"].mean(), part["hard"].mean(), *own.estimate, *beside))
    columns = ["method", "k", "group", "seeds", "pooled", "soft", "hard", "gap", "gap_low", "gap_high", *TESTED]
    return _judged(pd.DataFrame(rows, columns=columns))


def beside_paper(paired: pd.DataFrame, ablation: pd.DataFrame) -> pd.DataFrame:
    """Add the published delta of the same variant, on another benchmark, and whether the signs agree (yes, no or "").

    A verdict of "not told apart" says that our sign is not known either.
    """
    table = paired.merge(ablation, on="method", how="left")
    same = np.sign(table["difference"]) == np.sign(table["paper_delta"])
    return table.assign(sign_agrees=np.where(table["paper_delta"].isna(), "", np.where(same, "yes", "no")))


def _beside(
    table: pd.DataFrame, questions: Sequence[Question], reference: str, *, itself: bool = False
) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yield (method, k, group, seeds, pooled) and its answers beside the reference's to the same questions."""
    other = table.loc[table["method"] == reference, [*ON, "hard", "soft"]]
    both = table.merge(other, on=ON, suffixes=("", "_reference"))
    both = both if itself else both[both["method"] != reference]
    for (method, k), runs in both.groupby(["method", "k"], sort=False):
        for group, ids in question_groups(questions).items():
            part = runs[runs["ID"].isin(ids)]
            if len(part):
                named = "+".join(map(str, sorted(part["seed"].unique())))
                yield (method, k, group, named, True), part
                yield from (((method, k, group, str(s), False), rows) for s, rows in part.groupby("seed"))


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    """Correct the pooled p over variants, word them, and count the seeds on either side of the reference."""
    table = table.astype({"pooled": bool})  # a table without rows has no types of its own
    keys = ["method", "group"]
    single = table[~table["pooled"]].assign(below=table["difference"] < 0, above=table["difference"] > 0, n_seeds=1)
    signs = single.groupby(keys)[["n_seeds", "below", "above"]].sum().add_prefix("seeds_").reset_index()
    table = table.merge(signs.rename(columns={"seeds_n_seeds": "n_seeds"}), on=keys, how="left")
    pooled = judged(table[table["pooled"]], ["group"])[["p_holm", "verdict"]]
    return table.join(pooled).fillna({"verdict": ""})


def _test(value: pd.Series, part: pd.DataFrame, *, draws: int, seed: int) -> Tested:
    return between_variants(part, value.astype(float), draws=draws, seed=seed)


def _check_family(table: pd.DataFrame, answers: pd.DataFrame, reference: str) -> None:
    methods = table["method"].unique().tolist()
    if reference not in methods or len(methods) < 2:
        raise ValueError(
            f"answers: got {', '.join(answers['method'].unique())}; expected {reference} and variants named "
            f"{reference}:...; give their folders of 60_answer_questions"
        )
    if table["k"].nunique() > 1:
        raise ValueError(
            f"{reference}: got variants at k = {sorted(table['k'].unique().tolist())}; give those of one k"
        )
    covered = table.loc[table["method"] == reference].set_index(ON)["covered"]
    for method, part in table.groupby("method", sort=False):
        both = part.set_index(ON)["covered"].to_frame("own").join(covered, how="inner")
        if both.empty:
            raise ValueError(f"{method}: no seed in common with {reference}; answer both with the same seeds")
        if (both["own"] != both["covered"]).any():
            raise ValueError(f"{method}: other slides covered than by {reference}; answer both from the same features")
