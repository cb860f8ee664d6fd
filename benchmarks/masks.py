"""Tissue masks against drawn outlines and against Otsu's, in quality and in time, in one run.

otsu   as it is mostly done: grey, its threshold, and the same closing of gaps

    python -m benchmarks.masks [SLIDE ...]

Sections of `synthetic.sections`, four times as large for the times; a slide given is measured on its thumbnail. CPU
time on one thread, best of 5, interleaved.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slidesieve.slides.pixels import thumbnail
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tissue import GAP_PX, closed, find_tissue
from slidesieve.synthetic.sections import KINDS, draw_section

REPEATS = 5
GREY = np.array([0.2125, 0.7154, 0.0721])


def otsu(rgb: np.ndarray) -> np.ndarray:
    """Mark what is darker than Otsu's threshold."""
    grey = (rgb @ GREY).round().astype(np.uint8)
    count = np.bincount(grey.ravel(), minlength=256).astype(float)
    below, mass = count.cumsum(), (count * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / below[-1] - mass) ** 2 / (below * (below[-1] - below))
    return closed(grey <= np.nanargmax(between), GAP_PX)


def seconds(rgb: np.ndarray) -> tuple[float, float]:
    """Best CPU times of Otsu's and of ours."""
    best = [np.inf, np.inf]
    ways: tuple[Callable, ...] = (otsu, find_tissue)
    for _ in range(REPEATS):
        for i, way in enumerate(ways):
            start = time.process_time()
            way(rgb)
            best[i] = min(best[i], time.process_time() - start)
    return best[0], best[1]


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return (found & truth).sum() / (found | truth).sum()


def main() -> None:
    """Print a row a kind of section, then a row a slide."""
    print(f"{'section':14} IoU: otsu  ours   ink kept: otsu  ours   ours / otsu's time  flags")
    for kind in KINDS:
        section = draw_section(kind, 0)
        plain, found = otsu(section.rgb), find_tissue(section.rgb, section.known)
        free = ~section.ink
        iou = [overlap(mask & free, section.tissue & free) for mask in (plain, found.mask)]
        ink = [(mask & section.ink).sum() / max(1, section.ink.sum()) for mask in (plain, found.mask)]
        slow, ours = seconds(np.tile(section.rgb, (2, 2, 1)))
        print(
            f"{kind:14}      {iou[0]:.3f} {iou[1]:.3f}             {ink[0]:.3f} {ink[1]:.3f}"
            f"                 {ours / slow:.2f}  {', '.join(found.flags)}"
        )
    for path in map(Path, sys.argv[1:]):
        with open_slide(path, 1.0) as slide:
            rgb = thumbnail(slide, max(1.0, max(slide.size_px0) / 2000)).rgb
        slow, ours = seconds(rgb)
        found = find_tissue(rgb)
        print(f"{path.name:30} {rgb.shape[1]} x {rgb.shape[0]} px: {ours / slow:.2f} of otsu's time, {found.flags}")


if __name__ == "__main__":
    main()
