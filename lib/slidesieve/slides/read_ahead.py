"""Tiles of a slide in batches, read by threads ahead of whoever takes them.

Decoders, of JPEG and OpenSlide's, let go of Python's lock: six sevenths of the work on stored tiles are done without
it, so that about six threads of a process pay, if there are cores. Each has a handle of its own. In memory are at most
`AHEAD_PER_READER` batches a reader, and the one that was taken.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from slidesieve.slides.pixels import iter_tiles, reading_order
from slidesieve.slides.slide import Slide, open_slide
from slidesieve.slides.tiling import Tiling

AHEAD_PER_READER = 2  # one that is being read, and one that is ready

Item, Result = TypeVar("Item"), TypeVar("Result")


class Batch(NamedTuple):
    """Some tiles of a slide: their rows in its coordinates, and what was made of their pixels."""

    index: Int[np.ndarray, " n"]
    made: Any


@contextmanager
def batches_ahead(
    path: Path, tiling: Tiling, *, batch_tiles: int, readers: int, make: Callable[[np.ndarray], Any]
) -> Iterator[tuple[str, Iterator[Batch]]]:
    """Give what reads a slide, in words, and its tiles, `batch_tiles` at once, after `make` by the reading thread.

    The order is always one and the same; unreadable tiles are left out. Raises a SlideFault for a slide that cannot be
    opened, at once or in the place of a batch.
    """
    with ExitStack() as handles:

        def opened() -> Slide:
            return handles.enter_context(open_slide(path, tiling.attrs["mpp_level0"]))

        idle = [opened()]
        reader, side = idle[0].reader(tiling.view.level), int(tiling.attrs["patch_size"])
        order = reading_order(idle[0], tiling.coords, tile_px=side, view=tiling.view)

        def read(index: Int[np.ndarray, " n"]) -> Batch | None:
            try:
                slide = idle.pop()
            except IndexError:
                slide = opened()
            tiles = list(iter_tiles(slide, tiling.coords[index], tile_px=side, view=tiling.view))
            idle.append(slide)
            if not tiles:
                return None
            rows, pixels = map(np.concatenate, zip(*tiles, strict=True))
            return Batch(index[rows], make(pixels))

        parts = [order[start : start + batch_tiles] for start in range(0, len(order), batch_tiles)]
        with done_ahead(read, parts, threads=readers, ahead=AHEAD_PER_READER * readers) as batches:
            yield reader, filter(None, batches)


@contextmanager
def done_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Iterator[Result]]:
    """Give `work` of each item, in their order, done by threads; at most `ahead` are begun and not yet taken.

    What `work` raises is raised in the place of its result. However the block ends, its threads end with it.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        yield _in_order(pool, work, iter(items), ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    begun = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        result = begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
        yield result
