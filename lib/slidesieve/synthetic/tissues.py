"""Eight background tissues: each function draws one toroidal map of stain densities."""

from typing import NamedTuple

import numpy as np

from slidesieve.synthetic.fields import Map, fibres, membranes, points, smooth, voronoi
from slidesieve.synthetic.marks import clear_of, discs, nuclei, ring


class Stains(NamedTuple):
    """Densities of haematoxylin, eosin and a third pigment (optical density units, before grain)."""

    h: Map
    e: Map
    p: Map | float = 0.0


def stroma(rng: np.random.Generator) -> Stains:
    """Wavy collagen with spindle nuclei."""
    strands = fibres(rng, 13, spread=0.35, warp_px=9)
    h = nuclei(rng, points(rng, 17), 2.7, density=1.1, aspect=3.5, spread=0.35)
    return Stains(h, 0.28 + 0.42 * strands)


def fat(rng: np.random.Generator) -> Stains:
    """Large empty cells with thin walls and flattened nuclei in them."""
    cells = voronoi(points(rng, 25))
    walls = membranes(cells, 1.4)
    at_walls = clear_of(points(rng, 16), cells.border_px, 3)
    h = nuclei(rng, at_walls, 2.3, density=1.1, aspect=2.5)
    return Stains(h, 0.16 + 0.42 * walls)


def muscle(rng: np.random.Generator) -> Stains:
    """Thick parallel eosinophilic fibres with long nuclei between them."""
    strands = fibres(rng, 17, spread=0.06, warp_px=3, angle=0.25)
    fine = fibres(rng, 5, spread=0.1, warp_px=2, angle=0.25)
    h = nuclei(rng, points(rng, 24), 2.8, density=1.2, aspect=5, angle=0.25, spread=0.08)
    return Stains(h, 0.62 + 0.45 * strands + 0.12 * fine)


def epithelium(rng: np.random.Generator) -> Stains:
    """Cobblestones: round nuclei, each in its walled cell."""
    centres = points(rng, 10.5)
    walls = membranes(voronoi(centres), 1.0)
    h = nuclei(rng, centres, 3.1, density=1.0, vesicular=0.3)
    return Stains(h + 0.08, 0.34 + 0.5 * walls)


def mucosa(rng: np.random.Generator) -> Stains:
    """Crypts: wide pale lumens ringed by basal nuclei, with lymphoid cells between them."""
    centres = points(rng, 33)
    lumen = discs(rng, centres, 9, jitter=0.08)
    wall = discs(rng, centres, 15, jitter=0.0) * (1 - lumen)
    rim = nuclei(rng, ring(rng, centres, 14, 15), 2.2, density=1.4, aspect=1.6)
    between = nuclei(rng, clear_of(points(rng, 8), wall + lumen, 0.1), 1.9, density=1.2)
    return Stains((rim + between) * (1 - lumen) + 0.05, (0.35 + 0.1 * wall) * (1 - 0.85 * lumen))


def cartilage(rng: np.random.Generator) -> Stains:
    """Smooth blue-grey matrix with cells in clear lacunae."""
    centres = points(rng, 21)
    halo = discs(rng, centres, 6.5)
    rim = discs(rng, centres, 9, edge_px=3) - halo
    h = nuclei(rng, centres, 2.6, density=1.3)
    clouds = 0.05 * smooth(rng, 40)
    return Stains(
        h + (0.08 + 0.18 * np.clip(rim, 0, 1)) * (1 - halo), 0.1 * (1 - halo), (0.75 + clouds) * (1 - 0.85 * halo)
    )


def nerve(rng: np.random.Generator) -> Stains:
    """Fine pale waves with thin wavy nuclei, all in one direction."""
    fine = fibres(rng, 6.5, spread=0.16, warp_px=6, angle=1.1, sharpness=1.5)
    h = nuclei(rng, points(rng, 13), 1.9, density=0.9, aspect=5, angle=1.1, spread=0.2)
    return Stains(h, 0.1 + 0.42 * fine)


def gland(rng: np.random.Generator) -> Stains:
    """Small packed acini: purple cytoplasm, round nuclei about a pinpoint lumen."""
    centres = points(rng, 21)
    cells = voronoi(centres)
    lumen = discs(rng, centres, 2.6)
    gap = membranes(cells, 1.3)
    h = nuclei(rng, ring(rng, centres, 7.3, 7), 2.3, density=1.5)
    return Stains(h + 0.36 * (1 - gap) * (1 - lumen), (0.62 - 0.5 * gap) * (1 - 0.9 * lumen))


TEXTURES = {
    "stroma": stroma,
    "fat": fat,
    "muscle": muscle,
    "epithelium": epithelium,
    "mucosa": mucosa,
    "cartilage": cartilage,
    "nerve": nerve,
    "gland": gland,
}
