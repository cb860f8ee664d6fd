"""Stages 10 and 20 on small slides: resume, recipes, stale files, damaged tiles, and a real SIGKILL."""

import hashlib
import os
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
from slidesieve.cohort.shares import share_of
from slidesieve.cohort.slide_loop import UNCHECKED, Counts, SkipSlide, SlidesLost, for_each_slide
from slidesieve.features.jobs import FEATURE_CODE, EncoderChoice, StaleTiles, encode_one, fair_shares, fit_encoder
from slidesieve.features.store import read_features
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.slides.jobs import TilesLost, WrongSlide, tile_one
from slidesieve.slides.slide import Slide, UnreadableSlide
from slidesieve.slides.tiling import NoTissue, TileSpec, read_tiling

SPEC = TileSpec(64, 1.0, 0, 0.25)
CODE = dict.fromkeys(FEATURE_CODE, "1")
LOSS = {"max_lost_share": 0.5}
FULL = "look at the slide: all tissue"
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
    return partial(
        tile_one, **{"manifest_path": manifest, "spec": SPEC, "out_dir": out_dir, "code": CODE} | LOSS | changes
    )


def _both_stages(manifest: Path, out: Path, workers: int):
    """Run stages 10 and 20 as their notebooks do."""
    ids = list(read_manifest(manifest).table["slide_id"])
    loop = {"workers": workers, "max_failed_share": 0.5}
    where = {"manifest_path": manifest, "tiles_dir": out / "tiles", "out_dir": out / "features"}
    for_each_slide(_tile(manifest, out / "tiles"), ids, ledger=Ledger(out / "tiles" / "ledger.csv"), **loop)
    (out / "features").mkdir(exist_ok=True)
    choice = fit_encoder(STAND_IN, n_slides=24, n_tiles=999, code=CODE, **where)
    work = partial(encode_one, choice=choice, code=CODE, **LOSS, **where)
    return for_each_slide(work, ids, ledger=Ledger(out / "features" / "ledger.csv"), **loop)


def test_a_slide_is_kept_until_what_decides_it_changes(tmp_path):
    manifest, out = _cohort(tmp_path, 1), tmp_path / "tiles"
    assert _tile(manifest, out)("s0") == Counts(128, 0, False, FULL)
    before = (out / "s0.h5").read_bytes()
    assert _tile(manifest, out)("s0") == Counts(128, 0, True, FULL)
    assert _tile(manifest, out, code=CODE | {"slidesieve.features.encoders": "2"})("s0").kept  # none of this stage's
    assert not _tile(manifest, out, code=CODE | {"slidesieve.slides.tiling": "2"})("s0").kept
    assert _tile(manifest, out, spec=TileSpec(32, 1.0, 0, 0.25))("s0") == Counts(512, 0, False, FULL)
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


def test_shares_encode_as_one_would_and_are_joined_without_work(tmp_path):
    manifest, alone = _cohort(tmp_path, 4), tmp_path / "alone"
    _both_stages(manifest, alone, workers=0)
    ids, where = [f"s{i}" for i in range(4)], {"manifest_path": manifest, "tiles_dir": alone / "tiles"}

    def encode(out_dir: Path, slides: list[str], others: list[Path]) -> list[Counts]:
        out_dir.mkdir()
        own = where | {"out_dir": out_dir, "others": others, "code": CODE}
        choice = fit_encoder(STAND_IN, n_slides=24, n_tiles=999, **own)
        return [encode_one(slide, choice=choice, **LOSS, **own) for slide in slides]

    (tmp_path / "tiled").mkdir()
    (tmp_path / "s0.tif").rename(tmp_path / "away")  # archived since its share was tiled
    done = _tile(manifest, tmp_path / "tiled", others=[tmp_path / "none", alone / "tiles"])("s0")
    assert done.kept and done.note == UNCHECKED and (tmp_path / "tiled" / "s0.h5").exists()
    (tmp_path / "away").rename(tmp_path / "s0.tif")
    joined, shares = tmp_path / "joined", [tmp_path / f"joined_{i}of2" for i in (1, 2)]
    for i, share in enumerate(shares):
        assert not any(done.kept for done in encode(share, share_of(ids, f"{i + 1}of2"), [joined]))
    assert all(done.kept for done in encode(joined, ids, shares))
    for slide in ids:
        one, other = (read_features(folder / f"{slide}.h5") for folder in (alone / "features", joined))
        assert np.array_equal(one.x, other.x) and np.array_equal(one.coords, other.coords)
    assert len(list(joined.glob("encoder_state_*.npz"))) == 1
    assert all(done.kept for done in encode(tmp_path / "joined_1of3", ids[:2], [joined]))  # shares of another number


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
    return encode_one(slide_id, choice=choice, code=CODE, **LOSS, **where)


