"""Real slides and broken ones, through both stages: tiles where tissue is, a named fault where there are none."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from shared_data import SHARED
from slide_files import write_manifest

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.slide_loop import for_each_slide
from slidesieve.features.jobs import FEATURE_CODE, EncoderChoice, encode_one, fit_encoder
from slidesieve.features.store import read_features
from slidesieve.slides.jobs import tile_one
from slidesieve.slides.pixels import iter_tiles, thumbnail
from slidesieve.slides.slide import MissingMpp, open_slide
from slidesieve.slides.tiling import TileSpec, read_tiling, tile_slide
from slidesieve.slides.tissue import find_tissue

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data"),
]
CODE = dict.fromkeys(FEATURE_CODE, "1")
LOSS = {"max_lost_share": 0.1}
GOOD = {
    "cmu": "CMU-1-Small-Region.svs",
    "cptac": "CPTAC-C3L-00601-26_5x.tiff",
    "j2k": "camelyon_lymphnode_lowres_j2k.dcm",
    "jpeg": "camelyon_lymphnode_lowres_jpeg.dcm",
}
BAD = {
    "dapi": (
        "hamamatsu_fluorescence_DAPI.ndpi",
        "NotBrightfield",
        "all three channels: fluorescence, not H&E",
    ),
    "boxes": ("edge/boxes.tiff", "AbsurdMpp", "mpp 352.778"),
    "boxes_0": ("edge/boxes_0.dcm", "SlideTooSmall", "16 x 16 px"),
    "broken": ("edge/broken.svs", "UnreadableSlide", "Unsupported or missing image file"),
    "small": ("edge/small.svs", "SlideTooSmall", "16 x 16 px"),
    "imagetype": ("edge/tcga_prad_no_imagetype.dcm", "UnreadableSlide", "Couldn't get image flavor"),
    "unreadable": ("edge/unreadable.svs", "UnreadableSlide", "no pixel of level 0 can be read"),
}


def _run(folder: Path, spec: TileSpec):
    paths = GOOD | {name: path for name, (path, *_) in BAD.items()}
    rows = [{"slide_id": i, "slide_path": str(SHARED / "slides" / p), "mpp": ""} for i, p in paths.items()]
    rows[1]["mpp"] = "2.0"
    manifest = write_manifest(folder / "m.csv", rows)
    loop = {"workers": 0, "max_failed_share": 0.9}
    work = partial(tile_one, manifest_path=manifest, spec=spec, out_dir=folder / "tiles", **LOSS, code=CODE)
    tiled = for_each_slide(work, paths, ledger=Ledger(folder / "tiles" / "ledger.csv"), **loop)
    where = {"manifest_path": manifest, "tiles_dir": folder / "tiles", "out_dir": folder / "features"}
    (folder / "features").mkdir()
    choice = fit_encoder(EncoderChoice("stain-texture", "cpu", 32, "cls"), n_slides=9, n_tiles=400, code=CODE, **where)
    work = partial(encode_one, choice=choice, code=CODE, **LOSS, **where)
    encoded = for_each_slide(work, paths, ledger=Ledger(folder / "features" / "ledger.csv"), **loop)
    return tiled.set_index("slide_id"), encoded.set_index("slide_id")


def test_at_2_um_the_thumbnails_are_too_coarse_and_every_fault_has_its_name(tmp_path):
    tiled, encoded = _run(tmp_path, TileSpec(128, 2.0, 0, 0.25))
    assert tiled.loc[["cmu", "cptac"], "n_tiles"].tolist() == [14, 583]  # all that the eye sees on the overlay
    assert encoded.loc[["cmu", "cptac"], "n_tiles"].tolist() == [14, 583]
    for name, (_, error, words) in BAD.items():
        assert tiled.loc[name, ["status", "error"]].tolist() == ["failed", error]
        assert words in tiled.loc[name, "message"]
    for name in ("j2k", "jpeg"):
        assert tiled.loc[name, "error"] == "SlideTooCoarse" and "set mpp to 28.97" in tiled.loc[name, "message"]
    assert (encoded.loc[[*BAD, "j2k", "jpeg"], "status"] == "skipped").all()
    assert sorted(p.stem for p in (tmp_path / "features").glob("c*.h5")) == ["cmu", "cptac"]
    bag, tiling = read_features(tmp_path / "features" / "cptac.h5"), read_tiling(tmp_path / "tiles" / "cptac.h5")
    assert bag.attrs["mpp_source"] == "manifest" and np.array_equal(bag.coords, tiling.coords)


def test_at_their_own_scale_the_thumbnails_have_tiles(tmp_path):
    tiled, encoded = _run(tmp_path, TileSpec(48, 29.0, 0, 0.25))
    good = tiled.loc[["cptac", "j2k", "jpeg"]]
    assert good["n_tiles"].tolist() == encoded.loc[["cptac", "j2k", "jpeg"], "n_tiles"].tolist()
    assert (good["status"] == "ok").all() and (good["n_tiles"] > 15).all()
    assert tiled.loc["cmu", "error"] == "SlideTooSmall"


def test_a_missing_mpp_is_asked_for():
    with pytest.raises(MissingMpp, match=r"CPTAC-C3L-00601-26_5x\.tiff: no mpp in the file; set the true mpp"):
        open_slide(SHARED / "slides" / GOOD["cptac"])


@pytest.mark.parametrize(
    ("name", "mpp", "low", "high"),
    [("cmu", math.nan, 0.35, 0.5), ("cptac", 2.0, 0.3, 0.4), ("j2k", 28.97, 0.38, 0.46), ("jpeg", 28.97, 0.36, 0.44)],
)
def test_the_share_of_tissue_is_what_the_eye_sees(name, mpp, low, high):
    with open_slide(SHARED / "slides" / GOOD[name], mpp) as slide:
        assert low < find_tissue(thumbnail(slide, max(slide.size_px0) / 800).rgb).mask.mean() < high


def test_tiles_of_tissue_are_not_white_and_glass_is_not_tiled():
    with open_slide(SHARED / "slides" / GOOD["cptac"], 2.0) as slide:
        placed = tile_slide(slide, TileSpec(128, 2.0, 0, 0.25))
        means = [
            m for t in iter_tiles(slide, placed.coords, tile_px=128, view=placed.view) for m in t.pixels.mean((1, 2, 3))
        ]
    assert len(means) == len(placed.coords) and max(means) < 235
    assert placed.coords.min(0).tolist() == [1024, 768]  # where the section begins
