"""Tiles through the whole loader against raw OpenSlide reads, on one thread, in one run.

raw     one `read_region` and one conversion to RGB a tile, raster order: the practical limit of OpenSlide
loader  what stage 20 runs: `iter_tiles` over the same coordinates, with its checks for unread and unscanned pixels

    python benchmarks/read_tiles.py [SLIDE.svs ...]

Without a slide: a synthetic one of 4096 x 4096 px, 256-px JPEG tiles. Speeds in CPU time, best of 5, interleaved.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from openslide import OpenSlide

from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.slide import View, open_slide
from slidesieve.synthetic.pyramids import write_pyramid

REPEATS = 5
MAX_TILES = 256


def read_raw(path: Path, coords: np.ndarray, tile_px: int) -> int:
    """Open a slide, read tiles one by one, and sum a pixel of each, so that nothing is left undone."""
    size = (tile_px, tile_px)
    with OpenSlide(path) as slide:
        return sum(int(np.asarray(slide.read_region(xy, 0, size).convert("RGB"))[0, 0, 0]) for xy in coords.tolist())


def read_loader(path: Path, coords: np.ndarray, tile_px: int) -> int:
    """Do the same through the loader."""
    with open_slide(path, 1.0) as slide:
        return sum(
            int(tiles.pixels[:, 0, 0, 0].sum())
            for tiles in iter_tiles(slide, coords, tile_px=tile_px, view=View(0, 1.0, 1.0))
        )


def measure(path: Path, tile_px: int, shift_px: int) -> str:
    """Compare both on one grid; `shift_px` moves it off the file's own tiles."""
    with OpenSlide(path) as slide:
        x, y = (np.arange(shift_px, side - tile_px + 1, tile_px) for side in slide.dimensions)
    coords = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)[:MAX_TILES]
    best = {"raw": np.inf, "loader": np.inf}
    for _ in range(REPEATS):
        start = time.process_time()
        raw = read_raw(path, coords, tile_px)
        middle = time.process_time()
        loaded = read_loader(path, coords, tile_px)
        best["loader"] = min(best["loader"], time.process_time() - middle)
        best["raw"] = min(best["raw"], middle - start)
    assert raw == loaded, "the loader reads other pixels than OpenSlide"
    ms = {name: 1e3 * seconds / len(coords) for name, seconds in best.items()}
    return (
        f"{path.name:28} {tile_px:4} px {shift_px:4} px off, {len(coords):4} tiles: raw {ms['raw']:.2f} ms a tile, "
        f"loader {ms['loader']:.2f}, speed of the loader / raw {ms['raw'] / ms['loader']:.2f}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthetic = Path(folder) / "synthetic.tif"
        noise = np.random.default_rng(0).integers(90, 230, (1024, 1024, 3)).repeat(4, 0).repeat(4, 1)
        write_pyramid(synthetic, noise.astype(np.uint8), mpp=1.0, description="")
        for path in [Path(p) for p in sys.argv[1:]] or [synthetic]:
            for tile_px, shift_px in ((256, 0), (256, 100), (224, 0), (64, 0)):
                print(measure(path, tile_px, shift_px), flush=True)


if __name__ == "__main__":
    main()
