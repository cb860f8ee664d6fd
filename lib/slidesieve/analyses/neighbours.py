"""How alike neighbouring tiles are, beside pairs of tiles at random."""

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
