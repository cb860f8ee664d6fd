"""Training answers from all tiles, gated (soft); use answers from k tiles, untouched (hard). Are they one model?

Accuracy of both paths with and without the denoiser, and agreement over draws of noise and over training seeds; on
which tiles the gate's leak is measured, and what of it is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.stats import hypergeom
from torch import nn

from slidesieve.analyses.gate_mass import require_scorer
from slidesieve.analyses.leak import half_skill, matched_filter_snr
from slidesieve.analyses.leak_tiles import Classes, tiles_of_stores, tiles_of_truth
from slidesieve.analyses.sentences import intervals, set_out
from slidesieve.answers.answering import answer
from slidesieve.answers.select import read_truth
from slidesieve.datasets.questions import LETTERS, Question
from slidesieve.evaluation.selection import jaccard
from slidesieve.evaluation.stats import clustered_accuracy, clustered_mean, paired_difference
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.vlm import VLM

PATH_NAMES = {
    "hard": "hard: kept tiles, untouched",
    "hard_denoised": "hard: kept tiles, denoised",
    "soft": "soft: all tiles, gated, denoised",
    "soft_bypassed": "soft: all tiles, gated, not denoised",
}
DIFFERENCES = (("soft", "hard"), ("hard_denoised", "hard"), ("soft_bypassed", "soft"), ("soft_bypassed", "hard"))


@contextmanager
def denoiser_bypassed(compressor: nn.Module) -> Iterator[None]:
    """Leave the denoiser out of the soft path; put back after."""
    denoiser = compressor.denoiser
    compressor.denoiser = None
    try:
        yield
    finally:
        compressor.denoiser = denoiser


@contextmanager
def kept_denoised(compressor: nn.Module) -> Iterator[None]:
    """Pass the kept tokens of the hard path through the denoiser, which the paper leaves out of inference."""

    def denoise(module, inputs, out):
        return out._replace(tokens=module.denoiser(out.tokens, out.mask) * out.mask.unsqueeze(-1))

    hook = compressor.register_forward_hook(denoise)
    try:
        yield
    finally:
        hook.remove()


def answer_paths(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    noise_draws: int,
    seed: int,
    answer_form: str,
    batch_tokens: int,
) -> pd.DataFrame:
    """Answer every question on each path, soft ones once for each draw: path, draw, ID, Slide, predicted, correct.

    A question whose slide has no bag is wrong on every path. Without a denoiser there are no paths with and without it.
    """
    require_scorer(model)
    soft = list(range(seed, seed + noise_draws))
    passes = [
        ("hard", _unchanged, [None]),
        ("hard_denoised", kept_denoised, [None]),
        ("soft", _unchanged, soft),
        ("soft_bypassed", denoiser_bypassed, soft),
    ]
    if model.compressor.denoiser is None:
        passes = [one for one in passes if one[1] is _unchanged]
    key = pd.DataFrame([(q.id, q.slide_id, LETTERS[q.answer]) for q in questions], columns=["ID", "Slide", "answer"])
    tables = []
    for path, changed, seeds in passes:
        for draw, noise in enumerate(seeds):
            with changed(model.compressor):
                said = answer(model, questions, bags, answer_form=answer_form, batch_tokens=batch_tokens, seed=noise)
            whole = key.merge(said[["ID", "predicted"]], on="ID", how="left")
            tables.append(whole.assign(path=path, draw=draw, correct=whole["predicted"] == whole["answer"]))
    return pd.concat(tables, ignore_index=True)[["path", "draw", "ID", "Slide", "predicted", "correct"]]


def path_scores(answers: pd.DataFrame, cases: Mapping[str, str], *, draws: int, seed: int) -> pd.DataFrame:
    """Return each path's accuracy and the paired differences between paths, with 95 % intervals over patients.

    `minus` names the path that is subtracted, "" for a path's own accuracy. `lowest` and `highest` are the extremes
    over draws of noise.
    """
    rows, paths = [], dict(list(answers.groupby("path", sort=False)))
    for path, table in paths.items():
        correct, patient = table["correct"].to_numpy(bool), _patients(table, cases)
        each = table.groupby("draw")["correct"].mean()
        rows.append((path, "", *clustered_accuracy(correct, patient, draws=draws, seed=seed), each.min(), each.max()))
    for a, b in DIFFERENCES:
        if a in paths and b in paths:
            both = _side_by_side(paths[a], paths[b])
            correct = (both[f"correct_{side}"].to_numpy(bool) for side in "ab")
            found = paired_difference(*correct, _patients(both, cases), draws=draws, seed=seed).difference
            each = both.groupby("draw_a")[["correct_a", "correct_b"]].mean()
            gap = each["correct_a"] - each["correct_b"]
            rows.append((a, b, *found, gap.min(), gap.max()))
    table = pd.DataFrame(rows, columns=["path", "minus", "value", "ci_low", "ci_high", "lowest", "highest"])
    return table.assign(n_questions=answers["ID"].nunique(), n_slides=answers["Slide"].nunique())


def readable(scores: pd.DataFrame) -> pd.DataFrame:
    """Set out the paths' own accuracies for reading, in per cent, with the extremes over draws of noise."""
    own = scores[scores["minus"] == ""]
    ends = zip(own["lowest"], own["highest"], strict=True)
    noise = [f"{100 * low:.1f} to {100 * high:.1f}" if low < high else "" for low, high in ends]
    accuracy = intervals(own, ("value", "ci_low", "ci_high"))
    return set_out({"path": own["path"].map(PATH_NAMES), "accuracy (%)": accuracy, "over draws of noise (%)": noise})


