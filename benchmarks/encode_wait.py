"""How long an encoder waits for its tiles: read before each batch, and read ahead by threads, in one run.

The encoder stands for one on a device: it takes 5 ms a batch, whatever its size, and no CPU (it sleeps).

serial  a batch is read, then encoded, then the next one is read
ahead   what stage 20 runs: `batches_ahead`, with as many readers as there are cores
least   the wait that no reader can undercut: reading a batch takes r CPU seconds, the cores do it in r / cores at best,
        and where that is more than the encoder's e, it waits 1 - e / (r / cores) of its time. At 0.45 ms a stored tile
        of 256 px and two cores that is nothing up to 22 tiles a batch, and half of the time at 44.

    python -m benchmarks.encode_wait [SLIDE.svs]

Of a slide, level 0 in tiles as it stores them (without one: a synthetic one of 256-px JPEG tiles), as often as it takes
to have 512 batches; the slide is open before the clock starts. "for a ViT": each tile is also resized and normalised by
the processor of a transformers model, which costs several times its decoding. `got` says how many cores the process had
while it read ahead: on a busy machine fewer than it asked for, and the waits are the machine's.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.read_ahead import batches_ahead
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, Tiling, tile_slide
from slidesieve.synthetic.pyramids import write_pyramid

ENCODE_S, BATCHES = 5e-3, 512
CORES = len(os.sched_getaffinity(0))
Make = Callable[[np.ndarray], object]


def serial(path: Path, tiling: Tiling, batch_tiles: int, make: Make) -> Iterator[None]:
    """Open a slide, and once that is done, read batch after batch."""
    with open_slide(path, tiling.attrs["mpp_level0"]) as slide:
        slide.stored_tiles(tiling.view.level)
        yield
        for start in range(0, len(tiling.coords), batch_tiles):
            coords = tiling.coords[start : start + batch_tiles]
            tiles = iter_tiles(slide, coords, tile_px=tiling.attrs["patch_size"], view=tiling.view)
            make(np.concatenate([part.pixels for part in tiles]))
            yield


def ahead(path: Path, tiling: Tiling, batch_tiles: int, make: Make) -> Iterator[None]:
    """Do the same by threads."""
    with batches_ahead(path, tiling, batch_tiles=batch_tiles, readers=CORES, make=make) as (_, batches):
        yield
        for _ in batches:
            yield


def waited(batches: Iterator[None]) -> tuple[float, float, float]:
    """Encode batches; return the share of the time in which the encoder waited, that time, and its CPU seconds."""
    next(batches)
    start, cpu, encoding = time.perf_counter(), time.process_time(), 0.0
    for _ in batches:
        begun = time.perf_counter()
        time.sleep(ENCODE_S)
        encoding += time.perf_counter() - begun
    seconds = time.perf_counter() - start
    return 1 - encoding / seconds, seconds, time.process_time() - cpu


def for_vit() -> Make:
    from transformers import ViTImageProcessorPil

    processor = ViTImageProcessorPil()
    return lambda tiles: processor(images=list(tiles), return_tensors="pt")


def report(path: Path) -> None:
    """Print a line for each size of batch, tiles as they are and as a vision model takes them."""
    with open_slide(path) as slide:
        stored, reader = slide.stored_tiles(0), slide.reader(0)
        tiling = tile_slide(slide, TileSpec(stored.width if stored else 256, slide.mpp, 0, 0.0))
    own = tiling.coords
    print(
        f"{path.name}: {BATCHES} batches, tiles of {tiling.attrs['patch_size']} px by {reader}, {CORES} cores",
        flush=True,
    )
    for what, make, sizes in (("pixels", lambda tiles: tiles, (8, 16, 32)), ("for a ViT", for_vit(), (2, 4, 8))):
        for size in sizes:
            coords = np.array(list(islice(chain.from_iterable(repeat(own)), BATCHES * size)))
            tiling = tiling._replace(coords=coords)
            before, _, cpu = waited(serial(path, tiling, size, make))
            now, seconds, busy = waited(ahead(path, tiling, size, make))
            each = cpu / len(coords)
            print(
                f"  {what:9} batches of {size:2}: waits {before:4.0%} serial, {now:4.0%} ahead, least "
                f"{max(0, 1 - ENCODE_S / (each * size / CORES)):4.0%} ({1e3 * each:.2f} ms of CPU a tile); "
                f"got {busy / seconds:.1f} cores",
                flush=True,
            )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthetic = Path(folder) / "synthetic.tif"
        noise = np.random.default_rng(0).integers(90, 230, (1024, 1024, 3)).repeat(4, 0).repeat(4, 1)
        write_pyramid(synthetic, noise.astype(np.uint8), mpp=1.0, description="")
        report(Path(sys.argv[1]) if sys.argv[1:] else synthetic)


if __name__ == "__main__":
    main()
