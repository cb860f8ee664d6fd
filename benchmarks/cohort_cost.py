"""What a large cohort costs from pixels to answers, from rates measured here and on a GPU, with the bottleneck named.

    python -m benchmarks.cohort_cost SLIDE... [--slides 11000 --tiles 12000 --cores 8 --gpus 1 ...]

Rates of the processor (placing tiles, decoding them, preparing them for a vision model, writing features) are measured
in this run, in CPU seconds of one core, on the slides given. Rates of the device stand in `reports/gpu.md`: a ViT-L/16
in bfloat16 without its preparation, a step with adapters and a first token of a 7 B decoder. How many slides and tiles
there are is assumed: TCGA has about 11,000 diagnostic slides, and 12,000 tiles of 256 px at 0.5 um is a usual slide.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_features
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.slide_identity import slide_identity
from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, tile_slide

WIDTH, METHODS = 1024, ("sparselearn", "tcssa", "locpath")


class Step(NamedTuple):
    """What is done so many times, seconds of one core or of one device each."""

    name: str
    where: str
    times: int
    seconds: float


def cpu_seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """CPU seconds of the best of some calls."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def of_slides(paths: list[Path]) -> tuple[float, float, float, float]:
    """Seconds to tell a slide and place its tiles, and to decode a tile; a tile's bytes in the file, and its side."""
    placing, decoding, sizes, n = [], 0.0, [], 0
    for path in paths:
        with open_slide(path, 0.5) as slide:
            stored = slide.stored_tiles(0)
            side = stored.width if stored else 256
            spec = TileSpec(side, slide.mpp, 0, 0.0)
            placing.append(cpu_seconds(lambda: (slide_identity(path), tile_slide(slide, spec))))  # noqa: B023
            tiling = tile_slide(slide, spec)
            shown = {"tile_px": side, "view": tiling.view}
            some = tiling.coords[:512]
            decoding += cpu_seconds(lambda: [None for _ in iter_tiles(slide, some, **shown)])  # noqa: B023
            sizes.append(path.stat().st_size / len(tiling.coords))
            n += len(some)
    return float(np.mean(placing)), decoding / n, float(np.mean(sizes)), float(side)


def of_writing(tiles: int) -> float:
    """Seconds a slide to write its features."""
    x = np.random.default_rng(0).standard_normal((tiles, WIDTH), dtype=np.float32)
    bag = make_bag("s", x, np.zeros((tiles, 2), int), {})
    with tempfile.TemporaryDirectory() as folder:
        return cpu_seconds(lambda: write_features(Path(folder) / "s.h5", bag, {}))


def of_processor() -> float:
    """Seconds a tile of another side than the model's to be resized and normalised; one of its own costs nothing."""
    from transformers import ViTImageProcessorPil

    tiles, processor = np.zeros((64, 256, 256, 3), np.uint8), ViTImageProcessorPil()
    return cpu_seconds(lambda: processor(images=list(tiles), return_tensors="pt")) / len(tiles)


def on_device(*cells: str) -> float:
    """The number that follows these cells in a row of `reports/gpu.md`."""
    for line in (ROOT / "reports" / "gpu.md").read_text(encoding="utf-8").splitlines():
        row = [cell.strip() for cell in line.strip("| ").split("|")]
        if tuple(row[: len(cells)]) == cells:
            return float(row[len(cells)].replace(",", ""))
    raise ValueError(f"reports/gpu.md: no row {' | '.join(cells)}; run benchmarks.gpu again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, nargs="+", help="slides that are read for the rates")
    for name, value in (("slides", 11_000), ("tiles", 12_000), ("cores", 8), ("gpus", 1), ("steps", 6_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--questions", type=int, default=7_000, help="asked at the test")
    args = parser.parse_args()
    placing, decoding, size, side = of_slides(args.slide)
    tiles, encode = args.slides * args.tiles, 1 / on_device("bfloat16", "network alone")
    steps = [
        Step("tell slides apart, place their tiles", "core", args.slides, placing),
        Step("decode tiles", "core", tiles, decoding),
        Step("prepare tiles of another side than the encoder's", "core", tiles, of_processor()),
        Step("encode tiles (ViT-L/16, bf16)", "GPU", tiles, encode),
        Step("write features", "core", args.slides, of_writing(args.tiles)),
        *(
            Step(f"train {name} (7 B, adapters, slides of 4,096 tiles)", "GPU", args.steps, ms / 1e3)
            for name in METHODS
            if (ms := on_device("lora_step", name, "4096", "ok"))
        ),
        Step("answer (7 B, k = 32 of 10,240 tiles)", "GPU", args.questions, on_device(*ANSWER) / 1e3),
    ]
    held = {"core": args.cores, "GPU": args.gpus}
    hours = {step: step.times * step.seconds / held[step.where] / 3600 for step in steps}
    print(f"{args.slides:,} slides of {args.tiles:,} tiles; {args.cores} cores, {args.gpus} GPU")
    print(f"{'':58}{'times':>13}{'ms each':>10}{'hours':>9}")
    for step, value in hours.items():
        print(f"{step.name:58}{step.times:>13,}{1e3 * step.seconds:>10.3f}{value:>9.1f}  {step.where}")
    read = size * tiles
    print(f"read from disk: {read / 1e12:.1f} TB of tiles of {side:g} px ({size / 1e3:.1f} kB each)", end="; ")
    print(f"features: {2 * WIDTH * tiles / 1e12:.2f} TB in float16")
    feeding = sum(hours[s] for s in steps[:3]) - hours[steps[2]], sum(hours[s] for s in steps[:3])
    for words, cores in zip(("of the encoder's own side", "of another side"), feeding, strict=True):
        gpu = hours[steps[3]]
        slow = "the GPU" if gpu > cores else f"the {args.cores} cores"
        rate = read / max(gpu, cores) / 3600 / 1e6
        print(
            f"tiles {words}: cores {cores:.0f} h, GPU {gpu:.0f} h side by side: {slow} set the pace, and the disk must "
            f"give {rate:.0f} MB/s; a GPU is fed by {args.cores * cores / gpu * args.gpus:.0f} cores"
        )


ANSWER = ("first_token", "sparselearn", "10240", "ok")

if __name__ == "__main__":
    main()
