"""Reading a bag back: our file (contiguous float16) beside h5py's own read of it and TRIDENT's layout, in one run.

    python benchmarks/read_features.py [N] [D]

"array" reads `features` alone, as stored; TRIDENT's in float32 (as most encoders emit) and in float16. "whole bag" is
`readers.read_bag`: float32 in memory, with coordinates and checks; "random rows" is the same for 4,096 tiles of the
slide, all of them checked. Both are held against h5py's read of the whole contiguous array, widened by numpy. Page
cache warm; CPU time, best of 5, interleaved.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from slidesieve.features.bag import make_bag, take
from slidesieve.features.readers import read_bag
from slidesieve.features.store import write_features

REPEATS = 5
ROWS = 4096
MOST = {"whole bag": 1.2, "random rows": 0.5}  # of h5py's read and numpy's widening


def write_trident(path: Path, x: np.ndarray, coords: np.ndarray) -> Path:
    """Write features as TRIDENT lays them out: extensible, chunked by row."""
    with h5py.File(path, "w") as file:
        for name, value in (("features", x), ("coords", coords)):
            file.create_dataset(name, data=value, chunks=(1, value.shape[1]), maxshape=(None, value.shape[1]))
    return path


def bare(path: Path) -> np.ndarray:
    """Read the features alone, in the type they are stored in."""
    with h5py.File(path) as file:
        return file["features"][:]


def best_ms(readers: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time each reader, turn by turn."""
    best = dict.fromkeys(readers, np.inf)
    for _ in range(REPEATS):
        for name, read in readers.items():
            start = time.process_time()
            read()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def main() -> None:
    torch.set_num_threads(1)  # the clock counts the processor's seconds of all threads
    n, d = (int(a) for a in (sys.argv[1:] + ["15000", "1024"][len(sys.argv) - 1 :]))
    draw = np.random.default_rng(0)
    bag = make_bag("s", draw.standard_normal((n, d), dtype=np.float32), draw.integers(0, 90_000, (n, 2)), {})
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours.h5"
        write_features(ours, bag, {})
        f4 = write_trident(Path(folder) / "f4.h5", bag.x, bag.coords)
        f2 = write_trident(Path(folder) / "f2.h5", bag.x.astype(np.float16), bag.coords)
        rows = partial(take, tiles=draw.choice(n, min(n, ROWS), replace=False))
        ms = best_ms(
            {
                "ours, array": lambda: bare(ours),
                "TRIDENT f4, array": lambda: bare(f4),
                "TRIDENT f2, array": lambda: bare(f2),
                "h5py and widening": lambda: bare(ours).astype(np.float32),
                "ours, whole bag": lambda: read_bag(ours, "s"),
                "ours, random rows": lambda: read_bag(ours, "s", thin=rows),
                "TRIDENT f4, whole bag": lambda: read_bag(f4, "s"),
            }
        )
    print(f"N = {n}, D = {d}")
    for name, value in ms.items():
        print(f"  {name:24} {value:8.1f} ms")
    print(f"  array: TRIDENT f4 / ours {ms['TRIDENT f4, array'] / ms['ours, array']:.1f}")
    print(f"  array: TRIDENT f2 / ours {ms['TRIDENT f2, array'] / ms['ours, array']:.1f}")
    print(f"  bag:   TRIDENT f4 / ours {ms['TRIDENT f4, whole bag'] / ms['ours, whole bag']:.1f}")
    for name, most in MOST.items():
        ratio = ms[f"ours, {name}"] / ms["h5py and widening"]
        print(
            f"  {name}: ours / h5py and widening {ratio:.2f}, at most {most}: {'holds' if ratio <= most else 'FAILS'}"
        )


if __name__ == "__main__":
    main()