def test_slides_without_tiles_or_without_a_file_are_skipped(tmp_path):
    manifest = write_manifest(tmp_path / "m.csv", [{"slide_id": "a", "slide_path": "", "feature_path": "a.h5"}])
    with pytest.raises(SkipSlide, match="its features are given"):
        _tile(manifest, tmp_path)("a")
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path}
    with pytest.raises(SkipSlide, match="no tiles in tiles; its ledger says why"):
        encode_one("a", choice=STAND_IN, code=CODE, **LOSS, **where)


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The slides' files of both stages: when they were written, and what they hold."""
    files = sorted(folder.glob("tiles/*.h5")) + sorted(folder.glob("features/*.h5"))
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in files}


def _rows(folder: Path):
    return [Ledger(folder / stage / "ledger.csv").rows().set_index("slide_id") for stage in ("tiles", "features")]


def test_archived_slides_keep_what_was_made_of_them(tmp_path):
    """Some slides are moved away, then all, a label joins the manifest: every file stays as it is, and is said to."""
    manifest = _cohort(tmp_path, 4)
    _both_stages(manifest, tmp_path, workers=0)
    before = _state(tmp_path)
    assert len(before) == 8
    for gone in ({"s2"}, {"s0", "s1", "s2", "s3"}):
        for slide in gone:
            (tmp_path / f"{slide}.tif").unlink(missing_ok=True)
        text = manifest.read_text().splitlines()
        manifest.write_text("\n".join([text[0] + f",label_{len(gone)}", *(line + ",x" for line in text[1:])]) + "\n")
        _both_stages(manifest, tmp_path, workers=0)
        assert _state(tmp_path) == before
        for rows in _rows(tmp_path):
            assert (rows["status"] == "ok").all() and rows["n_tiles"].tolist() == [128] * 4
            assert set(rows.index[rows["message"] == "its slide is not there to be checked"]) == gone


def test_an_archived_slide_that_would_have_to_be_tiled_anew_ends_both_stages_and_loses_nothing(tmp_path):
    manifest, ids = _cohort(tmp_path, 3), ["s0", "s1", "s2"]
    _both_stages(manifest, tmp_path, workers=0)
    before = _state(tmp_path)
    (tmp_path / "s1.tif").rename(tmp_path / "archive")
    loop = {"workers": 0, "max_failed_share": 1.0}
    tiles, features = Ledger(tmp_path / "tiles" / "ledger.csv"), Ledger(tmp_path / "features" / "ledger.csv")
    other = {"spec": TileSpec(32, 1.0, 0, 0.25)}
    with pytest.raises(SlidesLost, match=r"1 of 3 slides .* s1; bring them back"):
        for_each_slide(_tile(manifest, tmp_path / "tiles", **other), ids, ledger=tiles, **loop)
    assert (tmp_path / "tiles" / "s1.h5.stale").read_bytes() == before["tiles/s1.h5"][1]
    assert not (tmp_path / "tiles" / "s1.h5").exists()
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path / "features"}
    state = next((tmp_path / "features").glob("*.npz"))
    work = partial(encode_one, choice=STAND_IN._replace(state=state), code=CODE, **LOSS, **where)
    with pytest.raises(SlidesLost, match=r"1 of 3 slides .* s1;(.|\n)*no tiles in tiles, which lost the slide"):
        for_each_slide(work, ids, ledger=features, **loop)
    assert (tmp_path / "features" / "s1.h5.stale").read_bytes() == before["features/s1.h5"][1]
    _both_stages(manifest, tmp_path, workers=0)  # as before: what was set aside is taken back, without the slide
    assert _state(tmp_path)["features/s1.h5"] == before["features/s1.h5"]
    assert {name: held for name, (_, held) in _state(tmp_path).items()} == {n: held for n, (_, held) in before.items()}
    assert not list(tmp_path.glob("*/*.stale*"))


