"""How alike the tiles of a slide are: their spectrum, and rebuilding from few vectors.

The measurements that motivate LoC-Path (arXiv 2512.05391), each beside the floor that it must clear. Features are
centred and never standardised: dimensions that vary more count more, as they do in the distances and cosines that
compressors see. A floor that permutes every column over the slide's tiles keeps each dimension's values, and so its
variance, and takes away all that dimensions have in common.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import bootstrap, entropy
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min

from slidesieve.analyses.neighbours import bags_that_vary, grid_of
from slidesieve.analyses.sentences import set_out
from slidesieve.compressors.windows import segment_mean, windows
from slidesieve.evaluation.stats import LEVEL, Estimate
from slidesieve.features.bag import Bag, spectrum

HELD = 0.9  # of the variance, for the count of axes
RANKS = 64  # at most so many points of each slide's curve


def spectra(bags: Mapping[str, Bag], slides: Sequence[str], *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Spectrum of each slide's features, centred on the slide's own mean, beside that of its permuted columns.

    First a row a slide: `bound` = min(n - 1, d), the rank that n centred tiles can have at most; `entropy_rank`;
    `participation_ratio`; `axes_90`, how many principal axes hold 90 % of the variance; all again `_permuted`. Then
    curves: `explained`, the share of variance that the first `rank` axes hold, at ranks spaced evenly by logarithm.
    """
    rows, curves = [], []
    for bag in bags_that_vary(bags, slides):
        share, floor = spectrum([bag]), spectrum([bag._replace(x=permuted_columns(bag.x, seed=seed))])
        n, d = bag.x.shape
        ranks = np.unique(np.geomspace(1, d, RANKS).round().astype(int))
        held = [(entropy_rank(of), participation_ratio(of), axes_holding(of, HELD)) for of in (share, floor)]
        rows.append((bag.slide_id, n, min(n - 1, d), *held[0], *held[1]))
        held = (np.cumsum(shares)[ranks - 1] for shares in (share, floor))
        curves += zip([bag.slide_id] * len(ranks), ranks, *held, strict=True)
    names = ["entropy_rank", "participation_ratio", "axes_90"]
    names += [f"{name}_permuted" for name in names]
    table = pd.DataFrame(rows, columns=["slide_id", "n_tiles", "bound", *names])
    return table, pd.DataFrame(curves, columns=["slide_id", "rank", "explained", "explained_permuted"])


def entropy_rank(share: Float[np.ndarray, " r"]) -> float:
    """exp H of the shares of variance: r if all axes hold as much, 1 if one holds everything.

    The effective rank of Roy and Vetterli (2007) of the covariance matrix, whose singular values are its eigenvalues;
    that of the features themselves, whose singular values are the square roots, is larger.
    """
    return float(np.exp(entropy(share)))


def participation_ratio(share: Float[np.ndarray, " r"]) -> float:
    """1 / sum of the squared shares of variance: r if all axes hold as much, 1 if one holds everything.

    (tr C)^2 / tr C^2 of the covariance matrix C (Gao et al. 2017, for populations of neurons). As exp of Renyi's
    entropy of order 2 it counts weak axes less than the entropy rank, which is never below it.
    """
    return float(1 / np.square(share).sum())


def axes_holding(share: Float[np.ndarray, " r"], held: float) -> int:
    """How many of the first axes hold at least this share of the variance; shares are sorted, largest first."""
    return int(np.searchsorted(np.cumsum(share), held - 1e-9) + 1)


def permuted_columns(x: Float[np.ndarray, "n d"], *, seed: int) -> Float[np.ndarray, "n d"]:
    """Every column in an order of its own: the same values in each dimension, no correlation but by chance."""
    return np.random.default_rng(seed).permuted(x, axis=0)


def reconstructions(
    bags: Mapping[str, Bag], slides: Sequence[str], *, centroids: Sequence[int], sides: Sequence[int], seed: int
) -> pd.DataFrame:
    """R^2, the share of a slide's variance about its mean, when each tile is replaced by one of m vectors.

    Rows `slide_id, n_tiles, method, side, m, r2`. With side 0, for each m of `centroids` below n: `k_means`; the floor
    `k_means_permuted`, the same on permuted columns; `random_tiles`, the nearest of m random tiles (below 0 where the
    slide's mean alone would do better). With a window's side (in tiles) instead, where coordinates are known and
    windows merge anything: `window_mean`, every tile by the mean of its window; `k_means` with as many centroids; and
    `random_groups`, what groups of tiles drawn regardless of place give on average.
    """
    rows = []
    for bag in bags_that_vary(bags, slides):
        n, x = len(bag.x), bag.x - bag.x.mean(0)
        shuffled, some = permuted_columns(x, seed=seed), np.random.default_rng(seed).permutation(n)
        found = []
        for m in (m for m in centroids if m < n):
            found.append(("k_means", 0, m, k_means_r2(x, m, seed=seed)))
            found.append(("k_means_permuted", 0, m, k_means_r2(shuffled, m, seed=seed)))
            found.append(("random_tiles", 0, m, nearest_r2(x, x[some[:m]])))
        for side in sides if bag.attrs["has_coords"] else ():
            m, explained = window_r2(x, grid_of(bag), side)
            if m < n:
                found.append(("window_mean", side, m, explained))
                found.append(("k_means", side, m, k_means_r2(x, m, seed=seed)))
                found.append(("random_groups", side, m, (m - 1) / (n - 1)))
        rows += [(bag.slide_id, n, *row) for row in found]
    return pd.DataFrame(rows, columns=["slide_id", "n_tiles", "method", "side", "m", "r2"])


