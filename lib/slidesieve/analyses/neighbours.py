"""How alike neighbouring tiles are, beside pairs at random; a slide's tiles along its axes, and what is nearest to one.

The axes are principal axes of one slide's features, as `pc1`, `pc2` ...: signs and turns of them mean nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from slidesieve.compressors.windows import grid_step
from slidesieve.features.bag import Bag

UNIT = 1e-12  # features shorter than this have no direction


def neighbours(
    bags: Mapping[str, Bag],
    slides: Sequence[str],
    *,
    mean: Float[np.ndarray, " d"],
    distances: Sequence[int],
    pairs: int,
    seed: int,
) -> pd.DataFrame:
    """Mean cosine of tiles `distance` grid steps apart along a row or column (1: the 4-neighbours) and of random pairs.

    A row a slide and distance that occurs: `pairs`, `cosine` and `random` of features as they are (high for any two
    tiles where features share a sign or a direction), `centred` and `random_centred` after `mean`, the cohort's, is
    taken off. At most `pairs` pairs of each kind, at random. Slides without coordinates have no row.
    """
    rows = []
    for bag in bags_that_vary(bags, slides):
        if not bag.attrs["has_coords"]:
            continue
        rng, places = np.random.default_rng(seed), grid_of(bag)
        by_chance = _cosines(bag.x, mean, random_pairs(len(bag.x), pairs, rng))
        for distance in distances:
            found = pairs_apart(places, distance)
            if len(found):
                some = found if len(found) <= pairs else found[rng.choice(len(found), pairs, replace=False)]
                rows.append((bag.slide_id, distance, len(some), *_cosines(bag.x, mean, some), *by_chance))
    columns = ["slide_id", "distance", "pairs", "cosine", "centred", "random", "random_centred"]
    return pd.DataFrame(rows, columns=columns)


def grid_of(bag: Bag) -> Int[np.ndarray, "n 2"]:
    """Column and row of each tile, in steps of the slide's grid."""
    coords = torch.from_numpy(bag.coords)
    return (coords // grid_step(coords)).numpy()


def pairs_apart(places: Int[np.ndarray, "n 2"], distance: int) -> Int[np.ndarray, "p 2"]:
    """Pairs of tiles so many steps apart along a row or a column, each pair once."""
    here = pd.DataFrame(places, columns=["column", "row"]).assign(tile=np.arange(len(places)))
    shifted = (here.assign(**{axis: here[axis] - distance}) for axis in ("column", "row"))
    both = [here.merge(there, on=["column", "row"])[["tile_x", "tile_y"]] for there in shifted]
    return pd.concat(both).to_numpy()


def random_pairs(n: int, pairs: int, rng: np.random.Generator) -> Int[np.ndarray, "p 2"]:
    """Pairs of two different tiles of n, drawn with replacement."""
    first = rng.integers(n, size=pairs)
    return np.stack([first, (first + rng.integers(1, n, size=pairs)) % n], axis=1)


def mean_cosine(x: Float[np.ndarray, "n d"], pairs: Int[np.ndarray, "p 2"]) -> float:
    """Mean cosine over pairs of rows; a row of zeros has none with any."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), UNIT)
    return float(np.einsum("pd,pd->p", unit[pairs[:, 0]], unit[pairs[:, 1]]).mean())


def _cosines(
    x: Float[np.ndarray, "n d"], mean: Float[np.ndarray, " d"], pairs: Int[np.ndarray, "p 2"]
) -> tuple[float, float]:
    return mean_cosine(x, pairs), mean_cosine(x - mean, pairs)


def bags_that_vary(bags: Mapping[str, Bag], slides: Sequence[str]) -> Iterator[Bag]:
    """Bags one by one. Raises ValueError for a slide whose tiles do not vary."""
    for slide_id in slides:
        bag = bags[slide_id]
        if (bag.x == bag.x[:1]).all():
            raise ValueError(
                f"{slide_id}: its {len(bag.x)} tiles are all alike; expected features that vary; extract them again"
            )
        yield bag


def principal_axes(bag: Bag, *, axes: int) -> pd.DataFrame:
    """Each tile's place along a slide's first principal axes: index, x_px0, y_px0, pc1 ... (0 beyond d)."""
    x = bag.x - bag.x.mean(0)
    directions = np.linalg.eigh((x.T @ x).astype(np.float64))[1][:, ::-1][:, :axes]
    place = np.zeros((len(x), axes))
    place[:, : directions.shape[1]] = x @ directions
    coords = {"x_px0": bag.coords[:, 0], "y_px0": bag.coords[:, 1]}
    named = {f"pc{i + 1}": place[:, i] for i in range(axes)}
    return pd.DataFrame({"index": bag.slide_index, **coords, **named})


def nearest(bags: Mapping[str, Bag], slide_id: str, tiles: Sequence[int], *, most: int) -> pd.DataFrame:
    """For some tiles of a slide the `most` tiles of all these slides whose features are nearest, itself first.

    Rows query, rank, slide_id, index, x_px0, y_px0, cosine; the mean feature of all tiles is taken off first, for it is
    common to any two. Memory is linear in the number of tiles.
    """
    mean = _mean(bags)
    asked, rows = _unit(bags[slide_id].x[list(tiles)] - mean), []
    for bag in bags.values():
        cosine = asked @ _unit(bag.x - mean).T
        for query, alike in zip(tiles, cosine, strict=True):
            if bag.slide_id == slide_id:
                alike[query] = np.inf  # itself, whatever others are its equals
            for i in np.argsort(-alike, kind="stable")[: most + 1]:
                own = bag.slide_id == slide_id and i == query
                rows.append(
                    (query, bag.slide_id, int(i), *bag.coords[i].tolist(), 1.0 if own else float(alike[i]), own)
                )
    table = pd.DataFrame(rows, columns=["query", "slide_id", "index", "x_px0", "y_px0", "cosine", "own"])
    table = table.sort_values(["query", "own", "cosine"], ascending=[True, False, False], kind="stable")
    table.insert(1, "rank", table.groupby("query").cumcount())
    return table[table["rank"] <= most].drop(columns="own").reset_index(drop=True)


def chance_cosine(bags: Mapping[str, Bag], *, pairs: int, seed: int) -> float:
    """Mean cosine of random pairs of all these slides' tiles, the mean feature of all taken off."""
    ends = np.cumsum([len(bag.x) for bag in bags.values()])
    if ends[-1] < 2:
        return float("nan")
    drawn = random_pairs(int(ends[-1]), pairs, np.random.default_rng(seed)).ravel()
    slide, every = np.searchsorted(ends, drawn, side="right"), list(bags.values())
    x = np.stack([every[i].x[tile - ends[i]] for i, tile in zip(slide, drawn, strict=True)])  # counted from the end
    return mean_cosine(x - _mean(bags), np.arange(len(x)).reshape(-1, 2))


def _mean(bags: Mapping[str, Bag]) -> Float[np.ndarray, " d"]:
    """The mean feature of all tiles of some slides."""
    return np.average([bag.x.mean(0) for bag in bags.values()], axis=0, weights=[len(bag.x) for bag in bags.values()])


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), UNIT)
