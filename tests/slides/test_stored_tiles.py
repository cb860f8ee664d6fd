"""Stored tiles: OpenSlide's pixels to the last one, or OpenSlide itself."""

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from shared_data import SHARED
from slide_files import damage_tile, smooth_noise, write_slide

from slidesieve.slides.slide import UnreadableRegion, open_slide
from slidesieve.slides.stored_tiles import StoredTiles


def _painted(path, xy, size):
    """OpenSlide's own pixels, on white where it has none."""
    with OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region(xy, 0, size)).astype(int)
    return np.where(rgba[..., 3:] == 255, rgba[..., :3], 255)


@pytest.fixture
def jpeg(tmp_path):
    return write_slide(tmp_path / "jpeg.tif", smooth_noise(699, 1041), levels=2, compression="jpeg")


@pytest.mark.parametrize(
    ("xy", "size"),
    [
        ((256, 256), (256, 256)),  # one as stored
        ((1024, 512), (17, 187)),  # the last one, cut at both edges
        ((13, 7), (31, 29)),  # within one
        ((101, 33), (700, 611)),  # over many
        ((900, 600), (200, 150)),  # beyond the slide: white
    ],
)
def test_any_region_is_openslides(jpeg, xy, size):
    with open_slide(jpeg) as slide:
        assert slide.stored_tiles(0)
        assert np.array_equal(slide.read(0, xy, size), _painted(jpeg, xy, size))


def test_what_was_decoded_is_kept_and_cannot_be_written_to(jpeg, monkeypatch):
    """A grid that is not the file's own asks for each stored tile up to four times; the file is read once for each."""
    decoded = []
    decode = StoredTiles._decode
    monkeypatch.setattr(StoredTiles, "_decode", lambda self, index: decoded.append(index) or decode(self, index))
    with open_slide(jpeg) as slide:
        slide.stored_tiles(0)
        decoded.clear()
        for y in range(100, 400, 100):
            for x in range(100, 800, 100):
                slide.read(0, (x, y), (100, 100))
        assert sorted(decoded) == [0, 1, 2, 3, 5, 6, 7, 8]
        with pytest.raises(ValueError, match="read-only"):
            slide.read(0, (0, 0), (256, 256))[0] = 0


def test_a_level_that_is_no_whole_number_of_times_smaller_is_openslides(jpeg):
    """OpenSlide reads it between its pixels: 1041 of 520 is 2.002."""
    with open_slide(jpeg) as slide:
        assert slide.downsamples[1] != 2 and slide.stored_tiles(1) is None
        assert slide.stored_tiles(0)


@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_other_codecs_are_openslides(tmp_path, compression):
    path = write_slide(tmp_path / "other.tif", smooth_noise(300, 280), compression=compression)
    with open_slide(path) as slide:
        assert slide.stored_tiles(0) is None
        assert np.array_equal(slide.read(0, (5, 9), (270, 222)), _painted(path, (5, 9), (270, 222)))


def test_two_pages_of_one_size_are_openslides(tmp_path):
    """Focal planes, or a mask: which of them the level shows is OpenSlide's to say."""
    with tifffile.TiffWriter(tmp_path / "planes.tif") as tiff:
        for seed in (0, 1):
            tiff.write(
                smooth_noise(260, 300, seed), tile=(256, 256), compression="jpeg", photometric="rgb", metadata=None
            )
    with open_slide(tmp_path / "planes.tif", 1.0) as slide:
        assert slide.stored_tiles(0) is None


def test_a_slide_on_which_they_differ_is_openslides(jpeg, monkeypatch):
    """One value of one pixel of a probed tile is enough."""
    read = StoredTiles.read

    def wrong(self, xy, size):
        pixels = read(self, xy, size).copy()
        pixels[-1, -1, 1] ^= xy == (1024, 512)
        return pixels

    monkeypatch.setattr(StoredTiles, "read", wrong)
    with open_slide(jpeg) as slide:
        assert slide.stored_tiles(0) is None
        assert np.array_equal(slide.read(0, (9, 8), (300, 300)), _painted(jpeg, (9, 8), (300, 300)))


def test_a_broken_tile_is_as_unreadable_as_to_openslide(tmp_path):
    """Damage that libjpeg would paint over with a warning is damage; its neighbours are read as before."""
    path = write_slide(tmp_path / "large.tif", smooth_noise(1280, 1300), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        starts, lengths = page.dataoffsets, page.databytecounts
    damaged = bytearray(path.read_bytes())
    middle = starts[8] + lengths[8] // 2
    damaged[middle : middle + 40] = b"\x00" * 40
    path.write_bytes(damaged)
    damage_tile(path, 29)
    with open_slide(path) as slide:
        assert slide.stored_tiles(0), "one of the damaged ones is probed, and is so both ways"
        for number in (8, 29):
            with pytest.raises(UnreadableRegion, match=r"large\.tif"):
                slide.read(0, (number % 6 * 256, number // 6 * 256), (20, 256))
        assert np.array_equal(slide.read(0, (768, 256), (256, 256)), _painted(path, (768, 256), (256, 256)))


def test_a_tile_never_written_is_openslides(tmp_path):
    """Its place in the file is empty: OpenSlide says what stands there (white)."""
    path = write_slide(tmp_path / "sparse.tif", smooth_noise(1280, 1300), compression="jpeg")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[8] = 0
        tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    with open_slide(path) as slide:
        assert slide.stored_tiles(0)
        assert np.array_equal(slide.read(0, (300, 200), (400, 300)), _painted(path, (300, 200), (400, 300)))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CPTAC-C3L-00601-26_5x.tiff"])
def test_real_slides_are_read_by_their_stored_tiles(name):
    path = SHARED / "slides" / name
    rng = np.random.default_rng(5)
    with open_slide(path, 1.0) as slide:
        assert slide.stored_tiles(0)
        for _ in range(9):
            xy = tuple(int(rng.integers(0, side - 500)) for side in slide.size_px0)
            size = tuple(rng.integers(1, 700, 2).tolist())
            assert np.array_equal(slide.read(0, xy, size), _painted(path, xy, size))
