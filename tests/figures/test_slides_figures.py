"""Figures of slides: tiles where they lie, counts as long as they are, every slide once."""

import numpy as np
import pandas as pd
import pytest
from read_back import (
    closed,
    fresh,
    hex_of,
    legend,
    lying,
    outside,
    pairs,
    squares,
    ticks,
    titles,
    upright,
    written,
)  # fmt: skip

from slidesieve.figures import slides
from slidesieve.figures.style import BLUE, ORANGE
from slidesieve.slides.closeups import Closeup
from slidesieve.slides.overviews import Overview
from slidesieve.slides.slide import View
from slidesieve.slides.tiling import Tiling

SITES = pd.DataFrame({"test": [3, 0, 7], "train": [11, 5, 2], "val": [1, 4, 0]}, index=["A2", "BH", "(none)"])
FOLDS = pd.DataFrame({"benign": [7, 5, 9], "grade 1": [3, 4, 0], "grade 2": [2, 1, 6]}, index=[0, 1, 4])
COORDS = np.array([[17, 5], [290, 40], [640, 210], [33, 470], [512, 333]])


def stacked(counts: pd.DataFrame) -> dict[str, list[tuple[float, float, float]]]:
    """Row, start and length of each column's bars."""
    bars, start = {}, [0] * len(counts)
    for column in counts:
        bars[column] = [(i, start[i], n) for i, n in enumerate(counts[column].tolist())]
        start = [a + n for a, n in zip(start, counts[column].tolist(), strict=True)]
    return bars


def test_a_sites_slides_are_stacked_by_split():
    ax = slides.site_bars(fresh(), SITES)
    for split, bars in stacked(SITES).items():
        assert lying(ax, split) == bars
    assert lying(ax, "val")[1] == (1, 5, 4)
    assert [text for _, text in ticks(ax.yaxis)] == ["A2", "BH", "(none)"] and ax.yaxis_inverted()
    assert legend(ax) == ["test", "train", "val"] and ax.get_legend().get_title().get_text() == "split"
    assert titles(ax) == ("slides", "site") and outside(ax) == []


def test_ten_folds_are_all_there():
    counts = pd.DataFrame({str(fold): [fold + 1, 2 * fold + 3] for fold in range(10)}, index=["A2", "BH"])
    ax = slides.site_bars(fresh(), counts)
    assert [lying(ax, fold) for fold in counts] == list(stacked(counts).values()) and legend(ax) == list(counts)
    assert sum(width for _, _, width in lying(ax)) == counts.to_numpy().sum()


def test_a_folds_slides_are_stacked_by_label_and_written():
    ax = slides.label_folds(fresh(), FOLDS)
    for label, bars in stacked(FOLDS).items():
        assert upright(ax, label) == bars
    assert [text for _, text in ticks(ax.xaxis)] == ["0", "1", "4"]
    assert [text for text, *_ in written(ax)] == ["7", "5", "9", "3", "4", "0", "2", "1", "6"]
    assert legend(ax) == list(FOLDS) and titles(ax) == ("fold", "slides") and outside(ax) == []


def overlay(marked=None):
    thumbnail = np.zeros((30, 50, 3), dtype=np.uint8)
    return slides.tile_overlay(fresh(), thumbnail, COORDS, tile_px0=64.5, slide_width_px0=1000, marked=marked)


def test_tiles_lie_in_the_slides_own_pixels():
    ax = overlay()
    plain, chosen = ax.collections
    assert squares(plain) == [(x, y, 64.5, 64.5) for x, y in COORDS.tolist()] and squares(chosen) == []
    assert ax.images[0].get_extent() == [0, 1000, 600, 0]
    assert sorted(ax.get_xlim()) == [0, 1000] and ax.get_ylim() == (600, 0)
    assert titles(ax) == ("x (level-0 px)", "y (level-0 px)") and outside(ax) == []


def test_marked_tiles_are_orange_as_is_said():
    marked = np.array([False, True, False, False, True])
    plain, chosen = overlay(marked).collections
    assert squares(plain) == [(x, y, 64.5, 64.5) for x, y in COORDS[[0, 2, 3]].tolist()]
    assert squares(chosen) == [(x, y, 64.5, 64.5) for x, y in COORDS[[1, 4]].tolist()]
    assert (hex_of(plain.get_edgecolor()), hex_of(chosen.get_edgecolor())) == (BLUE, ORANGE)
    assert "marked ones in orange" in slides.tile_overlay.__doc__
    assert chosen.get_linewidth() > plain.get_linewidth()


