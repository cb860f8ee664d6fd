"""Stages 10 and 20 on small slides: resume, recipes, stale files, damaged tiles, and a real SIGKILL."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from slide_files import damage_tile, glass, smooth_noise, write_manifest, write_slide

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.slide_loop import SkipSlide, for_each_slide
from slidesieve.features.jobs import FEATURE_CODE, EncoderChoice, encode_one, fair_shares, fit_encoder
from slidesieve.features.store import read_features
from slidesieve.provenance.attributes import read_attrs
from slidesieve.slides.jobs import tile_one
from slidesieve.slides.slide import UnreadableSlide
from slidesieve.slides.tiling import NoTissue, TileSpec, read_tiling

SPEC = TileSpec(64, 1.0, 0, 0.25)
CODE = dict.fromkeys(FEATURE_CODE, "1")
STAND_IN = EncoderChoice("stain-texture", "cpu", 32, "cls")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _cohort(folder: Path, n: int) -> Path:
    rows = [{"slide_id": f"s{i}", "slide_path": f"s{i}.tif", "split": "train" if i < 3 else "test"} for i in range(n)]
    for i in range(n):
        noise = np.random.default_rng(i).integers(-20, 20, (512, 1024, 3))
        pixels = (smooth_noise(512, 1024, i).astype(int) + noise).clip(0, 255).astype(np.uint8)
        write_slide(folder / f"s{i}.tif", pixels, levels=3, compression="jpeg")
    return write_manifest(folder / "manifest.csv", rows)


def _tile(manifest: Path, out_dir: Path, **changes):
    return partial(tile_one, **{"manifest_path": manifest, "spec": SPEC, "out_dir": out_dir, "code": CODE} | changes)


def _both_stages(manifest: Path, out: Path, workers: int):
    """Run stages 10 and 20 as their notebooks do."""
    ids = list(read_manifest(manifest).table["slide_id"])
    loop = {"workers": workers, "max_failed_share": 0.5}
    where = {"manifest_path": manifest, "tiles_dir": out / "tiles", "out_dir": out / "features"}
    for_each_slide(_tile(manifest, out / "tiles"), ids, ledger=Ledger(out / "tiles" / "ledger.csv"), **loop)
    (out / "features").mkdir(exist_ok=True)
    choice = fit_encoder(STAND_IN, n_slides=24, n_tiles=999, code=CODE, **where)
    work = partial(encode_one, choice=choice, code=CODE, **where)
    return for_each_slide(work, ids, ledger=Ledger(out / "features" / "ledger.csv"), **loop)


def test_a_slide_is_kept_until_what_decides_it_changes(tmp_path):
    manifest, out = _cohort(tmp_path, 1), tmp_path / "tiles"
    assert _tile(manifest, out)("s0") == (128, 0, False)
    before = (out / "s0.h5").read_bytes()
    assert _tile(manifest, out)("s0") == (128, 0, True)
    assert _tile(manifest, out, code=CODE | {"slidesieve.features.encoders": "2"})("s0").kept  # none of this stage's
    assert not _tile(manifest, out, code=CODE | {"slidesieve.slides.tiling": "2"})("s0").kept
    assert _tile(manifest, out, spec=TileSpec(32, 1.0, 0, 0.25))("s0") == (512, 0, False)
    assert not _tile(manifest, out)("s0").kept and (out / "s0.h5").read_bytes() == before
    write_slide(tmp_path / "s0.tif", smooth_noise(512, 1024, 9), levels=3, compression="jpeg")
    assert not _tile(manifest, out)("s0").kept


def test_a_slide_that_fails_leaves_no_older_file(tmp_path):
    manifest, out = _cohort(tmp_path, 1), tmp_path / "tiles"
    _tile(manifest, out)("s0")
    write_slide(tmp_path / "s0.tif", glass(512, 1024))
    with pytest.raises(NoTissue):
        _tile(manifest, out)("s0")
    assert not (out / "s0.h5").exists()
    (tmp_path / "s0.tif").unlink()
    with pytest.raises(FileNotFoundError, match="correct slide_path, or set DATA_ROOT"):
        _tile(manifest, out)("s0")


def test_features_stand_beside_their_coordinates(tmp_path):
    """The encoder applied to a tile cut by hand gives the row that carries that tile's coordinates."""
    manifest = _cohort(tmp_path, 3)
    rows = _both_stages(manifest, tmp_path, workers=0)
    assert rows["n_tiles"].tolist() == [128, 128, 128] and (rows["status"] == "ok").all()
    bag = read_features(tmp_path / "features" / "s2.h5")
    tiling = read_tiling(tmp_path / "tiles" / "s2.h5")
    assert np.array_equal(bag.coords, tiling.coords) and bag.x.shape == (128, 96)
    from openslide import OpenSlide

    from slidesieve.features.encoders import StainTexture

    encoder = StainTexture()
    encoder.load_state(next((tmp_path / "features").glob("encoder_state_*.npz")))
    with OpenSlide(tmp_path / "s2.tif") as slide:
        for i in (0, 37, 127):
            tile = np.asarray(slide.read_region(bag.coords[i].tolist(), 0, (64, 64)).convert("RGB"))
            assert bag.x[i] == pytest.approx(encoder.encode(tile[None])[0], abs=5e-3)
    attrs = read_attrs(tmp_path / "features" / "s2.h5")
    assert attrs["encoder"] == "stain-texture" and attrs["encoder_state_sha256"] == encoder.state_hash
    assert attrs["tiles_recipe_hash"] == tiling.attrs["recipe_hash"] and attrs["mpp_level0"] == pytest.approx(1)