def test_a_slide_that_was_ok_and_can_no_longer_be_opened_is_lost_and_one_without_tissue_is_not(tmp_path):
    manifest, ids = _cohort(tmp_path, 3), ["s0", "s1", "s2"]
    work, ledger = _tile(manifest, tmp_path / "tiles"), Ledger(tmp_path / "tiles" / "ledger.csv")
    loop = {"ledger": ledger, "workers": 0, "max_failed_share": 1.0}
    for_each_slide(work, ids, **loop)
    write_slide(tmp_path / "s2.tif", glass(512, 1024))
    assert for_each_slide(work, ids, **loop)["error"].tolist() == ["", "", "NoTissue"]
    (tmp_path / "s1.tif").write_bytes(b"what a failing disk gives")
    with pytest.raises(SlidesLost, match=r"1 of 3 slides .* s1;(.|\n)*now UnreadableSlide: s1\.tif: OpenSlide cannot"):
        for_each_slide(work, ids, **loop)


def test_an_encoder_is_not_fitted_on_part_of_its_slides_and_an_older_fit_is_taken_back(tmp_path):
    manifest = _cohort(tmp_path, 3)
    _both_stages(manifest, tmp_path, workers=0)
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path / "features"}
    first = next((tmp_path / "features").glob("*.npz"))
    whole = first.read_bytes()
    other = fit_encoder(STAND_IN, n_slides=24, n_tiles=300, code=CODE, **where).state
    assert not first.exists() and other.exists()
    (tmp_path / "s1.tif").rename(tmp_path / "archive")
    with pytest.raises(FileNotFoundError, match="1 of the 3 slides that it is fitted on are not there: s1; bring them"):
        fit_encoder(STAND_IN, n_slides=24, n_tiles=200, code=CODE, **where)
    assert fit_encoder(STAND_IN, n_slides=24, n_tiles=999, code=CODE, **where).state == first
    assert first.read_bytes() == whole and not other.exists()
    write_slide(tmp_path / "s1.tif", smooth_noise(512, 1024, 9), levels=3)
    with pytest.raises(StaleTiles, match=r"s1\.tif: changed since its tiles were placed"):
        fit_encoder(STAND_IN, n_slides=24, n_tiles=200, code=CODE, **where)


