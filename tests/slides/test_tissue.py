"""What is tissue: outlines of drawn sections, glass of any tint, ink, and what a person is asked to look at."""

import numpy as np
import pytest
from slide_files import STAIN, glass, write_slide

from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, coverage, tile_slide
from slidesieve.slides.tissue import closed, find_tissue
from slidesieve.synthetic.sections import FAINT, GLASS, INK, KINDS, draw_section

TILE = 8  # mask px a tile has, as stage 10 asks of a thumbnail


def _overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in INK])
def test_the_outline_is_the_one_drawn(kind):
    section = draw_section(kind, 3)
    found = find_tissue(section.rgb, section.known)
    assert _overlap(found.mask, section.tissue) > (0.92 if kind in FAINT else 0.98)
    assert not (found.mask & ~section.known).any() and not found.ink.any()
    assert found.flags == (("low contrast",) if kind in FAINT else ())
    assert np.abs(found.glass / np.array(GLASS.get(kind, GLASS["clean"])) - 1).max() < 0.025


@pytest.mark.parametrize("kind", INK)
def test_ink_is_not_tiled_and_tissue_beside_it_is(kind):
    section = draw_section(kind, 4)
    found = find_tissue(section.rgb)
    assert _overlap(found.mask & ~section.ink, section.tissue & ~section.ink) > 0.97
    assert found.flags == ("pen hue",)
    y, x = np.mgrid[: section.ink.shape[0] - TILE : TILE, : section.ink.shape[1] - TILE : TILE]
    coords = np.stack([x.ravel(), y.ravel()], 1)
    inked = coverage(section.ink, coords, TILE, 1.0) > 0.5
    kept = coverage(found.mask, coords, TILE, 1.0) >= 0.25
    on_glass = coverage(section.tissue, coords, TILE, 1.0) == 0
    assert inked.sum() > 300 and not (kept & inked & on_glass).any()
    assert (kept & inked).sum() <= 0.05 * kept.sum()  # pale ink on tissue has the colour of tissue
    assert kind == "pale pen" or (kept & inked).sum() <= 0.05 * inked.sum()


def test_tissue_is_what_is_stained_and_not_black():
    rgb = np.full((20, 40, 3), 243, np.uint8)
    rgb[:, 10:20] = STAIN
    rgb[:, 20:30] = (0, 0, 40)  # fluorescence
    rgb[:, 30:] = (214, 214, 216)  # a shadow
    mask = find_tissue(rgb).mask
    assert mask[:, 10:20].all() and mask.sum() == 20 * 10


def test_small_gaps_in_tissue_are_tissue_and_large_ones_are_not():
    rgb = np.full((60, 60, 3), STAIN, np.uint8)
    rgb[10:14, 10:14] = 243
    rgb[30:50, 30:50] = 243
    mask = find_tissue(rgb).mask
    assert mask[10:14, 10:14].all() and not mask[34:46, 34:46].any()


def test_closing_against_a_naive_loop():
    mask = np.random.default_rng(0).random((23, 31)) > 0.7
    wide = np.pad(mask, 4, mode="edge")
    grown = np.array([[wide[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].any() for x in range(39)] for y in range(31)])
    shrunk = [[grown[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].all() for x in range(39)] for y in range(31)]
    assert np.array_equal(closed(mask, 2), np.array(shrunk)[4:-4, 4:-4])


def test_a_blue_stain_is_no_ink():
    """Collagen in trichrome is as blue as a pen: where most of what is coloured would be ink, nothing is."""
    rgb = glass(200, 200)
    rgb[40:160, 40:160] = (90, 130, 190)
    found = find_tissue(rgb)
    assert found.mask[45:155, 45:155].all() and not found.ink.any()


def test_flags_name_what_to_look_at():
    full = np.full((100, 100, 3), STAIN, np.uint8)
    assert find_tissue(full).flags == ("all tissue",)
    noise = np.random.default_rng(0).normal(size=(200, 200, 3)) * 6
    rim = np.full((200, 200, 3), 240.0) + noise
    y, x = np.mgrid[:200, :200]
    rim[np.hypot(x - 100, y - 100) < 80] *= (0.992, 0.975, 0.986)
    rim[np.hypot(x - 100, y - 100) < 50] = STAIN
    assert find_tissue(rim.clip(0, 255).astype(np.uint8)).flags == ("rim lost",)
    assert find_tissue(glass(50, 50)).flags == () and not find_tissue(glass(50, 50)).mask.any()


def test_a_flag_reaches_the_ledger_s_note(tmp_path):
    section = draw_section("blue pen", 1)
    path = write_slide(tmp_path / "a.tif", section.rgb.repeat(2, 0).repeat(2, 1), mpp=1.0)
    with open_slide(path) as slide:
        assert tile_slide(slide, TileSpec(16, 1.0, 0, 0.25)).attrs["note"] == "look at the slide: pen hue"
        assert tile_slide(slide, TileSpec(16, 1.0, 0, 0.0)).attrs["note"] == ""  # all are kept
