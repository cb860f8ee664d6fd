"""Toy slides: textures without seams, plans that hold what they promise, the same seed the same pixels."""

import re
from functools import partial

import numpy as np
import pytest
from openslide import OpenSlide

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.slide_loop import for_each_slide
from slidesieve.slides.slide import open_slide
from slidesieve.slides.tiling import TileSpec, tile_slide
from slidesieve.synthetic import cohort, tables
from slidesieve.synthetic.classes import BY_KIND, CLASSES, FINDINGS, GRADES, INDEX, KIND, PIGMENT_OD, TISSUES
from slidesieve.synthetic.drawing import HEIGHT, WIDTH, draw_slide
from slidesieve.synthetic.plans import COLS, ROWS, TILE_PX0, Plan, draw_plan
from slidesieve.synthetic.pyramids import write_pyramid

CONTENT = {"evidence_tiles": (2, 4), "n_decoys": 12}


# classes and textures


def test_class_names_are_forty_single_words():
    assert len(CLASSES) == len(set(CLASSES)) == 40
    assert [len(names) for names in BY_KIND.values()] == [8, 8, 8, 16]
    assert all(re.fullmatch("[a-z]+(-[a-z]+)?", name) for name in CLASSES)
    assert set(PIGMENT_OD) <= set(CLASSES)


def test_textures_wrap_without_a_seam(atlas):
    dark = sum((atlas >> shift & 255).astype(np.int16) for shift in (0, 8, 16))
    for axis in (1, 2):
        inner = np.abs(np.diff(dark, axis=axis)).mean((1, 2))
        seam = np.abs(np.take(dark, 0, axis) - np.take(dark, -1, axis)).mean(1)
        assert (seam < 1.5 * inner + 1).all(), [CLASSES[i] for i in np.flatnonzero(seam >= 1.5 * inner + 1)]


def test_a_density_is_never_cut_off_over_much_of_a_texture(atlas):
    for shift in (0, 8, 16):
        assert ((atlas >> shift & 255) == 255).mean((1, 2)).max() < 0.02


# plans


def test_a_plan_holds_what_it_promises():
    for plan in cohort.draw_plans(0, 200, **CONTENT):
        names = [CLASSES[i] for i in plan.labels.ravel()]
        kinds = [KIND[name] for name in names]
        assert len({n for n in names if KIND[n] == "finding"}) == len({n for n in names if KIND[n] == "grade"}) == 1
        assert 2 <= kinds.count("finding") <= 4 and 2 <= kinds.count("grade") <= 4
        assert kinds.count("decoy") == len({n for n in names if KIND[n] == "decoy"}) == 12
        first, second = sorted((names.count(t) for t in TISSUES), reverse=True)[:2]
        assert first - second >= 6


def test_evidence_may_come_in_nests():
    for plan in cohort.draw_plans(0, 50, **CONTENT, nest=2):
        names = np.array([CLASSES[i] for i in plan.labels.ravel()]).reshape(ROWS, COLS)
        for kind, classes in (("finding", FINDINGS), ("grade", GRADES)):
            rows, columns = np.isin(names, classes).nonzero()
            assert len(rows) == 4 and np.ptp(rows) == np.ptp(columns) == 1, kind
            assert len(set(names[rows, columns])) == 1
        assert sum(KIND[name] == "decoy" for name in names.ravel()) == 12
    with pytest.raises(ValueError, match="nest: got 5, expected a side of 1 to 4 tiles"):
        draw_plan(0, 0, **CONTENT, nest=5)


def test_a_plan_depends_on_seed_and_number_alone():
    plans = cohort.draw_plans(0, 200, **CONTENT)
    assert (draw_plan(0, 123, **CONTENT).labels == plans[123].labels).all()
    assert (draw_plan(1, 123, **CONTENT).labels != plans[123].labels).any()
    assert len({plan.labels.tobytes() for plan in plans}) == len(plans)


