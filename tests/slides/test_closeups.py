"""One slide looked at again: the whole grid with each tile's share of tissue, and tiles that are those of the file."""

import numpy as np
import pandas as pd
import pytest
from slide_files import GLASS, STAIN, glass, write_manifest, write_slide

from slidesieve.cohort.manifest import read_manifest
from slidesieve.slides.closeups import examples, look_closely, tile_pictures
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, tile_slide, write_tiling

SPEC = TileSpec(tile_px=64, mpp=2.0, overlap_px=0, min_tissue=0.4)


@pytest.fixture
def tiled(tmp_path):
    """A slide of 7 x 5 tiles of 128 px, of which 3 x 2 are tissue and a column more half so."""
    pixels = glass(640, 896)
    pixels[128:384, 256:704] = STAIN
    write_slide(tmp_path / "S1.tif", pixels, levels=2)
    write_manifest(tmp_path / "manifest.csv", [{"slide_id": "S1", "slide_path": "S1.tif"}, {"slide_id": "gone"}])
    with open_slide(tmp_path / "S1.tif") as slide:
        write_tiling(tmp_path / "S1.h5", tile_slide(slide, SPEC), {})
    return tmp_path


def test_the_grid_is_whole_and_a_tile_is_kept_as_the_file_says(tiled):
    seen = look_closely(read_manifest(tiled / "manifest.csv"), tiled, "S1", each=3)
    assert len(seen.grid) == 35 and seen.side_px0 == 128
    kept = seen.grid[seen.grid["kept"]]
    assert sorted(kept[["x_px0", "y_px0"]].itertuples(index=False, name=None)) == [
        (x, y) for x in (256, 384, 512, 640) for y in (128, 256)
    ]
    assert kept["tissue"].tolist() == pytest.approx([1, 1, 1, 0.5] * 2, abs=0.13)
    assert (seen.grid.loc[~seen.grid["kept"], "tissue"] < 0.4).all()
    assert seen.mask.mean() == pytest.approx(448 * 256 / (640 * 896), abs=0.03)


def test_the_tiles_shown_are_those_of_the_slide(tiled):
    seen = look_closely(read_manifest(tiled / "manifest.csv"), tiled, "S1", each=3)
    shown = seen.grid.dropna(subset="rank").sort_values("rank")
    assert shown["kept"].tolist() == [True] * 3 + [False] * 3 and list(seen.tiles) != []
    for row in shown.itertuples():
        colour = STAIN if row.kept and row.tissue > 0.9 else GLASS if row.tissue == 0 else None
        assert seen.tiles[row.Index].shape == (64, 64, 3)
        assert colour is None or (seen.tiles[row.Index] == colour).all()


def test_examples_are_evenly_spaced_by_their_share():
    tissue = [0, 0, 0, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1, 1, 1]
    table = pd.DataFrame({"tissue": tissue, "kept": [False] * 5 + [True] * 7})
    assert examples(table, 4) == [5, 6, 7, 8, 0, 1, 3, 4]
    assert examples(table, 20) == [*range(5, 12), *range(5)]
    assert len(examples(table[table["kept"]].assign(tissue=1.0), 3)) == 3


def test_pictures_of_tiles_are_found_by_row_and_a_slide_that_is_gone_has_none(tiled):
    places = pd.DataFrame(
        {"slide_id": ["gone", "S1", "S1"], "x_px0": [0, 256, 0], "y_px0": [0, 128, 512]}, index=[7, 3, 5]
    )
    found = tile_pictures(read_manifest(tiled / "manifest.csv"), tiled, places)
    assert sorted(found) == [3, 5] and np.all(found[3] == STAIN) and np.all(found[5] == GLASS)
