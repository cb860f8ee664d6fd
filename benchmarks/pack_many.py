"""Many small bags packed by several processes that are killed twice, and by one that is not: the same to the bit.

    python -m benchmarks.pack_many [SLIDES] [WORKERS]

100,000 bags of 3 to 40 tiles, 64 numbers each, are drawn from their names alone. SIGKILL goes to all processes at once
when a quarter of the parts is there, then when half of them is; what is whole by then is kept. Every bag is read back
from both folders and held against a draw of its own.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slidesieve.cohort.ledger import Ledger
from slidesieve.features.bag import Bag, make_bag
from slidesieve.features.places.packed_folder import PART, PackedFolder
from slidesieve.features.places.packing import pack
from slidesieve.provenance.files import ROOT

SLIDES, WORKERS = 100_000, 4
MOST_SECONDS = 1200  # of one run


class Drawn(NamedTuple):
    """Bags drawn from their names."""

    width: int = 64

    def read(self, slide_id: str) -> Bag:
        draw = np.random.default_rng(int(slide_id.removeprefix("slide-")))
        n = int(draw.integers(3, 41))
        x = draw.standard_normal((n, self.width), dtype=np.float32)
        return make_bag(slide_id, x, draw.integers(0, 90_000, (n, 2)), {})

    def identity(self, slide_id: str) -> str:
        return f"drawn, {self.width} wide"

    def n_bytes(self, slide_id: str) -> int:
        return 20 * self.width * 4


def names(slides: int) -> list[str]:
    return [f"slide-{i}" for i in range(slides)]


def write(folder: Path, slides: int, workers: int) -> None:
    """Pack all slides into a folder, or what is left of them."""
    ledger = Ledger(folder / "ledger.csv")
    pack(Drawn(), names(slides), folder, recipe="drawn", ledger=ledger, workers=workers, max_failed_share=0.0)


def run(folder: Path, slides: int, workers: int, *, kill_at: int = 0) -> float:
    """Run `write` in processes of its own; kill all of them once there are `kill_at` parts. Returns the seconds."""
    command = [sys.executable, "-m", "benchmarks.pack_many", "--write", str(folder), str(slides), str(workers)]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and time.monotonic() - start < MOST_SECONDS:
        if kill_at and parts_in(folder) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return time.monotonic() - start
        time.sleep(0.02)
    if process.poll() != 0 or kill_at:
        raise RuntimeError(f"{folder}: exit status {process.poll()} with {parts_in(folder)} parts; expected otherwise")
    return time.monotonic() - start


def parts_in(folder: Path) -> int:
    return sum(bool(PART.fullmatch(file.name)) for file in folder.iterdir()) if folder.is_dir() else 0


def compare(many: PackedFolder, one: PackedFolder, slides: int) -> Counter:
    """Hold every bag of both folders against its own draw."""
    counts, drawn = Counter(), Drawn()
    for slide_id in names(slides):
        wanted, others = drawn.read(slide_id), [many.read(slide_id), one.read(slide_id)]
        x = wanted.x.astype(np.float16).astype(np.float32).tobytes()
        counts["equal"] += all(b.x.tobytes() == x and b.coords.tobytes() == wanted.coords.tobytes() for b in others)
        counts["tiles"] += len(wanted.x)
    return counts


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    slides, workers = (int(a) for a in (sys.argv[1:] + [SLIDES, WORKERS][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as made:
        many, one = Path(made) / "many", Path(made) / "one"
        quarter = max(1, slides // 4000)
        for kill_at in (quarter, 2 * quarter, 0):
            seconds = run(many, slides, workers, kill_at=kill_at)
            ended = f"killed with {parts_in(many)} parts there" if kill_at else f"ended with {parts_in(many)} parts"
            left = sum(file.name.endswith(".partial") for file in many.iterdir())
            print(f"{workers} workers: {ended} after {seconds:.0f} s, {left} part(s) unfinished", flush=True)
        seconds = run(one, slides, 0)
        print(f"1 writer: ended with {parts_in(one)} parts after {seconds:.0f} s", flush=True)
        start = time.process_time()
        opened = PackedFolder(many)
        index_s = time.process_time() - start
        counts = compare(opened, PackedFolder(one), slides)
        size = sum(file.stat().st_size for file in many.iterdir())
    print(
        f"{counts['equal']} of {slides} bags ({counts['tiles']} tiles) packed by {workers} workers killed twice equal "
        f"one writer's to the bit, {len(opened.slide_ids)} in the folder; index read in {index_s:.2f} s (CPU), "
        f"{size / 2**20:.0f} MiB"
    )
    sys.exit(counts["equal"] != slides or len(opened.slide_ids) != slides)


if __name__ == "__main__":
    main()
