"""Eight findings: each function draws one toroidal map of stain densities."""

import numpy as np

from slidesieve.synthetic.fields import fibres, membranes, points, smooth, voronoi
from slidesieve.synthetic.marks import discs, ellipses, nuclei, ring
from slidesieve.synthetic.tissues import Stains


def necrosis(rng: np.random.Generator) -> Stains:
    """Smudged pink debris strewn with fine nuclear dust."""
    smudge = 0.16 * smooth(rng, 9) + 0.12 * smooth(rng, 3)
    dust = nuclei(rng, points(rng, 7.5), 1.15, density=1.5, jitter=0.35)
    return Stains(dust + 0.05, 0.72 + smudge)


def mitosis(rng: np.random.Generator) -> Stains:
    """Dividing cells: dark bars in clear round cells."""
    centres = points(rng, 15)
    clear = discs(rng, centres, 6.2)
    plates = nuclei(rng, centres, 2.9, density=2.4, aspect=3.2)
    return Stains(plates + 0.16 * (1 - clear), 0.42 * (1 - 0.75 * clear) + 0.06)


def fibrosis(rng: np.random.Generator) -> Stains:
    """Dense, almost acellular bands."""
    bands = fibres(rng, 30, spread=0.3, warp_px=12, angle=-0.6)
    fine = fibres(rng, 9, spread=0.3, warp_px=6, angle=-0.6)
    h = nuclei(rng, points(rng, 38), 2.0, density=1.1, aspect=4, angle=-0.6, spread=0.3)
    return Stains(h, 0.7 + 0.65 * bands + 0.3 * fine)


def cyst(rng: np.random.Generator) -> Stains:
    """Round spaces full of pale secretion, each with a single flat row of nuclei."""
    centres = points(rng, 34)
    cavity = discs(rng, centres, 14.5, jitter=0.03, edge_px=1.2)
    lining = nuclei(rng, ring(rng, centres, 16.2, 17, 0.2), 1.9, density=1.7)
    return Stains(lining, 0.75 * (1 - cavity) + 0.22 * cavity)


def calcification(rng: np.random.Generator) -> Stains:
    """Dark lamellated bodies on pale ground."""
    centres = points(rng, 20)
    cells = voronoi(centres)
    body = discs(rng, centres, 8.0, jitter=0.12)
    rings = 0.5 + 0.5 * np.cos(2 * np.pi * cells.centre_px / 4.2)
    return Stains(body * (0.25 + 0.35 * rings), 0.22 + 0.05 * smooth(rng, 8), body * (0.5 + 0.7 * rings))


def abscess(rng: np.random.Generator) -> Stains:
    """Sheets of lobed nuclei in pale fluid."""
    centres = points(rng, 7.6)
    lobes = ring(rng, centres, 1.9, 3, 0.3)
    h = ellipses(lobes, np.full(len(lobes), 1.35), value=1.9)
    return Stains(h, 0.16 + 0.04 * smooth(rng, 12))


def granuloma(rng: np.random.Generator) -> Stains:
    """Swirls of plump pale epithelioid nuclei in pink cytoplasm."""
    swirl = fibres(rng, 20, spread=1.0, warp_px=14)
    h = nuclei(rng, points(rng, 12.5), 4.0, density=0.95, aspect=2.0, vesicular=0.75, nucleolus_px=1.1)
    return Stains(h + 0.05, 0.5 + 0.3 * swirl)


def thrombus(rng: np.random.Generator) -> Stains:
    """Layers: dense red bands of fibrin between pale bands with trapped cells."""
    layers = fibres(rng, 26, spread=0.12, warp_px=7, angle=0.9)
    red = np.clip(2.6 * (layers - 0.45), 0, 1)
    cells = voronoi(points(rng, 5.5))
    h = nuclei(rng, points(rng, 11), 1.6, density=1.6) * (1 - red)
    return Stains(h, 0.22 + 1.05 * red - 0.35 * red * membranes(cells, 1.0))


TEXTURES = {
    "necrosis": necrosis,
    "mitosis": mitosis,
    "fibrosis": fibrosis,
    "cyst": cyst,
    "calcification": calcification,
    "abscess": abscess,
    "granuloma": granuloma,
    "thrombus": thrombus,
}
