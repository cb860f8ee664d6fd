"""The tiles that a run kept, slide by slide, with their features and places: what other programs are given."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from slidesieve.exports.runs import Run

SELECTED = "selected.csv"


class Kept(NamedTuple):
    """A slide's kept tiles, best first: features, top-left corners and side in level-0 px; nan where no score is."""

    slide_id: str
    case_id: str
    x: Float[np.ndarray, "m d"]
    coords: Int[np.ndarray, "m 2"]
    scores: Float[np.ndarray, " m"]
    tile_px0: int | None
    attrs: dict

    @property
    def side_px0(self) -> int:
        """Raises ValueError where nobody says how large a tile is."""
        if not self.tile_px0:
            raise ValueError(
                f"{self.slide_id}: no patch_size_level0 with its coords; expected it in level-0 px; add it"
            )
        return self.tile_px0

    @property
    def ranks(self) -> Int[np.ndarray, " m"]:
        """0 for the best tile."""
        return np.arange(len(self.coords))


def selected_of(run: Run) -> pd.DataFrame:
    """The table of kept tiles. Raises ValueError for a method that keeps none."""
    table = pd.read_csv(run.folder / SELECTED, dtype={"slide_id": str}, keep_default_na=False, na_values={"score": ""})
    if table.empty:
        raise ValueError(f"{run.method}: keeps no tiles, its tokens mix them; expected a method that selects; name one")
    return table


def kept_tiles(run: Run) -> Iterator[Kept]:
    """Each slide's kept tiles. Raises ValueError where a bag no longer has the tiles that were kept of it."""
    table = selected_of(run)
    slides = list(dict.fromkeys(table["slide_id"]))
    cases, bags = run.manifest().cases, run.bags(slides)
    for slide, rows in table.sort_values(["slide_id", "rank"], kind="stable").groupby("slide_id"):
        if slide not in bags:
            raise ValueError(f"{slide}: its features are gone; expected the file that was answered about; put it back")
        bag, index = bags[slide], rows["index"].to_numpy()
        coords = rows[["x_px0", "y_px0"]].to_numpy()
        if index.max() >= len(bag.x) or not np.array_equal(bag.coords[index], coords):
            raise ValueError(f"{slide}: its tiles are not those that were kept; expected the same grid; answer again")
        side = bag.attrs.get("patch_size_level0")
        scores = rows["score"].to_numpy(dtype=float)
        yield Kept(slide, cases[slide], bag.x[index], coords, scores, int(side) if side else None, bag.attrs)
