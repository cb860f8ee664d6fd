"""Tiles as a slide's file stores them, decoded without OpenSlide's painting: the same pixels in a fifth of its time.

OpenSlide spends nine tenths of a read on painting what it has decoded. Where a level is one tiled JPEG page of a plain
TIFF, its regions are put together from decoded tiles instead, once some tiles of that very slide have been read both
ways and were equal to the last pixel. What such a page does not hold (a tile that was never written, a broken one) is
left to OpenSlide, whose verdict counts.
"""

import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

VENDORS = {"aperio", "generic-tiff"}  # whose levels OpenSlide shows as they are stored, without overlap or shift
CACHE_BYTES = 64 << 20  # a row of stored tiles under a grid that is not theirs
PROBES = 4  # stored tiles read both ways: so many of the fullest, and as many from first to last
START_OF_IMAGE = b"\xff\xd8"
RGB_AS_STORED = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # Adobe's marker: colours were not transformed
FAULTS = (ValueError, TypeError, LookupError, OSError, RuntimeError, struct.error)  # of a parser, on damaged files

Pixels = UInt8[np.ndarray, "h w 3"]


class StoredTiles:
    """The tiles of a TIFF page, each `height` x `width` px but for the last ones, which end with the level."""

    def __init__(self, tiff: TiffFile, page: TiffPage):
        self._file, self._page = tiff.filehandle, page
        self.level_size = (page.imagewidth, page.imagelength)
        self.width, self.height = page.tilewidth, page.tilelength
        # what a stored tile leaves to its page: how its colours are coded, and the tables that all tiles share
        colours = RGB_AS_STORED if page.photometric == PHOTOMETRIC.RGB else b""
        self._head = START_OF_IMAGE + colours + (page.jpegtables or b"")[2:-2]
        self._across = -(-page.imagewidth // page.tilewidth)
        self._room = max(1, CACHE_BYTES // (3 * self.width * self.height))
        self._decoded: OrderedDict[int, Pixels] = OrderedDict()

    def read(self, xy: tuple[int, int], size: tuple[int, int]) -> Pixels | None:
        """Read a region, `xy` and `size` in pixels of the level; None if it is not wholly stored, or broken."""
        (left, top), (w, h) = xy, size
        right, bottom = left + w, top + h
        if left < 0 or top < 0 or right > self.level_size[0] or bottom > self.level_size[1]:
            return None
        columns = range(left // self.width, -(-right // self.width))
        rows = range(top // self.height, -(-bottom // self.height))
        if len(columns) == len(rows) == 1:
            index = rows[0] * self._across + columns[0]
            if self._box(index) == (xy, size):  # asked for as stored: no neighbour will want it
                return self._decode(index)
            tile = self._tile(index)
            x, y = left - columns[0] * self.width, top - rows[0] * self.height
            return None if tile is None else tile[y : y + h, x : x + w]
        region = np.empty((h, w, 3), np.uint8)
        for row in rows:
            for column in columns:
                tile = self._tile(row * self._across + column)
                if tile is None:
                    return None
                x, y = column * self.width, row * self.height
                x0, x1, y0, y1 = max(left, x), min(right, x + self.width), max(top, y), min(bottom, y + self.height)
                region[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0 - y : y1 - y, x0 - x : x1 - x]
        return region

    def probes(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Places and sizes of tiles that show whether this reader is right: the fullest, and some from each part."""
        stored = np.flatnonzero(self._page.databytecounts)
        fullest = stored[np.argsort(np.asarray(self._page.databytecounts)[stored], kind="stable")[-PROBES:]]
        spread = stored[np.linspace(0, len(stored) - 1, PROBES).astype(int)] if len(stored) else stored
        return [self._box(index) for index in sorted({*fullest.tolist(), *spread.tolist()})]

    def _box(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        x, y = index % self._across * self.width, index // self._across * self.height
        return (x, y), (min(self.width, self.level_size[0] - x), min(self.height, self.level_size[1] - y))

    def _tile(self, index: int) -> Pixels | None:
        """Take a tile from the ones decoded last, or decode it."""
        if index in self._decoded:
            self._decoded.move_to_end(index)
            return self._decoded[index]
        tile = self._decode(index)
        if tile is not None:
            self._decoded[index] = tile
            if len(self._decoded) > self._room:
                self._decoded.popitem(last=False)
        return tile

    def _decode(self, index: int) -> Pixels | None:
        """Decode a tile, None if not stored or damaged; what libjpeg would only warn of is damage, as to OpenSlide."""
        offset, n_bytes = self._page.dataoffsets[index], self._page.databytecounts[index]
        with suppress(*FAULTS):
            self._file.seek(offset)
            data = self._file.read(n_bytes)
            if len(data) == n_bytes and data.startswith(START_OF_IMAGE):
                tile = simplejpeg.decode_jpeg(self._head + data[2:], "RGB", strict=True)
                if tile.shape == (self.height, self.width, 3):
                    _, (width, height) = self._box(index)
                    tile.flags.writeable = False
                    return tile[:height, :width]
        return None


def open_stored(path: Path, vendor: str) -> TiffFile | None:
    """Open the file that holds the tiles, or None where its format places them by rules of its own."""
    if vendor not in VENDORS:
        return None
    with suppress(*FAULTS):
        return TiffFile(path)
    return None


def stored_level(tiff: TiffFile, size: tuple[int, int]) -> StoredTiles | None:
    """Find a level's page by its `size` (width, height); None unless one page alone has it, in 8-bit JPEG tiles."""
    with suppress(*FAULTS):
        pages = [page for page in tiff.pages if (page.imagewidth, page.imagelength) == size]
        if len(pages) == 1 and _is_jpeg(pages[0]):
            return StoredTiles(tiff, pages[0])
    return None


def _is_jpeg(page: TiffPage) -> bool:
    return (
        page.is_tiled
        and page.compression == COMPRESSION.JPEG
        and page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.planarconfig == 1
    )
