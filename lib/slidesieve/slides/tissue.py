"""What of a slide is tissue: what absorbs as stain does, measured against the slide's own glass, and is no ink.

    A = ln(glass / rgb)                 absorbance of a channel, from 0, of 4 x 4 pixels; glass: brightest and flat
    span = max A - min A                over the three channels
    stained = span > t, span > GREY * mean A, and the pixel itself neither bare nor black
    t = ABOVE * the 95th percentile of the glass's own span, within LEAST to MOST

Stain takes green light first (purple, pink) or blue (brown); ink takes red first (blue, green, black), or green and
blue alike with red untouched (red). Where half of what is coloured would be ink it is the slide's stain, and stays.
All of this but the equation of absorbance is our own.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8, UInt16
from scipy import ndimage

DARK, BLACK = 50, 12  # of 255: darker in every channel than any stained tissue; than any ink
GAP_PX = 2  # mask pixels closed from each side: what is white inside tissue (fat, lumens) is tissue
LEAST, MOST = 0.016, 0.05  # of the span: under the first is noise, and over the second no glass that is even
ABOVE = 1.3  # times the span that 95 of 100 pixels of glass stay under
GREY_BITS = 4  # GREY = 3 / 2^4: a shadow, dust or grey ink absorbs all channels nearly alike
UNIT = 1700  # whole numbers an absorbance of 1 is: 16 bits hold three of the blackest
INK_SHARE = 0.5  # of what is coloured
FLAGGED_INK, FLAGGED_ALL, FLAGGED_RIM, FAINT = 0.005, 0.95, 0.3, 0.12

PALEST, STEP = 150, 8  # of glass: its darkest channel; between neighbours where it is flat
MOST_TINT, MOST_PINK = 0.3, 0.035  # of glass: its span; how far its green lies under both others, as stain's does
WHITE, LEAST_GLASS, SAMPLES = 250, 0.01, 12_000  # nobody scanned white; glass has that share; pixels looked at
NEUTRAL = np.full(3, 243.0)

Plane = Int16[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]


class Tissue(NamedTuple):
    """Where tissue and ink lie, what the glass looks like (RGB), and from which span on a pixel is stained."""

    mask: Mask
    ink: Mask
    glass: Float[np.ndarray, " 3"]
    threshold: float
    flags: tuple[str, ...]


def find_tissue(rgb: UInt8[np.ndarray, "h w 3"], known: Mask | None = None) -> Tissue:
    """Tell tissue from glass and ink on a thumbnail; `known` is False where nothing was scanned or could be read.

    The gaps in tissue are tissue. `flags` say what a person should look at: "all tissue", "rim lost", "low contrast",
    "pen hue".
    """
    known = np.ones(rgb.shape[:2], bool) if known is None else known
    planes = [np.ascontiguousarray(rgb[..., c]) for c in range(3)]
    sums = [_sum16(plane) for plane in planes]
    half = np.s_[::2, ::2]
    glass, threshold = _glass(sums, known[half])
    red, green, blue = (_absorbance(total, level) for total, level in zip(sums, glass, strict=True))
    span = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = (span > UNIT * threshold) & (span > (red + green + blue) >> GREY_BITS)
    bright = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    lit = (bright > DARK) & known
    own = [plane < np.uint8(level * np.exp(-threshold / 2)) for plane, level in zip(planes[1:], glass[1:], strict=True)]
    ink = _ink(red, green, blue, span, (bright > BLACK)[half] & known[half], threshold)
    if (ink & coloured).sum() > INK_SHARE * (coloured & lit[half]).sum():
        ink[:] = False
    stained = (own[0] | own[1]) & lit & _doubled(coloured & ~ink, rgb.shape)
    inked = _doubled(ink, rgb.shape)
    mask = closed(stained, GAP_PX) & known & ~inked
    return Tissue(mask, inked, glass, threshold, _flags(mask[half], ink, span, lit[half], threshold))


def closed(mask: Mask, gap_px: int) -> Mask:
    """Close gaps of up to 2 * gap_px (a square's closing); beyond the border the mask goes on as it ends."""
    padded = np.pad(mask, 2 * gap_px, mode="edge")
    whole = _squares(_squares(padded, gap_px, np.logical_or), gap_px, np.logical_and)
    return whole[2 * gap_px : -2 * gap_px, 2 * gap_px : -2 * gap_px]


def _squares(mask: Mask, reach: int, join: np.ufunc) -> Mask:
    """Join every pixel with those up to `reach` away along both axes; past the border are none."""
    for axis in (0, 1):
        out, move = mask.copy(), np.moveaxis
        into, source = move(out, axis, 0), move(mask, axis, 0)
        for by in range(1, reach + 1):
            join(into[by:], source[:-by], out=into[by:])
            join(into[:-by], source[by:], out=into[:-by])
        mask = out
    return mask


def _sum16(plane: UInt8[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h2 w2"]:
    """Sum the 4 x 4 pixels about every second corner; the border goes on as it ends."""
    height, width = plane.shape
    wide = np.pad(plane, ((1, 1 + height % 2), (1, 1 + width % 2)), mode="edge")
    pairs = np.add(wide[::2], wide[1::2], dtype=np.uint16)  # rows 2i - 1 and 2i
    down = pairs[:-1] + pairs[1:]
    pairs = down[:, ::2] + down[:, 1::2]
    return pairs[:, :-1] + pairs[:, 1:]


def _doubled(mask: Mask, shape: tuple[int, ...]) -> Mask:
    return mask.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def _absorbance(total: UInt16[np.ndarray, "h w"], glass: float) -> Plane:
    levels = np.maximum(np.arange(16 * 255 + 1), 16) / 16
    return np.rint(UNIT * np.maximum(np.log(glass / levels), 0)).astype(np.int16).take(total)


def _glass(sums: list[np.ndarray], known: Mask) -> tuple[Float[np.ndarray, " 3"], float]:
    """The colour of the slide's glass and the span from which on something is stained; neutral where none lies flat.

    White that a scanner fills in is no glass if there is other glass, that no stain has (whose green is lowest).
    """
    step = max(1, int(np.sqrt(known.size / SAMPLES)))
    places = np.s_[:-1:step, :-1:step], np.s_[:-1:step, 1::step], np.s_[1::step, :-1:step]
    here, right, below = (np.stack([total[place] for total in sums]) / np.float32(16) for place in places)
    lit = known[:-1:step, :-1:step] & (here.max(0) > DARK)
    flat = lit & (np.maximum(abs(here - right), abs(here - below)).max(0) <= STEP) & (here.min(0) >= PALEST)
    flat = here[:, flat]
    red, green, blue = flat
    tint, pink = flat.max(0) / flat.min(0), np.minimum(red, blue) / green
    flat = flat[:, (tint <= np.exp(MOST_TINT)) & (pink <= np.exp(MOST_PINK))]
    least = LEAST_GLASS * max(1, lit.sum())
    filler = flat.min(0) >= WHITE
    for candidates in (flat[:, ~filler & (flat[1] > flat.min(0) - 2)], flat) if filler.sum() >= least else (flat,):
        if (glass := _brightest(candidates, least)) is not None:
            near = candidates[:, np.abs(candidates - glass[:, None]).max(0) <= STEP]
            near = np.log(glass[:, None] / near[:, near.sum(0) >= glass.sum()])  # faint stain is darker
            return glass, float(np.clip(ABOVE * np.quantile(near.max(0) - near.min(0), 0.95), LEAST, MOST))
    return NEUTRAL, MOST


def _brightest(pixels: Float[np.ndarray, "3 n"], least: float) -> Float[np.ndarray, " 3"] | None:
    """The median colour of the brightest heap of at least so many pixels, or None."""
    bright = pixels.sum(0)
    heap = np.convolve(np.bincount(bright.astype(int), minlength=766), np.ones(STEP), "same")
    enough = np.flatnonzero(heap >= max(1.0, least))
    if not len(enough):
        return None
    top = enough[-1]
    while heap[top - 1] >= heap[top]:
        top -= 1
    return np.median(pixels[:, np.abs(bright - top) <= STEP], axis=1)


def _ink(red: Plane, green: Plane, blue: Plane, span: Plane, lit: Mask, threshold: float) -> Mask:
    """Mark ink: strokes of a hue that no stain has, and what of nearly that hue hangs together with them."""
    lead = red - green
    dark = lit & (red > UNIT) & ((lead > -0.08 * UNIT) | (red > 1.5 * UNIT) & (green > 1.7 * UNIT))
    cool = (lead > 0.15 * UNIT) & lit | dark
    warm = (red < 0.22 * UNIT) & (green > 1.2 * UNIT) & (blue > 0.72 * green)
    ink = np.zeros_like(lit)
    for seeds, weak in (
        (cool, lambda: (lead > -0.03 * UNIT) & (span > UNIT * threshold) | dark),
        (warm, lambda: ((red < 0.5 * UNIT) | (green > 1.7 * UNIT)) & (green > 0.03 * UNIT) & (blue > 0.66 * green)),
    ):
        if seeds.any() and (seeds := _squares(_squares(seeds, 1, np.logical_and), 1, np.logical_or)).any():
            parts, n = ndimage.label(weak() | seeds)
            hit = np.zeros(n + 1, bool)
            hit[parts[seeds]] = True
            ink |= hit[parts]
    return _squares(ink, 1, np.logical_or) if ink.any() else ink


def _flags(mask: Mask, ink: Mask, span: Plane, lit: Mask, threshold: float) -> tuple[str, ...]:
    n_lit, n_tissue = max(1, int(lit.sum())), int(mask.sum())
    flags = []
    if n_tissue > FLAGGED_ALL * n_lit:
        flags.append("all tissue")
    if n_tissue:
        smooth = ndimage.uniform_filter(span[::2, ::2], 3)
        whole = _squares(mask | ink, 1, np.logical_and)  # without specks, and then all that lies beside it
        beside = (lit & ~_squares(whole, 4, np.logical_or))[::2, ::2]
        level = np.median(smooth[beside]) if beside.any() else 0  # of the glass: the rest has its noise, too
        paler = beside & (smooth > level + 0.35 * max(0, UNIT * threshold - level))
        if 4 * paler.sum() > FLAGGED_RIM * n_tissue:
            flags.append("rim lost")
        if np.median(span[mask][:: max(1, n_tissue // SAMPLES)]) < FAINT * UNIT:
            flags.append("low contrast")
    if ink.sum() > FLAGGED_INK * n_lit:
        flags.append("pen hue")
    return tuple(flags)
