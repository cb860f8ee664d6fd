"""Slide files: open, micrometres per pixel, regions, and which level serves a requested mpp.

OpenSlide reads them, and says what they are; where a level's stored tiles give the same pixels, they are read instead.

Nothing is guessed: a missing or absurd mpp is asked for, a region that cannot be read raises. What is transparent, as
glass that was never scanned is, shows the slide's background, white where it names none.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from openslide import OpenSlide, OpenSlideError
from PIL import Image

from slidesieve.slides.stored_tiles import StoredTiles, open_stored, stored_level

MPP_RANGE = (0.05, 100.0)  # below it light resolves nothing, above it no microscope works
UNITS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}  # of OME-XML, in micrometres; both mus
OPAQUE = 0xFF000000  # of a pixel's four bytes, alpha the highest
SNAP = 0.02  # a stored level this close to the requested mpp is taken as stored: resampling would only blur


class SlideFault(ValueError):
    """What is wrong with one slide; goes to the ledger under its class name."""


class UnreadableSlide(SlideFault):
    """No reader for the file, or no pixel of it can be read."""

    is_unread = True  # what a failing disk looks like: a slide that was ok before counts as lost


class MissingMpp(SlideFault):
    """Neither the file nor the manifest says how large a pixel is."""


class AbsurdMpp(SlideFault):
    """The stated pixel size is none of a microscope's, or contradicts the stated objective."""


class SlideTooCoarse(SlideFault):
    """The slide has fewer pixels than requested."""


class UnreadableRegion(SlideFault):
    """A region of the slide cannot be read."""


class View(NamedTuple):
    """How to read at an mpp: from `level`, a pixel being `scale` level-0 pixels, `factor` pixels of the level wide."""

    level: int
    scale: float
    factor: float


class Slide:
    """An open slide; use it in `with`. A handle is dead after one error, so an error is followed by a fresh one."""

    def __init__(self, path: Path, mpp: float | None):
        self.path = path
        self._handle = _open(path)
        self.size_px0 = self._handle.dimensions
        self.level_sizes = self._handle.level_dimensions
        self.downsamples = self._handle.level_downsamples
        self.mpp, self.mpp_source, self.note = _mpp(path, self._handle.properties, mpp)
        self._background = _background(self._handle.properties)
        self._file = open_stored(path, self._handle.properties.get("openslide.vendor", ""))
        self._stored: dict[int, StoredTiles | None] = {}

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_) -> None:
        self._handle.close()
        if self._file:
            self._file.close()

    def read_rgba(self, level: int, xy: tuple[int, int], size: tuple[int, int]) -> Image.Image:
        """Read a region, `xy` and `size` in pixels of `level`; alpha 0 = never scanned. Raises UnreadableRegion."""
        down = self.downsamples[level]
        try:
            return self._handle.read_region((round(xy[0] * down), round(xy[1] * down)), level, size)
        except OpenSlideError as error:
            self._handle.close()
            self._handle = _open(self.path)
            raise UnreadableRegion(f"{self.path.name}: level {level}, {size} px at {xy}: {error}") from error

    def read(self, level: int, xy: tuple[int, int], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Read a region as RGB, on the slide's background where it is transparent. Raises UnreadableRegion."""
        stored = self.stored_tiles(level)
        region = stored and stored.read(xy, size)
        return self._painted(level, xy, size) if region is None else region

    def reader(self, level: int) -> str:
        """Name what reads a level, for the ledger."""
        return "its stored tiles" if self.stored_tiles(level) else "OpenSlide"

    def stored_tiles(self, level: int) -> StoredTiles | None:
        """Say whether a level is read by its stored tiles: if some of them, read both ways, are equal."""
        if level not in self._stored:
            # where a level is no whole number of times smaller, OpenSlide reads between its pixels
            is_whole = self._file and float(self.downsamples[level]).is_integer()
            stored = stored_level(self._file, self.level_sizes[level]) if is_whole else None
            self._stored[level] = stored if stored and self._agrees(level, stored) else None
        return self._stored[level]

    def _agrees(self, level: int, stored: StoredTiles) -> bool:
        """Read some tiles both ways: the same pixels, and nothing where the other finds nothing."""
        n_equal = 0
        for box in stored.probes():
            ours = stored.read(*box)
            try:
                theirs = self._painted(level, *box)
            except UnreadableRegion:
                theirs = None
            if (ours is None) != (theirs is None) or not np.array_equal(ours, theirs):
                return False
            n_equal += ours is not None
        return n_equal > 0

    def _painted(self, level: int, xy: tuple[int, int], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        rgba = self.read_rgba(level, xy, size)
        # the least of all pixels as numbers, alpha foremost: a fifteenth of the time of the channels' extrema
        if np.frombuffer(rgba.tobytes(), "<u4").min() < OPAQUE:
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, self._background), rgba)
        # Pillow's packer drops alpha in one pass: a quarter of the time of convert("RGB") and a copy
        return np.frombuffer(rgba.tobytes("raw", "RGB"), np.uint8).reshape(size[1], size[0], 3)


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide; `mpp` (micrometres per level-0 pixel; None or nan = not given) overrides the file's own."""
    return Slide(Path(path), None if mpp is None or math.isnan(mpp) else float(mpp))