def test_the_fit_sees_train_slides_only_and_is_done_once(tmp_path):
    manifest = _cohort(tmp_path, 4)
    _both_stages(manifest, tmp_path, workers=0)
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path / "features"}
    first = fit_encoder(STAND_IN, n_slides=24, n_tiles=999, code=CODE, **where).state
    stamp = first.stat().st_mtime_ns
    (tmp_path / "tiles" / "s3.h5").unlink()  # a test slide changes nothing
    assert fit_encoder(STAND_IN, n_slides=24, n_tiles=999, code=CODE, **where).state == first
    assert first.stat().st_mtime_ns == stamp
    other = fit_encoder(STAND_IN, n_slides=24, n_tiles=300, code=CODE, **where).state
    assert other != first and not first.exists()


def test_what_small_slides_leave_goes_to_larger_ones():
    assert fair_shares([10, 10, 10], 9) == [3, 3, 3]
    assert fair_shares([100, 2, 50], 62) == [30, 2, 30]
    assert fair_shares([5, 3], 100) == [5, 3] and fair_shares([], 7) == []


def test_unreadable_tiles_are_left_out_and_counted(tmp_path):
    """Damage below the thumbnail's level shows only in stage 20: those tiles are gone, none is white."""
    manifest = _cohort(tmp_path, 4)
    damage_tile(tmp_path / "s1.tif", 5)  # x and y from 256 to 511
    rows = _both_stages(manifest, tmp_path, workers=0).set_index("slide_id")
    assert rows["n_tiles"].tolist() == [128, 112, 128, 128] and rows["n_dropped"].tolist() == [0, 16, 0, 0]
    bag = read_features(tmp_path / "features" / "s1.h5")
    assert len(bag.x) == 112 and not ((bag.coords >= 256) & (bag.coords < 512)).all(1).any()
    for number in range(8):
        damage_tile(tmp_path / "s3.tif", number)
    with pytest.raises(UnreadableSlide, match="not one of its 128 tiles"):
        _encode_again(manifest, tmp_path, "s3")
    assert not (tmp_path / "features" / "s3.h5").exists()


def _encode_again(manifest: Path, out: Path, slide_id: str):
    _tile(manifest, out / "tiles")(slide_id)
    where = {"manifest_path": manifest, "tiles_dir": out / "tiles", "out_dir": out / "features"}
    choice = fit_encoder(STAND_IN, n_slides=24, n_tiles=300, code=CODE, **where)
    return encode_one(slide_id, choice=choice, code=CODE, **where)


def test_slides_without_tiles_or_without_a_file_are_skipped(tmp_path):
    manifest = write_manifest(tmp_path / "m.csv", [{"slide_id": "a", "slide_path": "", "feature_path": "a.h5"}])
    with pytest.raises(SkipSlide, match="its features are given"):
        _tile(manifest, tmp_path)("a")
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path}
    with pytest.raises(SkipSlide, match="no tiles in tiles; its ledger says why"):
        encode_one("a", choice=STAND_IN, code=CODE, **where)


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_jobs import _both_stages
if __name__ == "__main__":
    _both_stages(Path({folder!r}) / "manifest.csv", Path({folder!r}) / "killed", workers=2)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_with_the_same_files(tmp_path):
    """SIGKILL in stage 20, then a rerun: the same bytes as a run without interruption, and nothing done twice."""
    manifest = _cohort(tmp_path, 30)
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=[str(p) for p in Path(__file__).parents[:2]], folder=str(tmp_path)))
    _both_stages(manifest, tmp_path / "whole", workers=0)
    run = subprocess.Popen([sys.executable, str(script)])
    features = tmp_path / "killed" / "features"
    deadline = time.monotonic() + 200
    while len(list(features.glob("s*.h5"))) < 3:
        assert run.poll() is None and time.monotonic() < deadline, "ended before it could be killed"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(1.0)  # its workers end with it
    done = {path: path.stat().st_mtime_ns for path in features.glob("s*.h5")}
    assert 3 <= len(done) < 30
    rows = _both_stages(manifest, tmp_path / "killed", workers=0)
    assert rows["slide_id"].tolist() == [f"s{i}" for i in range(30)] and (rows["status"] == "ok").all()
    assert {path: path.stat().st_mtime_ns for path in done} == done
    for stage in ("tiles", "features"):
        whole, killed = tmp_path / "whole" / stage, tmp_path / "killed" / stage
        names = sorted(p.name for p in whole.iterdir())
        assert [p for p in sorted(p.name for p in killed.iterdir()) if not p.endswith(".partial")] == names
        for name in names:
            if name != "ledger.csv":
                assert (whole / name).read_bytes() == (killed / name).read_bytes()
