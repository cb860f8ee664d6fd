"""Pixels: stored levels come as they are, others averaged to the right place, and nothing unreadable comes at all."""

import numpy as np
import pytest
from openslide import OpenSlide
from slide_files import damage_tile, glass, smooth_noise, write_slide

from slidesieve.slides import pixels as slide_pixels
from slidesieve.slides.pixels import iter_tiles, thumbnail
from slidesieve.slides.slide import UnreadableSlide, View, open_slide, view_at
from slidesieve.slides.tiling import TileSpec, grid
from slidesieve.synthetic.pyramids import write_pyramid


def _read_all(slide, coords, tile_px, view):
    parts = list(iter_tiles(slide, coords, tile_px=tile_px, view=view))
    index = np.concatenate([p.index for p in parts]) if parts else np.zeros(0, int)
    assert len(set(index.tolist())) == len(index)
    return dict(zip(index.tolist(), np.concatenate([p.pixels for p in parts]) if parts else [], strict=True))


@pytest.mark.parametrize(("tile_px", "overlap_px", "mpp"), [(64, 0, 1.0), (64, 13, 1.0), (96, 0, 2.0), (200, 0, 1.0)])
def test_tiles_of_a_stored_level_are_its_pixels(tmp_path, tile_px, overlap_px, mpp):
    """Cutting small tiles from larger reads must change no bit against reading each by itself."""
    write_pyramid(tmp_path / "toy.tif", smooth_noise(512, 1024), mpp=1.0, description="")
    with open_slide(tmp_path / "toy.tif") as slide, OpenSlide(tmp_path / "toy.tif") as raw:
        view = view_at(slide, mpp)
        coords = grid(slide, TileSpec(tile_px, mpp, overlap_px, 0.0), view)
        tiles = _read_all(slide, coords, tile_px, view)
        assert sorted(tiles) == list(range(len(coords)))
        for i, xy in enumerate(coords.tolist()):
            alone = np.asarray(raw.read_region(xy, view.level, (tile_px, tile_px)).convert("RGB"))
            assert np.array_equal(tiles[i], alone)


def test_the_toy_grid_has_128_tiles(tmp_path):
    write_pyramid(tmp_path / "toy.tif", smooth_noise(512, 1024), mpp=1.0, description="")
    with open_slide(tmp_path / "toy.tif") as slide:
        coords = grid(slide, TileSpec(64, 1.0, 0, 0.0), view_at(slide, 1.0))
    assert len(coords) == 128 and coords[1].tolist() == [64, 0] and coords[16].tolist() == [0, 64]


def test_a_resampled_tile_is_where_it_should_be(tmp_path):
    """On a linear ramp the mean over a tile pixel is the ramp at its centre: value = level-0 x of the centre."""
    x = np.arange(241)
    ramp = np.repeat(np.broadcast_to(x[None, :, None], (200, 241, 3)).astype(np.uint8), 1, axis=0)
    path = write_slide(tmp_path / "ramp.tif", ramp, mpp=0.5)
    with open_slide(path) as slide:
        view = view_at(slide, 1.7)
        assert view.factor == pytest.approx(3.4)
        coords = grid(slide, TileSpec(17, 1.7, 0, 0.0), view)
        tiles = _read_all(slide, coords, 17, view)
    assert len(coords) == 4 * 3  # 241 / 57.8 and 200 / 57.8
    for i, (x0, _) in enumerate(coords):
        centres = x0 + (np.arange(17) + 0.5) * 3.4 - 0.5
        inner = slice(2, 15)  # the averaging window is cut off at a tile's edge
        assert np.abs(tiles[i][8, inner, 0] - centres[inner]).max() < 1.0


def test_a_damaged_stored_tile_costs_the_tiles_on_it_and_no_other(tmp_path):
    pixels = smooth_noise(512, 1024)
    whole = write_slide(tmp_path / "whole.tif", pixels, compression="jpeg")
    path = write_slide(tmp_path / "a.tif", pixels, compression="jpeg")
    damage_tile(path, 5)  # second row, second column: x and y from 256 to 511
    spec, view = TileSpec(64, 1.0, 0, 0.0), View(0, 1.0, 1.0)
    with open_slide(path) as slide, open_slide(whole) as other:
        coords = grid(slide, spec, view)
        read, intact = _read_all(slide, coords, 64, view), _read_all(other, coords, 64, view)
    on_it = ((coords >= 256) & (coords < 512)).all(1)
    assert on_it.sum() == 16
    assert sorted(read) == np.flatnonzero(~on_it).tolist()
    assert all(np.array_equal(read[i], intact[i]) for i in read)


def test_no_coordinates_no_tiles(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(128, 128))
    with open_slide(path) as slide:
        assert list(iter_tiles(slide, np.zeros((0, 2), np.int64), tile_px=64, view=View(0, 1.0, 1.0))) == []


def test_the_thumbnail_is_the_slide_whatever_the_block(tmp_path, monkeypatch):
    pixels = smooth_noise(390, 770)
    path = write_slide(tmp_path / "a.tif", pixels)
    with open_slide(path) as slide:
        small = thumbnail(slide, 7.9)
        monkeypatch.setattr(slide_pixels, "THUMBNAIL_BLOCK_PX", 100)
        in_blocks = thumbnail(slide, 7.9)
    means = pixels[:385, :770].reshape(55, 7, 110, 7, 3).mean((1, 3))
    assert small.rgb.shape == (55, 110, 3) and small.scale == 7 and small.known.all()
    assert np.abs(small.rgb - means).max() <= 0.52
    assert np.array_equal(small.rgb, in_blocks.rgb)


def test_a_thumbnail_takes_the_coarsest_level_that_is_fine_enough(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(256, 512), levels=3)
    with open_slide(path) as slide:
        assert [thumbnail(slide, s).scale for s in (1.5, 2.0, 3.9, 8.1)] == [1, 2, 2, 8]


def test_a_thumbnail_knows_what_it_could_not_read(tmp_path):
    path = write_slide(tmp_path / "a.tif", glass(512, 1024), compression="jpeg")
    damage_tile(path, 5)
    with open_slide(path) as slide:
        known = thumbnail(slide, 16.0).known
    assert known.shape == (32, 64)
    assert not known[16:, 16:32].any() and known.sum() == 32 * 64 - 16 * 16
    for number in range(8):
        damage_tile(path, number)
    with open_slide(path) as slide, pytest.raises(UnreadableSlide, match="no pixel of level 0"):
        thumbnail(slide, 16.0)
