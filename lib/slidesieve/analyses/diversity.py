"""Are the tiles that are kept of a slide alike: in the features, and on a map; each beside as many random tiles."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from slidesieve.analyses.sentences import set_out
from slidesieve.analyses.token_maps import TokenMap, as_compressed
from slidesieve.evaluation.stats import clustered_mean
from slidesieve.evaluation.verdicts import FEWEST_PATIENTS
from slidesieve.features.bag import Bag
from slidesieve.models.vlm import VLM

JUDGED = 1000  # tiles of a slide on which a map is judged, at most


def mean_pairwise_cosine(x: Float[np.ndarray, "m d"]) -> float:
    """Mean cosine over the m (m - 1) / 2 pairs of different rows: (|sum of unit rows|^2 - m) / (m (m - 1))."""
    m = len(x)
    if m < 2:
        return float("nan")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return float((np.square(unit.sum(0)).sum() - m) / (m * (m - 1)))


def diversity(
    model: VLM, bags: Mapping[str, Bag], kept: dict[str, Int[np.ndarray, " k"]], *, draws: int, seed: int
) -> pd.DataFrame:
    """Per slide: mean pairwise cosine of the kept tiles, and mean, 2.5 and 97.5 % points over random selections."""
    rng, rows = np.random.default_rng(seed), []
    for slide in sorted(bags):
        x, m = as_compressed(model, bags[slide]), len(kept[slide])
        random = [mean_pairwise_cosine(x[rng.choice(len(x), m, replace=False)]) for _ in range(draws)]
        low, high = np.quantile(random, [0.025, 0.975])
        rows.append((slide, len(x), m, mean_pairwise_cosine(x[kept[slide]]), np.mean(random), low, high))
    columns = ["slide_id", "n_tiles", "n_kept", "kept", "random", "random_low", "random_high"]
    return pd.DataFrame(rows, columns=columns)


def likeness(table: pd.DataFrame, cases: Mapping[str, str], *, draws: int, seed: int) -> dict[str, object]:
    """How much more alike kept tiles are than random ones, over the slides of `diversity` that keep two or more.

    `more` and its interval (patients resampled; nan without such a slide) is a difference of mean cosines; `above` and
    `below` count slides outside of the middle 95 % of random selections; `few`: too few patients to tell.
    """
    known = table.dropna(subset=["kept", "random"])
    patients = known["slide_id"].map(cases).to_numpy(str)
    more, (low, high) = np.nan, (np.nan, np.nan)
    if len(known):
        more, low, high = clustered_mean(
            (known["kept"] - known["random"]).to_numpy(), patients, draws=draws, seed=seed
        )[0]
    counts = {
        "above": (known["kept"] > known["random_high"]).sum(),
        "below": (known["kept"] < known["random_low"]).sum(),
    }
    few = len(np.unique(patients)) < FEWEST_PATIENTS
    return {"more": more, "low": low, "high": high, "n_slides": len(known), "few": few} | counts


def spreads(
    model: VLM, bags: Mapping[str, Bag], maps: Sequence[TokenMap], *, neighbours: int, draws: int, seed: int
) -> pd.DataFrame:
    """How tight the kept tiles lie on each map, and how far the map is to be believed.

    `spread` is `relative_spread`, `spread_low` and `spread_high` the 2.5 and 97.5 % points of as many random tiles';
    `near` the share of neighbours on the map that are neighbours in the features, `near_chance` the same by chance.
    """
    rows = []
    for one in maps:
        n, k = len(one.place), len(one.kept)
        spread = relative_spread(one.place, one.kept, draws=draws, seed=seed)
        random = scattered(one.place, k, draws=draws, seed=seed)
        known = not np.isnan(spread)
        low, high = np.quantile(random / random.mean(), [0.025, 0.975]) if known else (np.nan, np.nan)
        near = min(neighbours, n - 1)
        share = kept_neighbours(as_compressed(model, bags[one.slide_id]), one.place, neighbours=near, seed=seed)
        rows.append((one.slide_id, n, k, spread, low, high, share, near / max(n - 1, 1)))
    names = ["slide_id", "n_tiles", "n_kept", "spread", "spread_low", "spread_high", "near", "near_chance"]
    return pd.DataFrame(rows, columns=names)


def relative_spread(place: Float[np.ndarray, "n c"], kept: Int[np.ndarray, " k"], *, draws: int, seed: int) -> float:
    """Mean distance of the kept tiles to their centroid, over that of as many random tiles (mean of `draws`).

    1 is what random tiles give, 0 is one point; nan for fewer than two kept tiles or where no two tiles lie apart.
    """
    random = scattered(place, len(kept), draws=draws, seed=seed).mean() if len(kept) else 0
    return _to_centroid(place[kept]) / random if len(kept) > 1 and random > 0 else float("nan")


def scattered(place: Float[np.ndarray, "n c"], k: int, *, draws: int, seed: int) -> Float[np.ndarray, " draws"]:
    """Mean distances to their centroid of k random tiles, a value a draw."""
    random = np.random.default_rng(seed)
    return np.array([_to_centroid(place[random.choice(len(place), k, replace=False)]) for _ in range(draws)])


def kept_neighbours(
    x: Float[np.ndarray, "n d"], place: Float[np.ndarray, "n 2"], *, neighbours: int, seed: int
) -> float:
    """The share of each tile's nearest on a map that are among its nearest by cosine; over JUDGED tiles at most.

    1 if the map keeps all neighbourhoods; nan for a lone tile.
    """
    if len(x) < 2:
        return float("nan")
    some = np.random.default_rng(seed).permutation(len(x))[:JUDGED]
    in_x, on_map = (_nearest(points, some, neighbours, how) for points, how in ((x, "cosine"), (place, "euclidean")))
    return float(np.mean([len(np.intersect1d(a, b)) / neighbours for a, b in zip(in_x, on_map, strict=True)]))


def readable(spread: pd.DataFrame) -> pd.DataFrame:
    """Set out a table of `spreads` for reading."""
    ends = zip(spread["spread_low"], spread["spread_high"], strict=True)
    shown = {"slide": spread["slide_id"], "tiles": spread["n_tiles"], "kept": spread["n_kept"]}
    shown["spread"] = [f"{value:.2f}" for value in spread["spread"]]
    shown["random, 95 %"] = [f"{low:.2f} to {high:.2f}" for low, high in ends]
    for column, title in (("near", "neighbours kept on the map (%)"), ("near_chance", "by chance (%)")):
        shown[title] = [f"{100 * share:.1f}" for share in spread[column]]
    return set_out(shown)


def map_titles(diversity: pd.DataFrame, spread: pd.DataFrame) -> dict[str, str]:
    """Name each slide over its map, with the kept tiles' cosine beside random ones' and their spread on the map."""
    rows = spread.merge(diversity[["slide_id", "kept", "random"]], on="slide_id").itertuples()
    numbers = "{0.slide_id}\ncosine {0.kept:.2f} (random {0.random:.2f}), spread ×{0.spread:.2f}"
    return {row.slide_id: numbers.format(row) for row in rows}


def _nearest(
    points: Float[np.ndarray, "n c"], some: Int[np.ndarray, " m"], neighbours: int, metric: str
) -> list[Int[np.ndarray, " k"]]:
    """The nearest other rows of some rows."""
    search = NearestNeighbors(n_neighbors=neighbours + 1, metric=metric, algorithm="brute").fit(points)
    found = search.kneighbors(points[some], return_distance=False)
    return [near[near != own][:neighbours] for near, own in zip(found, some, strict=True)]


def _to_centroid(place: Float[np.ndarray, "m c"]) -> float:
    return float(np.linalg.norm(place - place.mean(axis=0), axis=1).mean())
