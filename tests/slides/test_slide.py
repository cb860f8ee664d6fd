"""Opening slides, their scale, and the choice of a level."""

import math

import numpy as np
import pytest
import tifffile
from slide_files import damage_tile, smooth_noise, write_slide

from slidesieve.slides import slide as slides
from slidesieve.slides.slide import open_slide, view_at


def test_mpp_from_the_file_and_from_the_manifest(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(300, 530), mpp=0.5)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5, rel=1e-6) and slide.mpp_source == "file"
        assert slide.size_px0 == (530, 300)
    with open_slide(path, 0.7) as slide:
        assert slide.mpp == 0.7 and slide.mpp_source == "manifest"
    with open_slide(path, math.nan) as slide:
        assert slide.mpp_source == "file"


@pytest.mark.parametrize(
    ("mpp", "given", "fault", "words"),
    [
        (None, None, slides.MissingMpp, "set the true mpp"),
        (352.78, None, slides.AbsurdMpp, "352.78"),
        (0.5, 0.001, slides.AbsurdMpp, "the manifest says mpp 0.001"),
        ((0.5, 0.6), None, slides.AbsurdMpp, "0.5 x 0.6"),
    ],
)
def test_a_missing_or_absurd_mpp_is_asked_for(tmp_path, mpp, given, fault, words):
    path = write_slide(tmp_path / "a.tif", smooth_noise(64, 64), mpp=mpp)
    with pytest.raises(fault, match=words):
        open_slide(path, given)


@pytest.mark.parametrize(
    ("pixels", "mpp"),
    [
        ('<Pixels ID="P:0" PhysicalSizeX="0.2527" PhysicalSizeXUnit="µm" PhysicalSizeY="0.2527" SizeX="9"/>', 0.2527),
        (
            '<O:Pixels PhysicalSizeX="252.7" PhysicalSizeY="252.7" PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm">',
            0.2527,
        ),
        ('<Pixels PhysicalSizeX="5e-1" PhysicalSizeY=".5">', 0.5),
        ('<Pixels PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel">', None),
        ('<Pixels SizeX="9">', None),
        ('<Pixels PhysicalSizeX="half" PhysicalSizeY="half">', None),
    ],
)
def test_mpp_out_of_an_ome_xml_header(tmp_path, pixels, mpp):
    header = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="x"><Image ID="Image:0">{pixels}</Image></OME>'
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, smooth_noise(256, 512), tile=(256, 256), photometric="rgb", description=header.encode(), metadata=None
    )
    if mpp is None:
        with pytest.raises(slides.MissingMpp, match="no mpp in the file"):
            slides.open_slide(path)
    else:
        with slides.open_slide(path) as slide:
            assert slide.mpp == pytest.approx(mpp) and slide.mpp_source == "file"
        with slides.open_slide(path, 0.9) as slide:
            assert slide.note == f"the manifest says mpp 0.9, the file {mpp:g}: the manifest's is used"


def test_the_manifest_outweighs_the_file_and_mpp_the_objective_and_both_are_said():
    properties = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5", "openslide.objective-power": "5"}
    mpp, source, note = slides._mpp(slides.Path("a.svs"), properties, None)
    assert (mpp, source) == (0.5, "file")
    assert note == "the file says mpp 0.5 and a 5x objective, which has about 2: its mpp is used; is it right?"
    assert slides._mpp(slides.Path("a.svs"), properties, 0.505) == (0.505, "manifest", "")
    told = "the manifest says mpp 5, the file 0.5: the manifest's is used"
    assert slides._mpp(slides.Path("a.svs"), properties, 5) == (5, "manifest", told)
    fine = properties | {"openslide.objective-power": "20"}
    assert slides._mpp(slides.Path("a.svs"), fine, None) == (0.5, "file", "")
    tcga = {"openslide.mpp-x": "0.2325", "openslide.mpp-y": "0.2325", "openslide.objective-power": "20"}
    assert slides._mpp(slides.Path("a.svs"), tcga, None)[0] == 0.2325


def test_absent_and_garbage_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such slide file"):
        open_slide(tmp_path / "absent.svs")
    (tmp_path / "garbage.svs").write_bytes(b"not a slide" * 90)
    with pytest.raises(slides.UnreadableSlide, match=r"garbage\.svs: OpenSlide cannot open it"):
        open_slide(tmp_path / "garbage.svs")


def test_the_view_is_the_coarsest_level_that_is_fine_enough(tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth_noise(256, 512), mpp=0.5, levels=3)
    with open_slide(path) as slide:
        assert view_at(slide, 0.5) == (0, 1.0, 1.0)
        assert view_at(slide, 0.505) == (0, 1.0, 1.0)  # within 2 %: as stored
        assert view_at(slide, 0.495) == (0, 1.0, 1.0)
        assert view_at(slide, 0.6) == (0, pytest.approx(1.2), pytest.approx(1.2))
        assert view_at(slide, 1.0) == (1, 2.0, 1.0)
        assert view_at(slide, 1.7) == (1, pytest.approx(3.4), pytest.approx(1.7))
        assert view_at(slide, 7.0) == (2, pytest.approx(14), pytest.approx(3.5))
        with pytest.raises(slides.SlideTooCoarse, match=r"0\.5 um a pixel, 0\.4 requested.*set mpp to 0\.5 or more"):
            view_at(slide, 0.4)


def test_a_handle_works_again_after_an_error(tmp_path):
    pixels = smooth_noise(512, 512)
    path = write_slide(tmp_path / "a.tif", pixels, compression="jpeg")
    damage_tile(path, 0)
    with open_slide(path) as slide:
        with pytest.raises(slides.UnreadableRegion, match="level 0"):
            slide.read(0, (10, 10), (64, 64))
        read = slide.read(0, (300, 270), (64, 64)).astype(int)
        assert np.abs(read - pixels[270:334, 300:364]).mean() < 3


def test_what_was_not_scanned_shows_the_slides_background(tmp_path):
    """White, or the colour that the file names; never black, as a transparent pixel is stored."""
    pixels = smooth_noise(128, 128)
    with open_slide(write_slide(tmp_path / "a.tif", pixels)) as slide:
        seen = slide.read(0, (100, 100), (64, 64))
        assert np.array_equal(seen[:28, :28], pixels[100:, 100:])
        assert (seen[28:] == 255).all() and (seen[:, 28:] == 255).all()
    assert slides._background({"openslide.background-color": "F0E8FF"}) == (240, 232, 255, 255)
    assert slides._background({}) == (255, 255, 255, 255)