def k_means_r2(x: Float[np.ndarray, "n d"], m: int, *, seed: int) -> float:
    """R^2 of k-means, from one k-means++ start: a lower bound of what m centroids can reach."""
    return 1 - KMeans(m, n_init=1, random_state=seed).fit(x).inertia_ / _total(x)


def nearest_r2(x: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "m d"]) -> float:
    """R^2 of replacing each tile by the nearest of some vectors."""
    return float(1 - np.square(pairwise_distances_argmin_min(x, centres)[1]).sum() / _total(x))


def window_r2(x: Float[np.ndarray, "n d"], places: Int[np.ndarray, "n 2"], side: int) -> tuple[int, float]:
    """How many side x side windows are occupied, and the R^2 of replacing each tile by its window's mean."""
    cell = windows(torch.from_numpy(places), torch.zeros(len(x), dtype=torch.long), side)
    mean = segment_mean(torch.from_numpy(x), cell)
    return len(mean), float(1 - np.square(x - mean[cell].numpy()).sum() / _total(x))


def of_spectra(summary: pd.DataFrame) -> dict[str, pd.Series]:
    """Name what is told of the whole slide, a value a slide; where two are compared, inside each slide."""
    rank, floor = summary["entropy_rank"], summary["entropy_rank_permuted"]
    ratio, ratio_floor = summary["participation_ratio"], summary["participation_ratio_permuted"]
    return {
        "rank the slide allows": summary["bound"],
        "entropy rank": rank,
        "entropy rank over that with columns permuted": rank / floor,
        "participation ratio": ratio,
        "participation ratio over that with columns permuted": ratio / ratio_floor,
        "axes that hold 90 %": summary["axes_90"],
        "axes that hold 90 %, columns permuted": summary["axes_90_permuted"],
    }


def of_neighbours(summary: pd.DataFrame) -> dict[str, pd.Series]:
    """Name what is told of neighbours: cosines at distance 1, a value a slide."""
    return {
        "cosine of neighbours": summary["cosine"],
        "cosine of random pairs": summary["random"],
        "cosine of neighbours, centred": summary["centred"],
        "cosine of random pairs, centred": summary["random_centred"],
        "neighbours minus random, centred": summary["centred"] - summary["random_centred"],
    }


def of_rebuilt(rebuilt: pd.DataFrame) -> dict[str, pd.Series]:
    """Name what is told of few vectors in place of all tiles, a value a slide."""
    named = {}
    r2 = rebuilt.pivot_table(index="slide_id", columns=["side", "m", "method"], values="r2")
    for m in sorted(set(rebuilt.loc[rebuilt["side"] == 0, "m"]) - {1}):  # one centroid is the mean: R^2 = 0
        own = r2[0][m]
        named[f"R2 of k-means, M = {m}"] = own["k_means"]
        named[f"R2 of k-means minus columns permuted, M = {m}"] = own["k_means"] - own["k_means_permuted"]
    for side, part in rebuilt[rebuilt["side"] > 0].groupby("side"):
        own = part.pivot(index="slide_id", columns="method", values="r2")
        named |= {
            f"R2 of {side} x {side} windows": own["window_mean"],
            f"R2 of as many centroids, {side} x {side}": own["k_means"],
        }
        named[f"tokens over tiles, {side} x {side}"] = part[part["method"] == "window_mean"].eval("m / n_tiles")
    return named


def medians(columns: Mapping[str, Sequence[float]], *, draws: int, seed: int) -> pd.DataFrame:
    """The median over slides of each named quantity, with a 95 % percentile interval that resamples slides.

    Rows `quantity, slides, value, low, high`; values that are not known are left out, one slide has no interval.
    """
    known = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    known = {name: values[np.isfinite(values)] for name, values in known.items()}
    rows = [(name, len(values), *_median(values, draws=draws, seed=seed)) for name, values in known.items()]
    return pd.DataFrame(rows, columns=["quantity", "slides", *Estimate._fields])


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Some tables of `medians`, one below the other."""
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def readable(verdict: pd.DataFrame) -> pd.DataFrame:
    """The table of `medians` for the eye: a row a quantity, its slides, its `median` and, of several, its interval."""
    shown = []
    for slides, value, low, high in verdict[["slides", *Estimate._fields]].itertuples(index=False):
        interval = f" ({low:.3g} to {high:.3g})" if slides > 1 else ""
        shown.append(f"{value:.3g}{interval}" if slides else "not shown")
    return set_out({"quantity": verdict["quantity"], "slides": verdict["slides"], "median": shown})


def _median(values: Float[np.ndarray, " s"], *, draws: int, seed: int) -> Estimate:
    if len(values) < 2:
        return Estimate(float(values[0]) if len(values) else np.nan, np.nan, np.nan)
    how = {"n_resamples": draws, "confidence_level": LEVEL, "method": "percentile", "batch": 100}
    ends = bootstrap((values,), np.median, rng=np.random.default_rng(seed), **how).confidence_interval
    return Estimate(float(np.median(values)), float(ends.low), float(ends.high))


def _total(x: Float[np.ndarray, "n d"]) -> float:
    return float(np.square(x - x.mean(0)).sum())
