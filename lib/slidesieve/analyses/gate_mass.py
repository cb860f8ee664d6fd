"""How much of the soft top-k lies on the tiles that the hard top-k keeps: mass = (1/k) sum_{i in top-k} alpha_i.

k/n for an even spread, 1 when soft and hard are the same selection.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from slidesieve.analyses.sentences import set_out
from slidesieve.answers.select import slide_batches
from slidesieve.compressors.topk import mass_on_topk
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.vlm import VLM

HISTORY = {"score": "hard", "soft_score": "soft", "mass": "mass", "tau": "tau"}


class Along(NamedTuple):
    """A stage's first and last validation, and where its paths were furthest apart (nan: soft was never recorded)."""

    name: str
    first: pd.Series
    last: pd.Series
    gap: float
    step: float


def read_training(folders: dict[str, Path | None]) -> pd.DataFrame:
    """Read each stage's validations from its history.csv: stage, step (done), hard, soft, mass, tau.

    What a stage did not record is nan. `folders` maps a stage's name to its folder; None: there was no such stage.
    """
    tables = []
    for name, folder in folders.items():
        if folder is None:
            continue
        if not (folder / "history.csv").exists():
            raise ValueError(f"{folder}: no history.csv; expected the folder of a training stage; correct the path")
        history = pd.read_csv(folder / "history.csv")
        taken = history[history["score"].notna()].rename(columns=HISTORY).reindex(columns=["step", *HISTORY.values()])
        tables.append(taken.assign(step=taken["step"] + 1).assign(stage=name))
    return pd.concat(tables, ignore_index=True)[["stage", "step", *HISTORY.values()]]


def along_training(log: pd.DataFrame) -> list[Along]:
    """Return what each stage of `read_training` began with, ended with, and how far apart its paths ever were."""
    stages = []
    for name, part in log.groupby("stage", sort=False):
        gap = (part["soft"] - part["hard"]).abs()
        stages.append(Along(name, part.iloc[0], part.iloc[-1], gap.max(), part.loc[gap == gap.max(), "step"].min()))
    return stages


def require_scorer(model: VLM) -> None:
    """Raise ValueError for a method that has no scorer: it has no soft and hard path to compare."""
    if not hasattr(model.compressor, "scores"):
        name = model.config["compressor"]
        raise ValueError(f"checkpoint: {name} does not score tiles; expected a selector such as sparselearn")


def tile_scores(model: VLM, bags: Mapping[str, Bag], *, batch_tokens: int) -> dict[str, Float[np.ndarray, " n"]]:
    """Return the score of every tile, as the inference path computes it."""
    require_scorer(model)
    scores = {}
    with torch.no_grad():
        for named in slide_batches(bags, batch_tokens):
            found = model.eval().compress(collate([bags[s] for s in named]).to(model.feature_mean.device)).scores
            scores |= {s: found[i, : n_tiles(bags, s)].cpu().numpy() for i, s in enumerate(named)}
    return scores


def mass_against_tau(scores: dict[str, Float[np.ndarray, " n"]], *, k: int, taus: Sequence[float]) -> pd.DataFrame:
    """Return the share of soft mass on the hard top-k at each temperature, over slides of more than k tiles.

    `mass` is the mean over slides, `low` and `high` the 5 and 95 % points; `left_out` the mean alpha of a tile that is
    not kept; `chance` the mass of an even spread, k/n.
    """
    longer = [torch.from_numpy(s)[None] for s in scores.values() if len(s) > k]
    if not longer:
        most = max(map(len, scores.values()))
        raise ValueError(f"mass: got slides of at most {most} tiles; expected one of more than k = {k}")
    rows = []
    for tau in taus:
        mass = np.array(
            [float(mass_on_topk(s, k=k, tau=tau, mask=torch.ones_like(s, dtype=torch.bool))) for s in longer]
        )
        n = np.array([s.shape[1] for s in longer])
        left_out = (k * (1 - mass) / (n - k)).mean()
        rows.append((tau, mass.mean(), *np.quantile(mass, [0.05, 0.95]), left_out, (k / n).mean(), len(n)))
    return pd.DataFrame(rows, columns=["tau", "mass", "low", "high", "left_out", "chance", "n_slides"])


def readable(mass: pd.DataFrame) -> pd.DataFrame:
    """Set out a table of `mass_against_tau` for reading, in per cent."""
    said = {name: [f"{100 * share:.1f}" for share in mass[name]] for name in ("mass", "low", "high", "left_out")}
    ends = [f"{low} to {high}" for low, high in zip(said["low"], said["high"], strict=True)]
    shown = {"temperature": [f"{tau:g}" for tau in mass["tau"]], "weight on the tiles kept (%)": said["mass"]}
    return set_out(shown | {"5 to 95 % of slides": ends, "of a tile left out (%)": said["left_out"]})