def overview(name: str, coords: np.ndarray, scale: float, width_px0: float) -> Overview:
    attrs = {"patch_size": 32, "tile_size_um": 127.6}
    tiling = Tiling(coords, np.ones(len(coords), np.float32), 0, View(0, scale, 1.0), attrs)
    return Overview(name, np.zeros((20, 40, 3), dtype=np.uint8), width_px0, tiling)


def test_a_sheet_shows_every_slide_with_its_own_tiles():
    shown = [overview(f"s{i}", COORDS[: i + 2], 1.5 + i, 1400.4 + 100 * i) for i in range(4)]
    drawn = closed(slides.tile_sheet(shown))
    assert len(drawn.axes) == 4 and drawn.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 3)
    for i, ax in enumerate(drawn.axes):
        side, width = 32 * (1.5 + i), 1400 + 100 * i
        assert ax.get_title() == f"s{i}\n128 µm tiles, n = {i + 2}"
        assert squares(ax.collections[0]) == [(x, y, side, side) for x, y in pairs(COORDS[: i + 2])]
        assert ax.images[0].get_extent() == [0, width, width / 2, 0] and outside(ax) == []


def test_a_sheet_of_one_slide_is_one_panel():
    (ax,) = closed(slides.tile_sheet([overview("s0", COORDS, 2.0, 900.0)])).axes
    assert len(squares(ax.collections[0])) == 5 and ax.get_title() == "s0\n128 µm tiles, n = 5"


def test_a_contact_sheet_fades_what_is_not_tiled():
    shown = overview("s0", np.array([[0, 0], [400, 200]]), 4.0, 800.0)._replace(rgb=np.full((20, 40, 3), 100, np.uint8))
    (ax,) = closed(slides.contact_sheet([shown], {"s0": "pen hue"})).axes
    drawn = ax.images[0].get_array()
    assert (drawn[:7, :7] == 100).all() and (drawn[10:16, 20:26] == 100).all() and (drawn[12:, :10] == 195).all()
    assert ax.get_title() == "s0\npen hue"


@pytest.mark.parametrize(("width", "bar"), [(1000, 200), (999, 100), (51, 10), (26_000, 5000), (0.4, 0.05)])
def test_a_scale_bar_is_round_and_at_most_a_fifth(width, bar):
    assert slides.scale_bar_um(width) == pytest.approx(bar)


def test_a_closeup_draws_every_tile_of_the_grid_and_frames_those_shown():
    grid = pd.DataFrame({"x_px0": COORDS[:, 0], "y_px0": COORDS[:, 1], "tissue": [0.1, 0.9, 0.5, 0.2, 0.7]})
    grid = grid.assign(kept=grid["tissue"] >= 0.5, rank=pd.Series([2, 1, 0], index=[0, 1, 2], dtype="Int64"))
    blank = np.zeros((30, 50, 3), dtype=np.uint8)
    tiles = {0: np.full((8, 8, 3), 9, np.uint8), 2: np.full((8, 8, 3), 7, np.uint8)}
    seen = Closeup("S1", blank, blank[..., 0] > 0, 1000, 64.5, 0.25, grid, tiles)
    drawn = closed(slides.closeup_sheet(seen, most=3))
    whole, strips = drawn.subfigs
    kept, out = whole.axes[2].collections
    assert squares(kept) == [(x, y, 64.5, 64.5) for x, y in COORDS[[1, 2, 4]].tolist()]
    assert squares(out) == [(x, y, 64.5, 64.5) for x, y in COORDS[[0, 3]].tolist()]
    shown = [(ax.get_title(), [int(image.get_array()[0, 0, 0]) for image in ax.images]) for ax in strips.axes]
    assert shown[:2] == [("50% tissue, kept", [7]), ("90% tissue, kept", [])]
    assert shown[3] == ("10% tissue, left out", [9]) and all(not ax.axison for ax in (strips.axes[2], strips.axes[5]))
    assert "5 tiles, of which 3 are kept" in drawn.get_label()
