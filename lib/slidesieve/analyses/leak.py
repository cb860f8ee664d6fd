"""How much of a tile survives the gate: what a linear probe, or a look-up, still reads from a token at a given alpha.

    x~ = sqrt(alpha) x + sqrt(1 - alpha) eps,  eps ~ N(0, I)           SparseLearn (arXiv 2606.08641), Eq. 5
    SNR = sqrt(alpha / (1 - alpha)) ||mu_a - mu_b||                    matched filter between two tokens or class means
    SNR ~ sqrt(alpha d)                                                small alpha, along a token of length sqrt(d)

Noise is drawn in all d dimensions and a layer-normalised token has length sqrt(d) however its dimensions correlate, so
that wide features leak even if their participation ratio is low. Tokens here are standardised per dimension and
layer-normalised, as `VLM.normalise` gives them to a compressor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from sklearn.linear_model import LogisticRegression

from slidesieve.compressors.sparselearn import vp_gate
from slidesieve.evaluation.stats import Estimate, clustered_accuracy, wilson

INVERSE_PENALTY = 0.01
GAUSSIAN_DRAWS = 20_000
COLUMNS = [
    "task",
    "d",
    "participation_ratio",
    "n_tiles",
    "apart",
    "alpha",
    "chance",
    "share",
    "low",
    "high",
    "skill",
    "snr",
]


class Tiles(NamedTuple):
    """Features with the class of each tile and the slide it comes from."""

    x: Float[np.ndarray, "n d"]
    label: Int[np.ndarray, " n"]
    slide: Shaped[np.ndarray, " n"]


def normalise(x: Float[np.ndarray, "n d"], *, fit: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n d"]:
    """Standardise each dimension by the tiles of `fit`, then layer-normalise each tile."""
    standard = (x - fit.mean(0)) / fit.std(0).clip(min=1e-6)
    return F.layer_norm(torch.from_numpy(standard), standard.shape[1:]).numpy()


def gated(x: Float[np.ndarray, "n d"], alpha: float, *, seed: int) -> Float[np.ndarray, "n d"]:
    """Pass tokens through SparseLearn's own gate, all at one alpha."""
    generator = torch.Generator().manual_seed(seed)
    return vp_gate(torch.from_numpy(x)[None], torch.full((1, len(x)), alpha), generator)[0].numpy()


def at_width(
    x: Float[np.ndarray, "n d"], width: int, *, fit: Float[np.ndarray, "m d"], seed: int
) -> Float[np.ndarray, "n w"]:
    """Normalise, and below the features' own width project by a random orthonormal map and normalise again."""
    own = normalise(x, fit=fit)
    if width == x.shape[1]:
        return own
    down = narrowed(x.shape[1], width, seed=seed)
    return normalise(own @ down, fit=normalise(fit, fit=fit) @ down)


def narrowed(d: int, width: int, *, seed: int) -> Float[np.ndarray, "d w"]:
    """Return a random projection from d to `width` < d dimensions with orthonormal columns."""
    return np.linalg.qr(np.random.default_rng([seed, width]).normal(size=(d, width)))[0].astype(np.float32)


def participation_ratio(x: Float[np.ndarray, "n d"]) -> float:
    """Return the participation ratio (tr C)^2 / tr C^2 of the covariance C: d if white, 1 on a line."""
    covariance = np.cov(x.T)
    return float(np.trace(covariance) ** 2 / np.square(covariance).sum())


def probe(train: Tiles, test: Tiles, alpha: float, *, seed: int) -> np.ndarray:
    """Train logistic regression on gated tiles and say of each gated test tile whether its class was read rightly."""
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=500)
    model.fit(gated(train.x, alpha, seed=seed), train.label)
    return model.predict(gated(test.x, alpha, seed=seed + 1)) == test.label


