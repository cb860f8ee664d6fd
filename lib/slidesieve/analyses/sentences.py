"""The three answers as sentences, written from the tables alone: numbers are never typed.

Shares are said in per cent, differences in points (of per cent).
"""

import numpy as np
import pandas as pd

from slidesieve.analyses.leak import half_skill, matched_filter_snr

UNIT = "\N{NO-BREAK SPACE}%"
SCORED = {"captions": "probability of the captions' words", "questions": "questions answered rightly"}


def training_sentence(log: pd.DataFrame) -> str:
    """Say how far apart both paths were along training, and how the gate's mass moved to the kept tiles."""
    said = [_stage_words(name, part) for name, part in log.groupby("stage", sort=False)]
    silent = [name for name, part in log.groupby("stage", sort=False) if part["soft"].isna().all()]
    if silent:
        said.append(
            f"the soft path was not recorded along {' and '.join(silent)}, so that the comparison is missing: run "
            f"{'these stages' if len(silent) > 1 else 'this stage'} again"
        )
    return f"**Along training.** {_capital('; '.join(said))}."


def paths_sentence(scores: pd.DataFrame, agreed: pd.DataFrame, mass: pd.Series) -> str:
    """Say whether both paths answer alike on the test slides, what the denoiser does, and what changes by chance.

    `mass`: the row of `mass_against_tau` at the model's own temperature.
    """
    rows = {(row.path, row.minus): row for row in scores.itertuples()}
    hard, soft = rows["hard", ""], rows["soft", ""]
    said = [
        f"on {hard.n_slides} test slides the model answers {_percent(hard.value)} of {hard.n_questions} questions "
        f"rightly from the tiles it keeps and {_percent(soft.value)} from all tiles through the noisy gate, a "
        f"difference of {_points(rows['soft', 'hard'])}, as all here with 95{UNIT} intervals"
    ]
    if ("soft_bypassed", "soft") in rows:
        said.append(
            f"without its denoiser the noisy path changes by {_points(rows['soft_bypassed', 'soft'])}, with it the "
            f"kept tiles' by {_points(rows['hard_denoised', 'hard'])}"
        )
    told = agreed[agreed["compared"].isin(["two draws of noise", "training seeds"])]
    alike = [_agreement_words(row) for row in told.itertuples()]
    said.append(", ".join([f"{_percent(mass.mass)} of the gate's weight lies on the tiles kept", *alike]))
    return f"**On the test slides.** {_capital('; '.join(said))}."


def leak_sentence(leak: pd.DataFrame, *, n_classes: int, alpha: float, left_out: float) -> str:
    """Say what can still be read of a tile that the gate lets through by `alpha`, and what this model lets through.

    `n_classes`: how many the probe tells apart; `left_out`: mean alpha of the tiles that this model leaves out.
    """
    probe, found = leak[leak["task"] == "probe"], leak[leak["task"] == "identification"]
    _, row = _widest(found, alpha)
    said = [f"when {_percent(row.alpha)} of a tile passes the gate and the rest is noise"]
    said += [_probe_words(*_widest(probe, alpha), n_classes)] if len(probe) else []
    said.append(
        f"{_percent(row.share)} of a slide's {row.n_tiles:.0f} tiles are still recognised one by one (guessing "
        f"{_percent(row.chance)}; d = {row.d:.0f}; theory {_percent(row.expected)} for as many independent features, "
        f"{_percent(row.expected_rank)} for their participation ratio of {row.participation_ratio:.0f})"
    )
    last = f"this model lets pass {_percent(left_out)}, on average, of a tile that it leaves out"
    return f"**The leak.** {_capital(said[0])}, {', and '.join(said[1:])}; {last}."


def _probe_words(table: pd.DataFrame, row: pd.Series, n_classes: int) -> str:
    clean, half = table.loc[table["alpha"].idxmax()], half_skill(table)
    return (
        f"a linear probe reads which of {n_classes} classes it is in {_percent(row.share)} of cases (untouched "
        f"{_percent(clean.share)}, guessing {_percent(row.chance)}; d = {row.d:.0f}; half of that skill is left at "
        f"{_percent(half)}, a signal-to-noise ratio of {matched_filter_snr(half, row.apart):.1f})"
    )


def _stage_words(name: str, part: pd.DataFrame) -> str:
    first, last, what = part.iloc[0], part.iloc[-1], SCORED.get(name, "validation score")
    if np.isnan(last.soft):
        return f"{name} end with the hard path at {_percent(last.hard)} ({what})"
    gap = (part["soft"] - part["hard"]).abs()
    widest = part.loc[gap.idxmax()]
    cooling = f" and the temperature from {first.tau:.2f} to {last.tau:.2f}"
    cooling = cooling if last.tau < first.tau else f" at a temperature of {last.tau:.2f}"
    return (
        f"{name} end with the soft path at {_percent(last.soft)} and the hard path at {_percent(last.hard)} ({what}), "
        f"never more than {100 * gap.max():.1f} points apart (step {widest.step:.0f}), while the share of the gate's "
        f"weight on the tiles kept goes from {_percent(first.mass)} to {_percent(last.mass)}{cooling}"
    )


def _agreement_words(row) -> str:
    if row.of == "kept tiles":
        return (
            f"and models of different training seeds share {_percent(row.value)} of their kept tiles (Jaccard index; "
            f"{_percent(row.chance)} by chance)"
        )
    return f"{_percent(1 - row.value)} of the noisy path's answers change from draw to draw"


def _widest(table: pd.DataFrame, alpha: float) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of the largest width, and of them the row whose alpha is nearest to the one wanted."""
    widest = table[table["d"] == table["d"].max()]
    return widest, widest.loc[(widest["alpha"] - alpha).abs().idxmin()]


def _points(row) -> str:
    low, high = (f"{100 * end:+.1f}" for end in (row.ci_low, row.ci_high))
    return f"{100 * row.value:+.1f} points ({low} to {high})"


def _percent(share: float) -> str:
    percent = 100 * share
    number = f"{percent:.2g}" if 0 < percent < 1 else f"{percent:.1f}" if percent % 1 else f"{percent:.0f}"
    return number + UNIT


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
