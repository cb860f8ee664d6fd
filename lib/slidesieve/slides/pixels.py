"""Pixels of an open slide: tiles at a requested mpp, and a thumbnail whose memory does not grow with the slide.

What cannot be read, or was never scanned, is left out for the caller to count.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from slidesieve.slides.slide import Slide, UnreadableRegion, UnreadableSlide, View

BLOCK_PX = 512  # small tiles are cut from reads of this side: a stored tile is decoded once, not for each of ours
THUMBNAIL_BLOCK_PX = 2048
SMALLEST_BLOCK_PX = 256


class Tiles(NamedTuple):
    """Some tiles of a slide: their rows in the list of coordinates asked for, and their pixels (RGB)."""

    index: Int[np.ndarray, " n"]
    pixels: UInt8[np.ndarray, "n t t 3"]


class Thumbnail(NamedTuple):
    """The whole slide small, `scale` level-0 pixels a pixel.

    `known` is False where it could not be read, or was never scanned; `lost` is True where it could not be read.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    known: Bool[np.ndarray, "h w"]
    scale: float
    lost: Bool[np.ndarray, "h w"]


def iter_tiles(slide: Slide, coords: Int[np.ndarray, "n 2"], *, tile_px: int, view: View) -> Iterator[Tiles]:
    """Read tiles, a few at a time, in an order that reads each part of the file once; unreadable ones are left out.

    A level taken as stored gives exactly its pixels; otherwise tiles are averaged down from a finer level.
    """
    corner = np.asarray(coords) / slide.downsamples[view.level]
    if view.factor != 1:
        yield from _resampled(slide, corner, tile_px, view)
        return
    corner = np.rint(corner).astype(np.int64)
    for index in _blocks(corner, tile_px):
        yield from _cut(slide, corner, index, tile_px, view.level)


def reading_order(slide: Slide, coords: Int[np.ndarray, "n 2"], *, tile_px: int, view: View) -> Int[np.ndarray, " n"]:
    """Return the order of `iter_tiles`, unreadable tiles included: any stretch of it is a compact part of the file."""
    if view.factor != 1:
        return np.arange(len(coords))
    corner = np.rint(np.asarray(coords) / slide.downsamples[view.level]).astype(np.int64)
    return np.concatenate([np.arange(0), *_blocks(corner, tile_px)])


def thumbnail(slide: Slide, max_scale: float) -> Thumbnail:
    """Shrink the slide to at most `max_scale` level-0 pixels a pixel, from the coarsest level that is fine enough.

    Raises UnreadableSlide if nothing of it can be read.
    """
    level = max(i for i, down in enumerate(slide.downsamples) if down <= max(1.0, max_scale))
    factor = min(max(1, int(max_scale / slide.downsamples[level])), *slide.level_sizes[level])
    width, height = (side // factor for side in slide.level_sizes[level])
    rgb, known = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
    lost = np.ones_like(known)
    step = max(1, THUMBNAIL_BLOCK_PX // factor)
    for y in range(0, height, step):
        for x in range(0, width, step):
            box = (x, y, min(x + step, width), min(y + step, height))
            _shrink(slide, level, factor, box, rgb, known, lost)
    if not known.any():
        raise UnreadableSlide(f"{slide.path.name}: opens, but no pixel of level {level} can be read; replace the file")
    return Thumbnail(rgb, known, slide.downsamples[level] * factor, lost)


def _blocks(corner: Int[np.ndarray, "n 2"], tile_px: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Group small tiles by the block their corner lies in, in raster order; larger ones stand alone."""
    if tile_px > BLOCK_PX // 4:
        yield from np.arange(len(corner))[:, None]
    elif len(corner):
        _, block, sizes = np.unique(corner[:, ::-1] // BLOCK_PX, axis=0, return_inverse=True, return_counts=True)
        yield from np.split(np.argsort(block.ravel(), kind="stable"), np.cumsum(sizes)[:-1])


def _cut(slide: Slide, corner: np.ndarray, index: Int[np.ndarray, " m"], tile_px: int, level: int) -> Iterator[Tiles]:
    """Read the box around some tiles and cut them out; if it fails, read them one by one to find out which fail."""
    low, high = corner[index].min(0), corner[index].max(0) + tile_px
    try:
        box = slide.read(level, tuple(low.tolist()), tuple((high - low).tolist()))
    except UnreadableRegion:
        for i in index if len(index) > 1 else []:
            yield from _cut(slide, corner, np.array([i]), tile_px, level)
        return
    tiles = [box[y : y + tile_px, x : x + tile_px] for x, y in corner[index] - low]
    yield Tiles(index, np.stack(tiles) if len(tiles) > 1 else box[None])


def _resampled(slide: Slide, corner: np.ndarray, tile_px: int, view: View) -> Iterator[Tiles]:
    side = tile_px * view.factor
    for i, xy in enumerate(corner):
        low = np.floor(xy).astype(int)
        high = np.minimum(np.ceil(xy + side).astype(int), slide.level_sizes[view.level])
        try:
            region = Image.fromarray(slide.read(view.level, tuple(low.tolist()), tuple((high - low).tolist())))
        except UnreadableRegion:
            continue
        left, top = xy - low
        box = (left, top, min(left + side, region.width), min(top + side, region.height))
        tile = region.resize((tile_px, tile_px), Image.Resampling.BILINEAR, box=box)
        yield Tiles(np.array([i]), np.asarray(tile)[None])


def _shrink(
    slide: Slide,
    level: int,
    factor: int,
    box: tuple[int, ...],
    rgb: np.ndarray,
    known: np.ndarray,
    lost: np.ndarray,
) -> None:
    """Fill a box of the thumbnail; where a read fails, try its quarters, until they are a stored tile or so."""
    left, top, right, bottom = box
    try:
        size = ((right - left) * factor, (bottom - top) * factor)
        rgba = slide.read_rgba(level, (left * factor, top * factor), size)
    except UnreadableRegion:
        if max(right - left, bottom - top) * factor > SMALLEST_BLOCK_PX:
            x, y = math.ceil((left + right) / 2), math.ceil((top + bottom) / 2)
            for part in ((left, top, x, y), (x, top, right, y), (left, y, x, bottom), (x, y, right, bottom)):
                if part[0] < part[2] and part[1] < part[3]:
                    _shrink(slide, level, factor, part, rgb, known, lost)
        return
    rgba = rgba.reduce(factor)
    rgb[top:bottom, left:right] = np.asarray(rgba.convert("RGB"))
    lost[top:bottom, left:right] = False
    known[top:bottom, left:right] = np.asarray(rgba.getchannel("A")) > 127
