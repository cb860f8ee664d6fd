"""Sixteen rare and striking things that no question asks about: artefacts, pigments, bystanders."""

import numpy as np

from slidesieve.synthetic.fields import fibres, membranes, points, smooth, voronoi
from slidesieve.synthetic.marks import clear_of, discs, ellipses, nuclei
from slidesieve.synthetic.tissues import Stains


def _ink(rng: np.random.Generator, angle: float) -> Stains:
    """Streaked opaque ink over ghostly tissue."""
    streaks = fibres(rng, 22, spread=0.3, angle=angle, warp_px=8)
    pool = np.clip(0.75 + 0.35 * smooth(rng, 22), 0.2, 1.6)
    return Stains(nuclei(rng, points(rng, 16), 2.6, density=0.8), 0.2, pool + 0.55 * streaks)


def ink_blue(rng: np.random.Generator) -> Stains:
    """Blue marker."""
    return _ink(rng, 0.3)


def ink_green(rng: np.random.Generator) -> Stains:
    """Green marker."""
    return _ink(rng, 1.9)


def fold(rng: np.random.Generator) -> Stains:
    """Tissue lying double: dark creases, twice the stain."""
    creases = fibres(rng, 27, spread=0.1, angle=1.3, warp_px=5, sharpness=1.5)
    h = nuclei(rng, points(rng, 10), 3.0, density=1.2, aspect=1.6)
    return Stains((0.4 + h) * (0.5 + creases), 0.7 + 1.1 * creases)


def bubble(rng: np.random.Generator) -> Stains:
    """Air under the glass: empty rounds with dark refractile rims."""
    centres = points(rng, 24)
    cells = voronoi(centres)
    inside = discs(rng, centres, 11, jitter=0.0)
    rim = np.exp(-0.5 * ((cells.centre_px - 11) / 1.3) ** 2) + 0.4 * np.exp(-0.5 * ((cells.centre_px - 7) / 0.9) ** 2)
    return Stains(0.0 * inside, 0.26 - 0.1 * inside, 1.5 * rim)


def _pigment(rng: np.random.Generator, spacing_px: float, radius_px: float, jitter: float, density: float) -> Stains:
    """Clumped grains of pigment in loose stroma."""
    clumps = smooth(rng, 11)
    grains = clear_of(points(rng, spacing_px), -clumps, 0.5)
    radius = radius_px * np.exp(jitter * rng.standard_normal(len(grains)))
    p = ellipses(grains, radius, value=density * np.exp(0.2 * rng.standard_normal(len(grains))))
    h = nuclei(rng, points(rng, 19), 2.4, density=1.0, aspect=2)
    return Stains(h, 0.3 + 0.12 * fibres(rng, 12, spread=0.6), p)


def haemosiderin(rng: np.random.Generator) -> Stains:
    """Golden-brown coarse grains."""
    return _pigment(rng, 5.0, 2.3, 0.25, 1.1)


def melanin(rng: np.random.Generator) -> Stains:
    """Dark-brown fine dust filling cells."""
    return _pigment(rng, 3.2, 1.3, 0.2, 1.2)


def anthracosis(rng: np.random.Generator) -> Stains:
    """Black coarse carbon."""
    return _pigment(rng, 6.0, 2.8, 0.35, 2.2)


def haemorrhage(rng: np.random.Generator) -> Stains:
    """Packed red cells with pale centres."""
    centres = points(rng, 6.6)
    cells = discs(rng, centres, 3.3, jitter=0.06)
    pale = discs(rng, centres, 1.4, jitter=0.06)
    return Stains(0.0 * cells, 0.06 * cells, cells * (1 - 0.35 * pale) * 1.0)


def lymphoid(rng: np.random.Generator) -> Stains:
    """A blue sea of small round dark nuclei with scant cytoplasm."""
    h = nuclei(rng, points(rng, 5.4), 2.5, density=1.9, jitter=0.08, aspect=1.05)
    return Stains(h + 0.1, 0.1 * np.ones_like(h))


def suture(rng: np.random.Generator) -> Stains:
    """Braided thread: bright bluish filaments crossing in two directions."""
    one = fibres(rng, 12, spread=0.05, angle=0.6, warp_px=1, sharpness=2)
    two = fibres(rng, 12, spread=0.05, angle=-0.7, warp_px=1, sharpness=2)
    return Stains(0.05, 0.06, 1.3 * np.maximum(one, two))


def chatter(rng: np.random.Generator) -> Stains:
    """Knife marks: evenly spaced thick and thin bands."""
    blind = fibres(rng, 10, spread=0.03, angle=1.57, warp_px=1.0, sharpness=1.0)
    h = nuclei(rng, points(rng, 8.5), 2.6, density=1.5)
    return Stains((h + 0.15) * (0.08 + 0.92 * blind), 0.95 * blind)


def mucin(rng: np.random.Generator) -> Stains:
    """Pools of pale blue strings."""
    strings = fibres(rng, 15, spread=0.7, warp_px=11, angle=0.2, sharpness=1.6)
    h = nuclei(rng, points(rng, 40), 2.0, density=1.2)
    return Stains(h, 0.02, 0.35 + 0.75 * strings)


def oedema(rng: np.random.Generator) -> Stains:
    """Almost empty ground with thin strands pulled apart."""
    cells = voronoi(points(rng, 14))
    strands = membranes(cells, 0.9) * np.clip(0.5 + 0.5 * smooth(rng, 12), 0, 1)
    h = nuclei(rng, points(rng, 36), 2.0, density=0.8)
    return Stains(h, 0.17 + 0.3 * strands)


def foam(rng: np.random.Generator) -> Stains:
    """Bubbly cells: lace of tiny vacuoles."""
    lace = membranes(voronoi(points(rng, 6.0)), 1.1)
    h = nuclei(rng, points(rng, 26), 2.3, density=1.2)
    return Stains(h, 0.06 + 0.62 * lace)


def crush(rng: np.random.Generator) -> Stains:
    """Nuclei smeared into dark streaks."""
    streaks = fibres(rng, 8, spread=0.12, angle=0.15, warp_px=6, sharpness=1.6)
    h = nuclei(rng, points(rng, 11), 2.6, density=1.6, aspect=7, angle=0.15, spread=0.15)
    return Stains(np.maximum(h, 1.7 * streaks), 0.35 + 0.1 * streaks)


def plasma_cells(rng: np.random.Generator) -> Stains:
    """Eccentric nuclei in violet cytoplasm, separate cells."""
    centres = points(rng, 10.5)
    body = discs(rng, centres, 4.6, jitter=0.06)
    turn = rng.uniform(0, 2 * np.pi, len(centres))
    h = nuclei(rng, centres + 1.7 * np.stack([np.sin(turn), np.cos(turn)], -1), 2.3, density=1.7, aspect=1.05)
    return Stains(np.maximum(h, 0.55 * body), 0.85 * body + 0.04)


TEXTURES = {
    "ink-blue": ink_blue,
    "ink-green": ink_green,
    "fold": fold,
    "bubble": bubble,
    "haemosiderin": haemosiderin,
    "melanin": melanin,
    "anthracosis": anthracosis,
    "haemorrhage": haemorrhage,
    "lymphoid": lymphoid,
    "suture": suture,
    "chatter": chatter,
    "mucin": mucin,
    "oedema": oedema,
    "foam": foam,
    "crush": crush,
    "plasma-cells": plasma_cells,
}