def test_more_decoys_than_classes_are_refused():
    with pytest.raises(ValueError, match="n_decoys: got 17, expected 0 to 16"):
        draw_plan(0, 0, evidence_tiles=(1, 1), n_decoys=17)


# pixels


def test_same_seed_same_pixels(atlas):
    plan = draw_plan(0, 5, **CONTENT)
    pixels = draw_slide(0, plan, atlas)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8
    assert (draw_slide(0, plan, atlas) == pixels).all()
    assert (draw_slide(1, plan, atlas) != pixels).mean() > 0.5


def test_planting_a_tile_changes_that_tile_and_nothing_far_from_it(atlas):
    plain = Plan(7, np.full((ROWS, COLS), INDEX["stroma"]))
    planted = Plan(7, plain.labels.copy())
    planted.labels[3, 11] = INDEX["lymphoid"]
    changed = (draw_slide(0, plain, atlas) != draw_slide(0, planted, atlas)).any(-1)
    y, x = 3 * TILE_PX0, 11 * TILE_PX0
    assert changed[y + 22 : y + 42, x + 22 : x + 42].mean() > 0.95
    reach = 32
    changed[y - reach : y + TILE_PX0 + reach, x - reach : x + TILE_PX0 + reach] = False
    assert not changed.any()


def test_openslide_reads_the_file(tmp_path, atlas):
    pixels = draw_slide(0, draw_plan(0, 2, **CONTENT), atlas)
    write_pyramid(tmp_path / "a.tif", pixels, mpp=1.0, description="recipe x")
    with OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((1024, 512), (512, 256), (256, 128))
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        whole = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))[..., :3]
        tile = np.asarray(slide.read_region((5 * 64, 2 * 64), 0, (64, 64)))[..., :3]
        small = np.asarray(slide.read_region((0, 0), 2, (256, 128)))[..., :3]
    assert (tile == whole[128:192, 320:384]).all()
    assert np.abs(whole.astype(int) - pixels).mean() < 6
    assert np.abs(small - pixels.reshape(128, 4, 256, 4, 3).mean((1, 3))).mean() < 8
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == pytest.approx(1.0) and slide.mpp_source == "file"
    assert cohort.recipe_in(tmp_path / "a.tif") == "recipe x"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_all_of_a_slide_is_tissue_even_the_palest(tmp_path, atlas):
    for number, name in enumerate(("fat", "oedema", "low", "papillary")):
        plan = Plan(number, np.full((ROWS, COLS), INDEX[name]))
        write_pyramid(tmp_path / "a.tif", draw_slide(0, plan, atlas), mpp=1.0, description="")
        with open_slide(tmp_path / "a.tif") as slide:
            tiling = tile_slide(slide, TileSpec(tile_px=64, mpp=1.0, overlap_px=0, min_tissue=0.05))
        assert len(tiling.coords) == 128, name


def test_slides_do_not_depend_on_workers_and_are_kept(tmp_path, atlas):
    np.save(tmp_path / "atlas.npy", atlas)
    names = [tables.slide_id(i) for i in range(3)]

    def run(folder, workers, seed=0):
        work = partial(
            cohort.write_slide, seed=seed, **CONTENT, atlas_file=tmp_path / "atlas.npy", folder=tmp_path / folder
        )
        for_each_slide(work, names, ledger=Ledger(tmp_path / "l.csv"), workers=workers, max_failed_share=0.0)
        return {n: (tmp_path / folder / f"{n}.tif").read_bytes() for n in names}, work

    (alone, work), (pooled, _) = run("a", 0), run("b", 2)
    assert alone == pooled
    assert work(names[0]).kept
    (tmp_path / "a" / f"{names[0]}.tif").unlink()
    assert not work(names[0]).kept and (tmp_path / "a" / f"{names[0]}.tif").read_bytes() == alone[names[0]]
    other, _ = run("a", 0, seed=1)
    assert all(other[n] != alone[n] for n in names)
    assert cohort.remove_strangers(tmp_path / "a", names[:1]) == 2
    assert [p.stem for p in (tmp_path / "a").iterdir()] == names[:1]