def identified(x: Float[np.ndarray, "n d"], alpha: float, *, seed: int) -> np.ndarray:
    """Say of each gated tile whether, of all clean ones, its own lies nearest by cosine; equal tiles count as one."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = gated(x, alpha, seed=seed) @ unit.T
    return np.diag(cosine) >= cosine.max(axis=1) - 1e-5 * np.sqrt(x.shape[1])


def matched_filter_snr(alpha: float, apart: float) -> float:
    """Return the amplitude signal-to-noise ratio between two gated tokens that were `apart` before the gate."""
    return float(np.sqrt(alpha / (1 - alpha)) * apart) if alpha < 1 else np.inf


def rms_distance(x: Float[np.ndarray, "m d"]) -> float:
    """Return the root mean square distance over all pairs of rows."""
    return float(np.sqrt(2 * len(x) / (len(x) - 1) * x.var(axis=0).sum()))


def gaussian_classes(tiles: Tiles, alpha: float, *, seed: int) -> float:
    """Return the best possible accuracy if classes were Gaussian, with these means and their common covariance.

    A gated token is then N(sqrt(alpha) mu_c, alpha W + (1 - alpha) I): drawn in coordinates in which that is white.
    """
    means = _class_means(tiles)
    spread = alpha * np.cov((tiles.x - means[tiles.label]).T) + (1 - alpha + 1e-6) * np.eye(tiles.x.shape[1])
    white = np.sqrt(alpha) * np.linalg.solve(np.linalg.cholesky(spread), means.T).T
    along = white @ np.linalg.svd(white, full_matrices=False)[2].T  # nothing tells classes apart off their span
    rng = np.random.default_rng(seed)
    label = rng.integers(len(means), size=GAUSSIAN_DRAWS)
    drawn = along[label] + rng.normal(size=(GAUSSIAN_DRAWS, along.shape[1]))
    return float(((drawn @ along.T - np.square(along).sum(1) / 2).argmax(1) == label).mean())


def probe_leak(train: Tiles, test: Tiles, *, alphas: Sequence[float], widths: Sequence[int], seed: int) -> pd.DataFrame:
    """Return how often a probe reads the class, for each width and alpha, with intervals clustered by slide.

    `expected`: Gaussian classes with these means and covariance. `skill`: 0 at chance, 1 is perfect.
    """
    rows, chance = [], 1 / len(np.unique(train.label))
    for width in _offered(widths, train.x.shape[1]):
        narrow = [t._replace(x=at_width(t.x, width, fit=train.x, seed=seed)) for t in (train, test)]
        about = ("probe", width, participation_ratio(narrow[0].x), len(test.x), rms_distance(_class_means(narrow[0])))
        for alpha in alphas:
            right = probe(*narrow, alpha, seed=seed)
            share = clustered_accuracy(right, test.slide, draws=1000, seed=seed)
            row = _row(about, alpha, chance, share)
            rows.append(row | {"expected": gaussian_classes(narrow[0], alpha, seed=seed)})
    return pd.DataFrame(rows)


def identification_leak(
    x: Float[np.ndarray, "n d"], *, alphas: Sequence[float], widths: Sequence[int], trials: int, seed: int
) -> pd.DataFrame:
    """Return how often a gated tile is recognised among its slide's n, for each width and alpha.

    Beside it the same for Gaussian tokens: `expected` of d independent dimensions, `expected_own` of the features' own
    covariance, `expected_rank` of as many dimensions as the participation ratio. Each share is of at least `trials`
    tiles: noise is drawn again where the slide has fewer.
    """
    draws = -(-trials // len(x))
    rows, rng = [], np.random.default_rng(seed)
    for width in _offered(widths, x.shape[1]):
        narrow = at_width(x, width, fit=x, seed=seed)
        rank = participation_ratio(narrow)
        about = ("identification", width, rank, len(x), rms_distance(narrow))
        others = {
            "expected": rng.normal(size=narrow.shape),
            "expected_own": rng.multivariate_normal(np.zeros(width), np.cov(narrow.T), size=len(x), method="eigh"),
            "expected_rank": rng.normal(size=(len(x), max(round(rank), 2))),
        }
        tokens = {name: normalise(other.astype(np.float32), fit=other) for name, other in others.items()}
        for alpha in alphas:
            hits = np.concatenate([identified(narrow, alpha, seed=seed + i) for i in range(draws)])
            share = wilson(int(hits.sum()), len(hits))
            row = _row(about, alpha, 1 / len(x), share)
            rows.append(row | {name: _mean_identified(z, alpha, draws, seed) for name, z in tokens.items()})
    return pd.DataFrame(rows)


def measure(
    parts: tuple[Tiles, Tiles] | None,
    slide: Float[np.ndarray, "n d"],
    *,
    alphas: Sequence[float],
    widths: Sequence[int],
    trials: int,
    seed: int,
) -> pd.DataFrame:
    """Join `probe_leak` of training and test tiles, if there are any, and `identification_leak` of a slide's tiles."""
    how = {"alphas": alphas, "widths": widths, "seed": seed}
    tables = [probe_leak(*parts, **how)] if parts else []
    return pd.concat([*tables, identification_leak(slide, trials=trials, **how)], ignore_index=True)


def half_skill(leak: pd.DataFrame) -> float:
    """Return the alpha at which one width's skill first reaches half of its skill at the largest alpha.

    Interpolated in amplitude, sqrt(alpha), between the two measured alphas around it.
    """
    table = leak.sort_values("alpha")
    amplitude, skill = np.sqrt(table["alpha"].to_numpy(float)), table["skill"].to_numpy(float)
    above = int(np.argmax(skill >= skill[-1] / 2))
    part = slice(max(above - 1, 0), above + 1)
    return float(np.interp(skill[-1] / 2, skill[part], amplitude[part]) ** 2)


def _row(about: tuple, alpha: float, chance: float, share: Estimate) -> dict[str, object]:
    skill, snr = (share.value - chance) / (1 - chance), matched_filter_snr(alpha, about[-1])
    return dict(zip(COLUMNS, (*about, alpha, chance, *share, skill, snr), strict=True))


def _mean_identified(x: Float[np.ndarray, "n d"], alpha: float, draws: int, seed: int) -> float:
    return float(np.mean([identified(x, alpha, seed=seed + i).mean() for i in range(draws)]))


def _class_means(tiles: Tiles) -> Float[np.ndarray, "c d"]:
    return np.stack([tiles.x[tiles.label == c].mean(0) for c in range(tiles.label.max() + 1)])


def _offered(widths: Sequence[int], d: int) -> list[int]:
    """The widths below d, and d itself."""
    return [*sorted({w for w in widths if w < d}), d]
