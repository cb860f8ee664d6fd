"""One slide's tiles on a map: embedded in two dimensions, placed on the thumbnail, and compared in direction."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8

from slidesieve.answers.select import planted_tiles
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


class TokenMap(NamedTuple):
    """A slide's tiles in two dimensions, with the indices of those kept and of those planted (empty: not known)."""

    slide_id: str
    place: Float[np.ndarray, "n 2"]
    kept: Int[np.ndarray, " k"]
    planted: Int[np.ndarray, " p"]


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


def mapped(
    model: VLM,
    bags: Mapping[str, Bag],
    slides: Sequence[str],
    kept: Mapping[str, Int[np.ndarray, " k"]],
    *,
    truth: pd.DataFrame | None,
    neighbours: int,
    seed: int,
) -> list[TokenMap]:
    """A map of each slide's features as the compressor gets them; `truth` tells which tiles were planted, if known."""
    none = np.empty(0, int)
    return [
        TokenMap(
            slide,
            embed(as_compressed(model, bags[slide]), neighbours=neighbours, seed=seed),
            kept[slide],
            none if truth is None else planted_tiles(bags[slide], truth),
        )
        for slide in slides
    ]


def table_of(maps: Sequence[TokenMap]) -> pd.DataFrame:
    """A row a tile: slide_id, tile, umap_1, umap_2, kept, planted (False also where it is not known)."""
    parts = [
        pd.DataFrame(one.place, columns=["umap_1", "umap_2"]).assign(
            slide_id=one.slide_id,
            tile=range(len(one.place)),
            kept=marked(one.kept, len(one.place)),
            planted=marked(one.planted, len(one.place)),
        )
        for one in maps
    ]
    columns = ["slide_id", "tile", "umap_1", "umap_2", "kept", "planted"]
    return pd.concat(parts, ignore_index=True)[columns]


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