def view_at(slide: Slide, mpp: float) -> View:
    """Choose the coarsest level that is still as fine as `mpp`. Raises SlideTooCoarse if there is none."""
    scale = mpp / slide.mpp
    if scale < 1 - SNAP:
        raise SlideTooCoarse(
            f"{slide.path.name}: has {slide.mpp:.4g} um a pixel, {mpp:g} requested; tiles are never upsampled: "
            f"set mpp to {math.ceil(slide.mpp * 100) / 100:g} or more, or leave this slide out"
        )
    level = max(i for i, down in enumerate(slide.downsamples) if down <= scale * (1 + SNAP))
    down = slide.downsamples[level]
    return View(level, down, 1.0) if abs(scale / down - 1) <= SNAP else View(level, scale, scale / down)


def _open(path: Path) -> OpenSlide:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such slide file; correct slide_path, or set DATA_ROOT")
    try:
        return OpenSlide(path)
    except OpenSlideError as error:
        reason = str(error).replace(str(path), path.name)
        raise UnreadableSlide(
            f"{path.name}: OpenSlide cannot open it ({reason}); convert it to pyramidal TIFF, or take its row out"
        ) from error


def _background(properties) -> tuple[int, int, int, int]:
    """The colour of what was not scanned: the file's, or white."""
    told = properties.get("openslide.background-color", "")
    rgb = bytes.fromhex(told) if len(told) == 6 else b"\xff\xff\xff"
    return (*rgb, 255)


def _ome_mpp(description: str) -> list[float]:
    """Micrometres a pixel (x, y) of the first image that an OME-XML header describes, or nothing."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    told = dict(re.findall(r'\b(PhysicalSize[XY](?:Unit)?)="([^"]*)"', pixels[0])) if pixels else {}
    sizes = [told.get(f"PhysicalSize{axis}", "") for axis in "XY"]
    units = [UNITS.get(told.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    if None in units or not all(re.fullmatch(r"\d*\.?\d+(?:[eE][+-]?\d+)?", size) for size in sizes):
        return []
    return [float(size) * unit for size, unit in zip(sizes, units, strict=True)]


def _mpp(path: Path, properties, given: float | None) -> tuple[float, str, str]:
    """Micrometres a pixel, who says so, what speaks against it: the manifest outweighs the file, mpp the objective."""
    own = [float(properties.get(f"openslide.mpp-{axis}") or 0) for axis in "xy"]
    if not {"openslide.mpp-x", "openslide.mpp-y"} & set(properties):
        own = _ome_mpp(properties.get("tiff.ImageDescription", "")) or own
    remedy = "set the true mpp (um a pixel) in its manifest row"
    x = y = given
    if given is None:
        if not all(own) and not {"openslide.mpp-x", "openslide.mpp-y"} <= set(properties):
            raise MissingMpp(f"{path.name}: no mpp in the file; {remedy}")
        x, y = own
    mpp, source = (x + y) / 2, "file" if given is None else "manifest"
    if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise AbsurdMpp(
            f"{path.name}: the {source} says mpp {mpp:g}; expected {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}; {remedy}"
        )
    if abs(x - y) > SNAP * mpp:
        raise AbsurdMpp(f"{path.name}: the file says {x:g} x {y:g} um a pixel; expected square pixels; {remedy}")
    power = float(properties.get("openslide.objective-power") or 0)
    if source == "manifest" and all(own) and abs(sum(own) / 2 - mpp) > SNAP * mpp:
        return mpp, source, f"the manifest says mpp {mpp:g}, the file {sum(own) / 2:g}: the manifest's is used"
    if source == "file" and power and not 0.5 <= mpp * power / 10 <= 2:
        objective = f"a {power:g}x objective, which has about {10 / power:.2g}"
        return mpp, source, f"the file says mpp {mpp:g} and {objective}: its mpp is used; is it right?"
    return mpp, source, ""
