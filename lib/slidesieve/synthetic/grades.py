"""Eight tumour patterns that stand for grades: each function draws one toroidal map of stain densities."""

import numpy as np

from slidesieve.synthetic.fields import fibres, membranes, points, smooth, voronoi
from slidesieve.synthetic.marks import clear_of, discs, nuclei
from slidesieve.synthetic.tissues import Stains


def low(rng: np.random.Generator) -> Stains:
    """Small bland round nuclei, evenly spaced in pale cytoplasm."""
    h = nuclei(rng, points(rng, 9.5), 2.1, density=0.95, jitter=0.04, aspect=1.05)
    return Stains(h, 0.24 + 0.03 * smooth(rng, 20))


def intermediate(rng: np.random.Generator) -> Stains:
    """Medium nuclei, closer and more varied, in purple cytoplasm."""
    h = nuclei(rng, points(rng, 9.5), 3.3, density=1.25, jitter=0.18, aspect=1.4)
    return Stains(h + 0.22, 0.34 + 0.05 * smooth(rng, 15))


def high(rng: np.random.Generator) -> Stains:
    """Large open nuclei with prominent nucleoli."""
    h = nuclei(rng, points(rng, 13.5), 5.6, density=1.15, jitter=0.15, vesicular=0.6, nucleolus_px=1.9)
    return Stains(h + 0.1, 0.5 + 0.05 * smooth(rng, 15))


def undifferentiated(rng: np.random.Generator) -> Stains:
    """Crowded, bizarre, very dark nuclei of every size."""
    h = nuclei(rng, points(rng, 11), 4.6, density=2.1, jitter=0.36, aspect=1.7)
    return Stains(h + 0.2, 0.62 + 0.1 * smooth(rng, 8))


def papillary(rng: np.random.Generator) -> Stains:
    """Fronds: pink cores edged by nuclei, white clefts between them."""
    frond = fibres(rng, 30, spread=0.8, warp_px=8, angle=0.4)
    inside = np.clip((frond - 0.38) * 9, 0, 1)
    edge = inside * np.clip((0.80 - frond) * 9, 0, 1)
    h = nuclei(rng, clear_of(points(rng, 5.8), 1 - edge, 0.6), 2.3, density=1.5)
    return Stains(h * inside, 0.5 * inside + 0.25 * np.clip((frond - 0.85) * 8, 0, 1) + 0.02)


def solid(rng: np.random.Generator) -> Stains:
    """Sheets of clear cells: sharp walls, empty cytoplasm, central nuclei."""
    centres = points(rng, 14)
    cells = voronoi(centres)
    walls = membranes(cells, 1.3)
    h = nuclei(rng, centres, 2.9, density=1.45)
    return Stains(h + 0.3 * walls, 0.1 + 0.65 * walls)


def cribriform(rng: np.random.Generator) -> Stains:
    """A sieve: round holes punched in a dense sheet of nuclei."""
    centres = points(rng, 17)
    holes = discs(rng, centres, 5.5, jitter=0.06)
    h = nuclei(rng, clear_of(points(rng, 5.2), holes, 0.3), 2.4, density=1.3)
    return Stains((h + 0.55) * (1 - holes), 0.55 * (1 - holes) + 0.02)


def trabecular(rng: np.random.Generator) -> Stains:
    """Parallel cords of cells with pale stroma between them."""
    cords = fibres(rng, 22, spread=0.1, warp_px=5, angle=-0.9)
    inside = np.clip((cords - 0.42) * 7, 0, 1)
    h = nuclei(rng, clear_of(points(rng, 7.5), 1 - inside, 0.3), 2.8, density=1.3, aspect=1.5, angle=0.67, spread=0.3)
    return Stains(h + 0.3 * inside, 0.12 + 0.5 * inside)


TEXTURES = {
    "low": low,
    "intermediate": intermediate,
    "high": high,
    "undifferentiated": undifferentiated,
    "papillary": papillary,
    "solid": solid,
    "cribriform": cribriform,
    "trabecular": trabecular,
}