@pytest.mark.parametrize("missing", ["the end", "a part that no sample sees"])
def test_a_half_downloaded_slide_is_done_anew_when_it_is_whole(tmp_path, missing):
    """The room was taken at once, as downloaders do: the size is right, and zeros stand where nothing has come yet."""
    manifest, out = write_manifest(tmp_path / "m.csv", [{"slide_id": "s0", "slide_path": "s0.tif"}]), tmp_path / "tiles"
    path = write_slide(tmp_path / "s0.tif", smooth_noise(1024, 2048))
    whole = path.read_bytes()
    hole = slice(len(whole) * 6 // 10, None) if missing == "the end" else slice(70_000, 400_000)
    part = bytearray(whole)
    part[hole] = bytes(len(part[hole]))
    path.write_bytes(part)
    os.utime(path, ns=(1, 1))
    first = _tile(manifest, out)("s0")
    assert 100 < first.n_tiles < 512 and _tile(manifest, out)("s0").kept
    path.write_bytes(whole)
    assert _tile(manifest, out)("s0") == Counts(512, 0, False, FULL)


def test_a_slide_is_the_one_whose_sum_the_manifest_states(tmp_path):
    path, out = write_slide(tmp_path / "s0.tif", smooth_noise(512, 1024)), tmp_path / "tiles"
    whole = path.read_bytes()
    rows = [{"slide_id": "s0", "slide_path": "s0.tif"}]
    tile = _tile(write_manifest(tmp_path / "m.csv", rows), out)
    assert not tile("s0").kept
    rows[0]["sha256"] = hashlib.sha256(whole).hexdigest()
    stated = _tile(write_manifest(tmp_path / "sum.csv", rows), out)
    assert stated("s0").kept  # to state the sum of the same file costs nothing
    stated = partial(stated, code=CODE | {"slidesieve.slides.tiling": "2"})
    assert stated("s0") == Counts(128, 0, False, FULL)
    assert read_attrs(out / "s0.h5")["slide_identity"] == "sha256:" + rows[0]["sha256"]
    os.utime(path, ns=(1, 1))
    assert stated("s0").kept  # touched, and equal
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    with pytest.raises(
        WrongSlide, match=rf"s0\.tif: the manifest says sha256 {rows[0]['sha256'][:12]}.*{found}.*fetch"
    ):
        stated("s0")
    assert not (out / "s0.h5").exists()
    path.unlink()
    assert stated("s0").note  # archived: ours is of the slide that is stated
    rows[0]["sha256"] = "0" * 64
    with pytest.raises(FileNotFoundError, match="no such slide file"):
        partial(stated, manifest_path=write_manifest(tmp_path / "other.csv", rows))("s0")


def test_a_slide_that_lost_too_many_tiles_is_not_ok_in_either_stage(tmp_path):
    """Two of eight stored tiles are damaged: seen by stage 10 where it has no other level, else by stage 20."""
    manifest = _cohort(tmp_path, 4)
    (tmp_path / "tiles").mkdir()
    flat = write_slide(tmp_path / "s1.tif", smooth_noise(512, 1024), compression="jpeg")
    for number in (1, 5):
        damage_tile(flat, number)
        damage_tile(tmp_path / "s0.tif", number)
    tile = _tile(manifest, tmp_path / "tiles", max_lost_share=0.25)
    assert tile("s0") == Counts(128, 0, False, FULL) and tile("s1") == Counts(96, 32, False, FULL)
    assert tile("s2") == tile("s3") == Counts(128, 0, False, FULL)
    with pytest.raises(
        TilesLost, match=r"s1\.tif: 25% of its tiles cannot be read, at most 24% may be \(max_lost_share\)"
    ):
        _tile(manifest, tmp_path / "tiles", max_lost_share=0.24)("s1")
    assert not (tmp_path / "tiles" / "s1.h5").exists() and tile("s1").kept  # the file itself stands
    where = {"manifest_path": manifest, "tiles_dir": tmp_path / "tiles", "out_dir": tmp_path / "features"}
    (tmp_path / "features").mkdir()
    choice = fit_encoder(STAND_IN, n_slides=24, n_tiles=300, code=CODE, **where)
    encode = partial(encode_one, choice=choice, code=CODE, **where)
    with pytest.raises(TilesLost, match=r"s0\.tif: 25% of its tiles cannot be read"):
        encode("s0", max_lost_share=0.24)
    assert not list((tmp_path / "features").glob("s0*"))
    counts = encode("s0", max_lost_share=0.25)
    assert counts._replace(waited_s=0.0) == Counts(96, 32, False, "read by its stored tiles")
    with pytest.raises(TilesLost):
        encode("s0", max_lost_share=0.24)
    assert not (tmp_path / "features" / "s0.h5").exists() and encode("s0", max_lost_share=0.25).kept


def test_what_was_never_scanned_is_not_lost(tmp_path, monkeypatch):
    """A scanner that leaves glass out gives pixels without opacity there."""
    manifest = _cohort(tmp_path, 1)
    read = Slide.read_rgba

    def half_scanned(self, level, xy, size):
        image = read(self, level, xy, size)
        image.paste((0, 0, 0, 0), (0, 0, image.width // 2, image.height))
        return image

    monkeypatch.setattr(Slide, "read_rgba", half_scanned)
    counts = _tile(manifest, tmp_path / "tiles", max_lost_share=0.0)("s0")
    assert counts == Counts(64, 64, False, FULL) and read_attrs(tmp_path / "tiles" / "s0.h5")["lost_share"] == 0


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
    manifest = _cohort(tmp_path, 17)
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
    assert 3 <= len(done) < 17
    rows = _both_stages(manifest, tmp_path / "killed", workers=0)
    assert rows["slide_id"].tolist() == [f"s{i}" for i in range(17)] and (rows["status"] == "ok").all()
    assert {path: path.stat().st_mtime_ns for path in done} == done
    for stage in ("tiles", "features"):
        whole, killed = tmp_path / "whole" / stage, tmp_path / "killed" / stage
        names = sorted(p.name for p in whole.iterdir())
        assert [p for p in sorted(p.name for p in killed.iterdir()) if not p.endswith(".partial")] == names
        for name in names:
            if name != "ledger.csv":
                assert (whole / name).read_bytes() == (killed / name).read_bytes()
