"""Tiles through the whole loader against raw OpenSlide reads, on one thread, in one run.

raw     one `read_region` and one conversion to RGB a tile, raster order: the practical limit of OpenSlide
loader  what stage 20 runs: `iter_tiles` over the same coordinates, with its checks for unread and unscanned pixels;
        stored JPEG tiles are decoded directly where they give the same pixels, which is tried once a slide (`tried`)

    python -m benchmarks.read_tiles [SLIDE.svs ...]

Without a slide: a synthetic one of 4096 x 4096 px, 256-px JPEG tiles. Speeds in CPU time on open slides, best of 9,
interleaved; `max difference` is over all pixels of the tiles read.
"""

import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from openslide import OpenSlide

from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.slide import View, open_slide
from slidesieve.synthetic.pyramids import write_pyramid

REPEATS = 9
MAX_TILES = 256


def read_raw(path: Path, coords: np.ndarray, tile_px: int) -> Iterator[list]:
    """Open a slide, and once that is done, read its tiles one by one."""
    with OpenSlide(path) as slide:
        yield []
        for xy in coords.tolist():
            yield [np.asarray(slide.read_region(xy, 0, (tile_px, tile_px)).convert("RGB"))]


def read_loader(path: Path, coords: np.ndarray, tile_px: int) -> Iterator[list]:
    """Do the same through the loader, which gives them in its own order, several at a time."""
    with open_slide(path, 1.0) as slide:
        slide.stored_tiles(0)
        yield []
        for tiles in iter_tiles(slide, coords, tile_px=tile_px, view=View(0, 1.0, 1.0)):
            yield list(zip(tiles.index.tolist(), tiles.pixels, strict=True))


def seconds_of(read: Iterator[list]) -> float:
    """CPU seconds of a read whose tiles are let go at once, on a slide just opened."""
    next(read)
    start = time.process_time()
    for _ in read:
        pass
    return time.process_time() - start


def measure(path: Path, side_px0: tuple[int, int], tile_px: int, shift_px: int) -> str:
    """Compare both on one grid; `shift_px` moves it off the file's own tiles."""
    x, y = (np.arange(shift_px, side - tile_px + 1, tile_px) for side in side_px0)
    coords = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)[:MAX_TILES]
    true = [tile for tiles in read_raw(path, coords, tile_px) for tile in tiles]
    ours = [each for tiles in read_loader(path, coords, tile_px) for each in tiles]
    assert len(ours) == len(true), f"{len(ours)} tiles came back, expected {len(true)}"
    difference = max(int(np.abs(tile.astype(int) - true[i]).max()) for i, tile in ours)
    best = {read_raw: math.inf, read_loader: math.inf}
    for _ in range(REPEATS):
        for read in best:
            best[read] = min(best[read], seconds_of(read(path, coords, tile_px)))
    raw, loader = (1e3 * seconds / len(coords) for seconds in best.values())
    return (
        f"{tile_px:4} px {shift_px:3} off, {len(coords):3} tiles: raw {raw:.2f} ms a tile, loader {loader:.2f}, "
        f"loader / raw {raw / loader:.2f}, max difference {difference}"
    )


def report(path: Path) -> None:
    """Print a line a grid: the file's own tiles, that grid moved, and the sides that encoders ask for."""
    with open_slide(path, 1.0) as slide:
        start = time.process_time()
        stored, reader, size = slide.stored_tiles(0), slide.reader(0), slide.size_px0
        tried = 1e3 * (time.process_time() - start)
    side = stored.width if stored else 256
    print(f"{path.name}: by {reader}, tried in {tried:.0f} ms", flush=True)
    for tile_px, shift_px in ((side, 0), (side, 100), (2 * side, 0), (224, 0), (64, 0)):
        if min(size) >= tile_px + shift_px:
            print("  " + measure(path, size, tile_px, shift_px), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthetic = Path(folder) / "synthetic.tif"
        noise = np.random.default_rng(0).integers(90, 230, (1024, 1024, 3)).repeat(4, 0).repeat(4, 1)
        write_pyramid(synthetic, noise.astype(np.uint8), mpp=1.0, description="")
        for path in [Path(p) for p in sys.argv[1:]] or [synthetic]:
            report(path)


if __name__ == "__main__":
    main()
