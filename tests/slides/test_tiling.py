"""Grid, coverage, tile file."""

import h5py
import numpy as np
import pytest
from slide_files import STAIN, damage_tile, glass, smooth_noise, write_slide

from slidesieve.slides import tiling
from slidesieve.slides.slide import open_slide, view_at
from slidesieve.slides.tiling import TileSpec, coverage, grid, read_tiling, tile_slide, write_tiling


def test_a_slide_full_of_tissue_keeps_all_its_tiles(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(512, 1024))
    with open_slide(path) as slide:
        assert len(tile_slide(slide, TileSpec(64, 1.0, 0, 0.9)).coords) == 128


@pytest.mark.parametrize(("tile_px", "mpp", "overlap_px"), [(64, 1.0, 0), (50, 1.37, 0), (33, 2.9, 7), (64, 2.0, 16)])
def test_the_grid_is_all_whole_tiles_in_raster_order(tmp_path, tile_px, mpp, overlap_px):
    path = write_slide(tmp_path / "a.tif", smooth_noise(501, 777), levels=2)
    with open_slide(path) as slide:
        view = view_at(slide, mpp)
        coords = grid(slide, TileSpec(tile_px, mpp, overlap_px, 0.0), view)
    side, step = tile_px * mpp, (tile_px - overlap_px) * mpp
    across, down = (int((size - side) // step) + 1 for size in (777, 501))
    assert len(coords) == across * down
    assert np.array_equal(np.lexsort((coords[:, 0], coords[:, 1])), np.arange(len(coords)))
    assert np.abs(coords[1] - [step, 0]).max() <= 1 and np.abs(coords[-1] - [(across - 1) * step, 0])[0] <= 1
    assert (coords + side <= np.array([777, 501]) + 1).all()


def test_coverage_against_counting_pixels():
    mask = np.random.default_rng(3).random((47, 61)) > 0.4
    coords = np.array([[0, 0], [8, 4], [40, 30], [53, 39], [60, 46]])
    shares = coverage(mask, coords, 8.0, 1.0)
    expected = [mask[y : y + 8, x : x + 8].mean() for x, y in coords]
    assert shares == pytest.approx(expected)
    assert coverage(mask, coords * 5, 40.0, 5.0) == pytest.approx(expected)  # same boxes, mask five times coarser


def test_tiles_lie_on_the_tissue(tmp_path):
    pixels = glass(640, 960)
    pixels[128:448, 256:576] = STAIN
    path = write_slide(tmp_path / "a.tif", pixels)
    with open_slide(path) as slide:
        placed = tile_slide(slide, TileSpec(64, 1.0, 0, 0.5))
    assert len(placed.coords) == 25
    assert placed.coords.min(0).tolist() == [256, 128] and placed.coords.max(0).tolist() == [512, 384]
    assert (placed.tissue == 1).all() and placed.n_dropped == 0


def test_the_same_place_whatever_the_scale_of_the_file(tmp_path):
    """A slide scanned twice as fine has its tiles at twice the coordinates."""
    pixels = glass(640, 960)
    pixels[128:448, 256:576] = STAIN
    fine = pixels.repeat(2, 0).repeat(2, 1)
    spec = TileSpec(64, 1.0, 0, 0.5)
    with open_slide(write_slide(tmp_path / "a.tif", pixels, mpp=1.0)) as slide:
        coarse = tile_slide(slide, spec)
    with open_slide(write_slide(tmp_path / "b.tif", fine, mpp=0.5)) as slide:
        assert np.array_equal(tile_slide(slide, spec).coords, 2 * coarse.coords)


def test_each_fault_has_its_name(tmp_path):
    def place(pixels, spec, **options):
        with open_slide(write_slide(tmp_path / "a.tif", pixels, **options)) as slide:
            return tile_slide(slide, spec)

    with pytest.raises(tiling.SlideTooSmall, match="16 x 16 px, smaller than one tile of 256 px"):
        place(smooth_noise(16, 16), TileSpec(256, 1.0, 0, 0.5))
    with pytest.raises(tiling.NoTissue, match=r"of 32 tiles none has 50% tissue \(the best has 0%\)"):
        place(glass(256, 512), TileSpec(64, 1.0, 0, 0.5))
    night = np.zeros((256, 512, 3), np.uint8)
    night[60:120, 60:300, 2] = 200
    with pytest.raises(tiling.NotBrightfield, match=r"88% of it is black, .* 0% is light .*: fluorescence"):
        place(night[:, :, [2, 1, 0]] // 2 + night, TileSpec(64, 1.0, 0, 0.5))
    with pytest.raises(tiling.NotBrightfield, match=r"100% of it is black, its brightest pixel has \d+ of 255"):
        place(smooth_noise(256, 512) // 16, TileSpec(64, 1.0, 0, 0.5))
    for wrong in ({"tile_px": 0}, {"mpp": 0.0}, {"overlap_px": 64}, {"min_tissue": 1.5}):
        with pytest.raises(ValueError, match=f"TileSpec: {next(iter(wrong))}"):
            TileSpec(**({"tile_px": 64, "mpp": 1.0, "overlap_px": 0, "min_tissue": 0.5} | wrong))


def test_what_cannot_be_seen_is_dropped_and_counted(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(512, 1024), compression="jpeg")
    damage_tile(path, 5)
    with open_slide(path) as slide:
        placed = tile_slide(slide, TileSpec(64, 1.0, 0, 0.0))
    assert placed.n_dropped == 16 and len(placed.coords) == 112


def test_the_tile_file_reads_back_and_speaks_trident(tmp_path):
    with open_slide(write_slide(tmp_path / "s.tif", smooth_noise(300, 500), mpp=0.5)) as slide:
        placed = tile_slide(slide, TileSpec(50, 1.2, 10, 0.1))
    write_tiling(tmp_path / "s.h5", placed, {"recipe_hash": "abc"})
    again = read_tiling(tmp_path / "s.h5")
    assert np.array_equal(again.coords, placed.coords) and np.array_equal(again.tissue, placed.tissue)
    assert again.view == placed.view and again.attrs["recipe_hash"] == "abc"
    with h5py.File(tmp_path / "s.h5") as file:
        attrs = dict(file["coords"].attrs)
        assert file["coords"].dtype == np.int64
    assert {k: attrs[k] for k in ("patch_size", "patch_size_level0", "overlap", "level0_width", "level0_height")} == {
        "patch_size": 50,
        "patch_size_level0": 120,
        "overlap": 10,
        "level0_width": 500,
        "level0_height": 300,
    }
    assert attrs["level0_magnification"] == 20 and attrs["name"] == "s"


def test_black_filler_is_no_fluorescence(tmp_path):
    """Two thirds of a slide are filler: what is not is judged, and tiled."""
    pixels = np.zeros((512, 768, 3), np.uint8)
    pixels[:, :256] = smooth_noise(512, 256)
    with open_slide(write_slide(tmp_path / "a.tif", pixels)) as slide:
        tiles = tile_slide(slide, TileSpec(64, 1.0, 0, 0.5))
    assert len(tiles.coords) == 32 and tiles.coords[:, 0].max() == 192
