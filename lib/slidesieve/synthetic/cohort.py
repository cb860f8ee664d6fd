"""The cohort's plans and slide files; a slide that is there by the same recipe is kept."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import tifffile

from slidesieve.cohort.slide_loop import Counts
from slidesieve.synthetic import atlas, classes, decoys, drawing, fields, findings, grades, marks, pyramids, tissues
from slidesieve.synthetic.plans import N_TILES, Plan, draw_plan
from slidesieve.synthetic.tables import slide_number

MPP = 1.0
PIXEL_CODE = (classes, fields, marks, tissues, findings, grades, decoys, atlas, drawing, pyramids)


def draw_plans(seed: int, n_slides: int, **content) -> list[Plan]:
    """Draw the plans of slides 0 to n_slides - 1 (see draw_plan); none depends on how many there are."""
    return [draw_plan(seed, i, **content) for i in range(n_slides)]


def split_names(n_train: int, n_val: int, n_test: int) -> list[str]:
    """Return the split of each slide in order of number: train, then val, then test."""
    return ["train"] * n_train + ["val"] * n_val + ["test"] * n_test


@cache
def _pixel_code_hash() -> str:
    return hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in PIXEL_CODE)).hexdigest()


def slide_recipe(seed: int, plan: Plan) -> str:
    """Hash all that decides a slide's pixels: drawing code, seed, number and plan."""
    decides = f"{_pixel_code_hash()} {seed} {plan.number} {MPP} ".encode() + plan.labels.astype(np.uint8).tobytes()
    return f"toy slide, recipe {hashlib.sha256(decides).hexdigest()[:16]}"


def recipe_in(path: Path) -> str | None:
    """Read the recipe a slide file was drawn by; None if there is no such file."""
    if not path.exists():
        return None
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.description


def write_slide(name: str, *, seed: int, atlas_file: Path, folder: Path, **content) -> Counts:
    """Draw and write one slide, unless the folder has it by the same recipe; the work for `for_each_slide`.

    `atlas_file` holds draw_atlas(seed), `content` is draw_plan's.
    """
    plan = draw_plan(seed, slide_number(name), **content)
    path, recipe = folder / f"{name}.tif", slide_recipe(seed, plan)
    kept = recipe_in(path) == recipe
    if not kept:
        pixels = drawing.draw_slide(seed, plan, atlas.read_atlas(atlas_file))
        pyramids.write_pyramid(path, pixels, mpp=MPP, description=recipe)
    return Counts(N_TILES, 0, kept)


def remove_strangers(folder: Path, names: list[str]) -> int:
    """Delete the slide files of another cohort (a larger one, say) from the folder; return how many."""
    strangers = [path for path in folder.glob("toy-*.tif") if path.stem not in set(names)]
    for path in strangers:
        path.unlink()
    return len(strangers)
