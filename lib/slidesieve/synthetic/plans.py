"""What is where on a toy slide: 16 x 8 tiles, most of them tissue, a few of them evidence or decoys."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.ndimage import gaussian_filter

from slidesieve.synthetic.classes import BY_KIND, CLASSES, DECOYS, FINDINGS, GRADES, INDEX, TISSUES

ROWS, COLS, TILE_PX0 = 8, 16, 64
N_TILES = ROWS * COLS
MARGIN_TILES = 6  # the dominant tissue leads the next by at least so much


class Plan(NamedTuple):
    """One slide: the class index of every tile, and the number its pixels are drawn from."""

    number: int
    labels: Int[np.ndarray, "8 16"]


def names_in(labels: Int[np.ndarray, "..."], kind: str) -> list[str]:
    """List the classes of a kind among `labels`, in class-list order."""
    shown = set(np.unique(labels).tolist())
    return [name for name in BY_KIND[kind] if INDEX[name] in shown]


def tissue_counts(labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, " 8"]:
    """Count the tiles of each tissue."""
    return np.bincount(labels.ravel(), minlength=len(CLASSES))[: len(TISSUES)]


def dominant_tissue(labels: Int[np.ndarray, "..."]) -> str:
    """Name the tissue with most tiles (the first in the class list if several have), or "none" without tissue."""
    counts = tissue_counts(labels)
    return TISSUES[int(counts.argmax())] if counts.any() else "none"


def tissue_layout(rng: np.random.Generator) -> Int[np.ndarray, "8 16"]:
    """Divide the slide among tissues: Dirichlet(0.6) shares, coherent regions."""
    shares = rng.dirichlet(np.full(len(TISSUES), 0.6))
    noise = gaussian_filter(rng.standard_normal((len(TISSUES), ROWS, COLS)), (0, 1.2, 1.2), mode="nearest")
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return np.argmax(noise + np.log(shares + 1e-3)[:, None, None], axis=0)


def draw_plan(seed: int, number: int, *, evidence_tiles: tuple[int, int], n_decoys: int, nest: int = 1) -> Plan:
    """Draw slide `number` of the cohort `seed`.

    One finding and one grade each take `evidence_tiles` (least, most) single tiles, or with `nest` > 1 squares of
    nest x nest tiles anywhere on the slide, as many as make up that number; `n_decoys` further tiles show one decoy
    each, all different. Layouts without a clear dominant tissue are drawn again.
    """
    if not 1 <= nest <= ROWS // 2:
        raise ValueError(f"nest: got {nest}, expected a side of 1 to {ROWS // 2} tiles")
    if not 0 <= n_decoys <= len(DECOYS):
        raise ValueError(f"n_decoys: got {n_decoys}, expected 0 to {len(DECOYS)}, because each decoy class comes once")
    rng = np.random.default_rng([seed, 1, number])
    finding, grade = INDEX[rng.choice(FINDINGS)], INDEX[rng.choice(GRADES)]
    counts = rng.integers(evidence_tiles[0], evidence_tiles[1] + 1, size=2)
    decoys = [INDEX[name] for name in rng.choice(DECOYS, n_decoys, replace=False)]
    nests = -(-counts // nest**2)
    evidence = [finding] * nests[0] + [grade] * nests[1]
    while True:
        labels = tissue_layout(rng)
        if nest == 1:
            labels.ravel()[rng.choice(N_TILES, len(evidence) + n_decoys, replace=False)] = evidence + decoys
        else:
            _plant_squares(rng, labels, evidence, decoys, side=nest)
        second, first = np.sort(tissue_counts(labels))[-2:]
        if first - second >= MARGIN_TILES:
            return Plan(number, labels)


def _plant_squares(rng, labels: Int[np.ndarray, "8 16"], evidence: list[int], decoys: list[int], *, side: int) -> None:
    """Plant each evidence class on a square of its own, then the decoys on other tiles."""
    free = np.ones(labels.shape, dtype=bool)
    for planted in evidence:
        open_corners = np.lib.stride_tricks.sliding_window_view(free, (side, side)).all((2, 3)).nonzero()
        place = rng.integers(len(open_corners[0]))
        square = tuple(slice(axis[place], axis[place] + side) for axis in open_corners)
        labels[square], free[square] = planted, False
    labels.ravel()[rng.choice(np.flatnonzero(free), len(decoys), replace=False)] = decoys