def agreement(answers: pd.DataFrame, cases: Mapping[str, str], *, draws: int, seed: int) -> pd.DataFrame:
    """Return how often answers are the same: on two draws of noise, on all of them, and soft against hard."""
    answers = answers.dropna(subset="predicted")
    soft, hard = answers[answers["path"] == "soft"], answers[answers["path"] == "hard"]
    by_draw = [table for _, table in soft.groupby("draw")]
    pairs = [_side_by_side(a, b.assign(draw=0)) for a, b in combinations(by_draw, 2)]
    one = soft.groupby(["ID", "Slide"])["predicted"].nunique(dropna=False).rename("kinds").reset_index()
    compared = {"soft and hard": _side_by_side(soft, hard)}
    compared |= {"two draws of noise": pd.concat(pairs)} if pairs else {}
    rows = [
        (name, *_shares(both["predicted_a"] == both["predicted_b"], _patients(both, cases), draws, seed))
        for name, both in compared.items()
    ]
    if pairs:
        rows.append(
            (f"all {len(by_draw)} draws of noise", *_shares(one["kinds"] == 1, _patients(one, cases), draws, seed))
        )
    return pd.DataFrame(rows, columns=["compared", "value", "ci_low", "ci_high"]).assign(of="answers", chance=np.nan)


def all_agreements(
    answers: pd.DataFrame,
    kept: Sequence[dict[str, Int[np.ndarray, " k"]]],
    bags: Mapping[str, Bag],
    cases: Mapping[str, str],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Join `agreement` of answers and `kept_agreement` of models into one table."""
    how = {"draws": draws, "seed": seed}
    parts = [agreement(answers, cases, **how), kept_agreement(kept, bags, cases, **how)]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def kept_agreement(
    kept: Sequence[dict[str, Int[np.ndarray, " k"]]],
    bags: Mapping[str, Bag],
    cases: Mapping[str, str],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return the Jaccard index of the tiles that models keep, mean over pairs of models and slides, beside chance.

    Chance is the expected index of two random sets of the same sizes. The interval resamples patients.
    """
    columns = ["compared", "value", "ci_low", "ci_high", "of", "chance"]
    if len(kept) < 2:
        return pd.DataFrame(columns=columns)
    pairs = list(combinations(kept, 2))
    index = np.array([np.mean([jaccard(a[s], b[s]) for a, b in pairs]) for s in bags])
    chance = np.mean([[random_jaccard(n_tiles(bags, s), len(a[s]), len(b[s])) for a, b in pairs] for s in bags])
    how = {"draws": draws, "seed": seed, "least": 0.0, "most": 1.0}
    mean = clustered_mean(index, np.array([cases[slide] for slide in bags]), **how).estimate
    return pd.DataFrame([("training seeds", *mean, "kept tiles", chance)], columns=columns)


def random_jaccard(n: int, i: int, j: int) -> float:
    """Return the expected Jaccard index of random sets of i and j out of n tiles; their overlap is hypergeometric."""
    overlap = np.arange(min(i, j) + 1)
    return float((hypergeom.pmf(overlap, n, i, j) * overlap / np.maximum(i + j - overlap, 1)).sum())


def probe_classes(
    stores: Sequence[Path],
    truth: Path | None,
    train: Mapping[str, Bag],
    test: Mapping[str, Bag],
    *,
    most: int,
    seed: int,
) -> Classes | None:
    """Return the probe's tiles: of stores of one class each, else of the slides that a truth table names, else None."""
    if stores:
        return tiles_of_stores(stores, most=most, seed=seed)
    return tiles_of_truth(train, test, read_truth(truth), most=most, seed=seed) if truth else None


def leak_at(leak: pd.DataFrame, alpha: float) -> dict[str, dict[str, object]]:
    """Return, by task, the row of the widest features whose alpha is nearest to the one wanted.

    With it `untouched`, the share at the largest alpha, and `half`, the alpha that leaves half of its skill, and
    `half_snr`, the signal-to-noise ratio there.
    """
    rows = {}
    for task, table in leak.groupby("task"):
        widest = table[table["d"] == table["d"].max()]
        row, clean = (widest.loc[i] for i in ((widest["alpha"] - alpha).abs().idxmin(), widest["alpha"].idxmax()))
        half = half_skill(widest)
        more = {"untouched": clean["share"], "half": half, "half_snr": matched_filter_snr(half, row["apart"])}
        rows[task] = row.to_dict() | more
    return rows


def _unchanged(compressor: nn.Module) -> nullcontext:
    return nullcontext()


def _side_by_side(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Pair the answers of two paths: draw by draw, or every draw with the one draw of b."""
    on = ["ID", "Slide"] if b["draw"].nunique() == 1 else ["ID", "Slide", "draw"]
    both = a.merge(b, on=on, suffixes=("_a", "_b"))
    return both.rename(columns={"draw": "draw_a"})


def _patients(table: pd.DataFrame, cases: Mapping[str, str]) -> np.ndarray:
    return table["Slide"].map(cases).to_numpy(str)


def _shares(same: pd.Series, patient: np.ndarray, draws: int, seed: int) -> tuple[float, float, float]:
    return clustered_accuracy(same.to_numpy(bool), patient, draws=draws, seed=seed)
