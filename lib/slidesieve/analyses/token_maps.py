"""One slide's tiles on a map: embedded in two dimensions, placed on the thumbnail, and compared in direction."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8

from slidesieve.cohort.manifest import Manifest, path_of, row_of, with_slide_file
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import n_tiles
from slidesieve.models.vlm import VLM
from slidesieve.slides.overviews import spread
from slidesieve.slides.pixels import thumbnail
from slidesieve.slides.slide import open_slide

LONG_SIDE_PX = 1024


class Picture(NamedTuple):
    """A thumbnail, the slide's width and the tiles' side, both in level-0 px, and micrometres a level-0 px."""

    image: UInt8[np.ndarray, "h w 3"]
    width_px0: float
    tile_px0: float
    mpp: float


def as_compressed(model: VLM, bag: Bag) -> Float[np.ndarray, "n d"]:
    """The bag's features as the compressor gets them: normalised and, where there is a slide encoder, encoded."""
    with torch.no_grad():
        return model.encode(collate([bag]).to(model.feature_mean.device))[0].cpu().numpy()


def embed(x: Float[np.ndarray, "n d"], *, neighbours: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """UMAP by cosine distance; a slide of fewer than four tiles is laid out on a line."""
    if len(x) < 4:
        return np.stack([np.arange(len(x)), np.zeros(len(x))], axis=1).astype(float)
    from umap import UMAP  # slow to import, and needed here only

    near = min(neighbours, len(x) - 1)
    start = "spectral" if len(x) > 4 * near else "random"
    return UMAP(n_neighbors=near, metric="cosine", init=start, random_state=seed, n_jobs=1).fit_transform(x)


def typical(bags: Mapping[str, Bag], n: int) -> list[str]:
    """Pick n slides of the longer half, evenly spaced by their number of tiles."""
    by_length = sorted(bags, key=lambda slide: (n_tiles(bags, slide), slide))
    return spread(by_length[len(by_length) // 2 :], n)


def picture(manifest: Manifest, slide_id: str, bag: Bag) -> Picture | None:
    """The slide's picture to draw its tiles on; None if there is no slide file or the bag has no places."""
    row = row_of(manifest, slide_id)
    if not with_slide_file(manifest, [slide_id]) or "patch_size_level0" not in bag.attrs:
        return None
    with open_slide(path_of(manifest, slide_id, "slide_path"), mpp=row["mpp"]) as slide:
        small = thumbnail(slide, max(slide.size_px0) / LONG_SIDE_PX)
        mpp = slide.mpp
    return Picture(small.rgb, small.rgb.shape[1] * small.scale, float(bag.attrs["patch_size_level0"]), mpp)


def title(slide_id: str, found: pd.DataFrame) -> str:
    """Say what is marked, and how much planted evidence is among it where that is known."""
    known = found[found["slide_id"] == slide_id]
    planted = f"; {known.n_kept_planted.item()} of {known.n_planted.item()} planted tiles kept" if len(known) else ""
    return f"{slide_id}: kept tiles framed in orange{planted}"


def marked(kept: Int[np.ndarray, " k"], n: int) -> Bool[np.ndarray, " n"]:
    """True on the kept tiles."""
    flags = np.zeros(n, dtype=bool)
    flags[kept] = True
    return flags


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


def relative_spread(place: Float[np.ndarray, "n c"], kept: Int[np.ndarray, " k"], *, draws: int, seed: int) -> float:
    """Mean distance of the kept tiles to their centroid, over that of as many random tiles (mean of `draws`).

    1 is what random tiles give, 0 is one point; nan for fewer than two kept tiles or where no two tiles lie apart.
    """
    random = np.random.default_rng(seed)
    scattered = np.mean(
        [_to_centroid(place[random.choice(len(place), len(kept), replace=False)]) for _ in range(draws)]
    )
    return _to_centroid(place[kept]) / scattered if len(kept) > 1 and scattered > 0 else float("nan")


def map_title(slide_id: str, likeness: float, random_likeness: float, spread: float) -> str:
    """Name the slide over its map, with the kept tiles' cosine beside random ones' and their spread on the map."""
    return f"{slide_id}\ncosine {likeness:.2f} (random {random_likeness:.2f}), spread ×{spread:.2f}"


def _to_centroid(place: Float[np.ndarray, "m c"]) -> float:
    return float(np.linalg.norm(place - place.mean(axis=0), axis=1).mean())
