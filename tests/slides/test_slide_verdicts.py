"""What stage 10 will say is said beforehand, in the same words."""

from functools import partial

import numpy as np
import pytest
from shared_data import SHARED
from slide_files import glass, smooth_noise, write_manifest, write_slide

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.slide_loop import for_each_slide
from slidesieve.slides.jobs import TILE_CODE, tile_one
from slidesieve.slides.tiling import TileSpec
from slidesieve.slides.verdicts import verdicts

SPEC = TileSpec(64, 1.0, 0, 0.25)


def foretold(path, spec, most=99):
    told = verdicts(read_manifest(path), spec, most=most).set_index("slide_id")
    return told["fault"].to_dict(), told["note"].to_dict()


def said(path, slide_ids, spec, folder):
    how = {
        "manifest_path": path,
        "spec": spec,
        "max_lost_share": 0.5,
        "out_dir": folder,
        "code": dict.fromkeys(TILE_CODE, "1"),
    }
    ledger = Ledger(folder / "ledger.csv")
    rows = for_each_slide(partial(tile_one, **how), slide_ids, ledger=ledger, workers=0, max_failed_share=1.0)
    failed = rows["status"] == "failed"
    faults = (rows["error"] + ": " + rows["message"]).where(failed, "")
    return dict(zip(rows["slide_id"], faults, strict=True))


def test_every_verdict_of_stage_10_is_foretold(tmp_path):
    pictures = {
        "fine": (smooth_noise(256, 320), 1.0),
        "glass": (glass(256, 320), 1.0),
        "small": (smooth_noise(32, 32), 1.0),
        "coarse": (smooth_noise(256, 320), 4.0),
        "night": (np.zeros((256, 320, 3), np.uint8), 1.0),
        "bare": (smooth_noise(256, 320), None),
    }
    rows = [{"slide_id": name, "slide_path": f"{name}.tif"} for name in pictures]
    rows += [{"slide_id": "none", "slide_path": "none.tif"}, {"slide_id": "no slide", "slide_path": "no.tif"}]
    for name, (pixels, mpp) in pictures.items():
        write_slide(tmp_path / f"{name}.tif", pixels, mpp=mpp)
    (tmp_path / "no.tif").write_bytes(b"no slide" * 99)
    rows[0]["mpp"] = "0.99"
    rows.append({"slide_id": "other", "slide_path": "fine.tif", "mpp": "0.5"})
    path = write_manifest(tmp_path / "m.csv", rows)
    faults, notes = foretold(path, SPEC)
    assert faults == said(path, list(faults), SPEC, tmp_path / "tiles")
    assert {name for name, fault in faults.items() if fault} == {*pictures, "none", "no slide"} - {"fine"}
    assert {name for name, note in notes.items() if note} == {"fine", "other"}
    assert notes["fine"] == "look at the slide: all tissue"
    few, _ = foretold(path, SPEC, most=0)  # by the headers alone
    assert {name for name, fault in few.items() if fault} == {"coarse", "bare", "none", "no slide"}


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")
def test_of_real_slides_too(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    files = sorted(p for p in (SHARED / "slides").rglob("*") if p.is_file() and p.suffix != ".md")
    rows = [{"slide_id": p.name.replace(".", "_"), "slide_path": str(p)} for p in files]
    path = write_manifest(tmp_path / "m.csv", rows)
    faults, _ = foretold(path, SPEC)
    assert faults == said(path, list(faults), SPEC, tmp_path / "tiles")
    assert sum(map(bool, faults.values())) == len(files) - 1 == 10  # CMU-1 alone is as fine as 1 um
