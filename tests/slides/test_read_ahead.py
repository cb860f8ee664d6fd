"""Tiles read ahead: the same as read one after the other, in the same order, a bounded number, and no thread left."""

import threading
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from slide_files import damage_tile, smooth_noise, write_manifest, write_slide

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.slide_loop import for_each_slide
from slidesieve.features import jobs as encode_jobs
from slidesieve.features.store import read_features
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.slides import read_ahead
from slidesieve.slides.jobs import tile_one
from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.read_ahead import batches_ahead, done_ahead
from slidesieve.slides.slide import UnreadableSlide, open_slide
from slidesieve.slides.tiling import TileSpec, Tiling, tile_slide

CODE = dict.fromkeys(encode_jobs.FEATURE_CODE, "1")


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    yield
    assert _threads() == []


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def _slide(folder: Path) -> Path:
    return write_slide(folder / "s.tif", smooth_noise(1024, 1280), compression="jpeg")


def _tiling(path: Path, spec: TileSpec) -> Tiling:
    with open_slide(path) as slide:
        return tile_slide(slide, spec)


def _one_after_the_other(path: Path, tiling: Tiling, tile_px: int) -> list[tuple[int, bytes]]:
    with open_slide(path) as slide:
        parts = list(iter_tiles(slide, tiling.coords, tile_px=tile_px, view=tiling.view))
    return [(i, tile.tobytes()) for part in parts for i, tile in zip(part.index.tolist(), part.pixels, strict=True)]


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("damaged", [(), (2, 3, 7)])  # the first two are a batch of which nothing is left
@pytest.mark.parametrize(("spec", "size"), [((64, 1.0), 7), ((256, 1.0), 2), ((100, 1.3), 7)])
def test_the_tiles_are_those_read_one_after_the_other_in_that_order(tmp_path, spec, size, damaged, readers):
    path = _slide(tmp_path)
    tiling = _tiling(path, TileSpec(*spec, 0, 0.0))
    for number in damaged:
        damage_tile(path, number)
    with batches_ahead(path, tiling, batch_tiles=size, readers=readers, make=np.copy) as (reader, batches):
        found = [(b.index, b.made) for b in batches]
    assert reader == "its stored tiles"
    tiles = [(i, tile.tobytes()) for index, made in found for i, tile in zip(index.tolist(), made, strict=True)]
    assert tiles == _one_after_the_other(path, tiling, spec[0]) and (len(tiles) < len(tiling.coords)) == bool(damaged)
    if not damaged:
        assert {len(index) for index, _ in found[:-1]} == {size} and len(found[-1][0]) == (len(tiles) - 1) % size + 1


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_is_done = threading.Event()

    def work(i: int) -> int:
        assert i != 0 or second_is_done.wait(60)
        if i == 1:
            second_is_done.set()
        return i * i

    with done_ahead(work, range(9), threads=2, ahead=2) as results:
        assert list(results) == [i * i for i in range(9)]


def test_no_more_is_begun_than_was_asked_for():
    begun = count()
    drawn = []

    def items():
        for i in begun:
            drawn.append(i)
            yield i

    with done_ahead(lambda i: i, items(), threads=3, ahead=5) as results:
        for taken in range(1, 20):
            assert next(results) == taken - 1 and len(drawn) == 5 + taken


def test_an_exception_comes_as_itself_in_the_place_of_its_result():
    fault = UnreadableSlide("gone")

    def work(i: int) -> int:
        if i == 3:
            raise fault
        return i

    with done_ahead(work, range(9), threads=2, ahead=6) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(UnreadableSlide) as raised:
            next(results)
    assert raised.value is fault


@pytest.mark.parametrize("ending", [KeyboardInterrupt, UnreadableSlide, None])
def test_threads_and_handles_end_with_the_block(tmp_path, monkeypatch, ending):
    path, opened, closed = _slide(tmp_path), [], []
    tiling = _tiling(path, TileSpec(64, 1.0, 0, 0.0))
    monkeypatch.setattr(read_ahead, "open_slide", lambda *given: opened.append(open_slide(*given)) or opened[-1])
    close = read_ahead.Slide.__exit__
    monkeypatch.setattr(read_ahead.Slide, "__exit__", lambda slide, *why: closed.append(slide) or close(slide, *why))
    try:
        with batches_ahead(path, tiling, batch_tiles=3, readers=2, make=len) as (_, batches):
            assert next(batches).made == 3
            if ending:
                raise ending
            assert sum(batch.made for batch in batches) == len(tiling.coords) - 3
    except (KeyboardInterrupt, UnreadableSlide) as end:
        assert type(end) is ending
    assert _threads() == [] and 1 <= len(opened) <= 2 and sorted(map(id, closed)) == sorted(map(id, opened))


def test_a_slide_that_is_gone_is_told_by_its_own_error(tmp_path):
    path = _slide(tmp_path)
    tiling = _tiling(path, TileSpec(64, 1.0, 0, 0.0))
    path.write_bytes(b"what a failing disk gives")
    read = {"batch_tiles": 3, "readers": 2, "make": len}
    with pytest.raises(UnreadableSlide, match=r"s\.tif: OpenSlide cannot open it"), batches_ahead(path, tiling, **read):
        pass


class Corners:
    """An encoder that takes the first values of a tile, and counts how often it is asked for its hash."""

    name, d, tile_px, needs_fit = "corners", 33, None, False

    def __init__(self):
        self.n_hashed, self.sizes, self.fails = 0, [], False

    @property
    def state_hash(self) -> str:
        self.n_hashed += 1
        return "none"

    def prepare(self, tiles: np.ndarray) -> np.ndarray:
        return tiles.reshape(len(tiles), -1)[:, : self.d] / np.float32(7)

    def encode_prepared(self, prepared: np.ndarray) -> np.ndarray:
        if self.fails:
            raise RuntimeError("out of memory on the device")
        self.sizes.append(len(prepared))
        return prepared

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        return self.encode_prepared(self.prepare(tiles))


@pytest.fixture
def stage_20(tmp_path, monkeypatch):
    """Stage 20 with that encoder, on a slide of 320 tiles of which 32 cannot be read."""
    encoder, path = Corners(), write_slide(tmp_path / "s.tif", smooth_noise(1024, 1280), levels=3, compression="jpeg")
    damage_tile(path, 1)
    damage_tile(path, 7)
    monkeypatch.setattr(encode_jobs, "load_encoder", lambda *_, **__: encoder)
    encode_jobs._cached_encoder.cache_clear()
    manifest = write_manifest(tmp_path / "m.csv", [{"slide_id": "s", "slide_path": "s.tif"}])
    here = {"manifest_path": manifest, "max_lost_share": 0.5, "code": CODE}
    tile_one("s", spec=TileSpec(64, 1.0, 0, 0.0), out_dir=tmp_path / "tiles", **here)
    choice = encode_jobs.EncoderChoice("corners", "cpu", 33, "cls")

    def encode(out: str, **changes):
        here_too = {"tiles_dir": tmp_path / "tiles", "out_dir": tmp_path / out, "choice": choice}
        return encode_jobs.encode_one("s", **here, **here_too, **changes)

    yield encoder, encode
    encode_jobs._cached_encoder.cache_clear()


def test_features_of_a_damaged_slide_are_those_of_its_tiles_read_one_after_the_other(tmp_path, stage_20):
    encoder, encode = stage_20
    tiling = _tiling(tmp_path / "s.tif", TileSpec(64, 1.0, 0, 0.0))
    tiles = sorted(_one_after_the_other(tmp_path / "s.tif", tiling, 64))
    pixels = np.stack([np.frombuffer(tile, np.uint8).reshape(64, 64, 3) for _, tile in tiles])
    for out, readers in (("one", 1), ("three", 3)):
        counts = encode(out, readers=readers)
        assert (counts.n_tiles, counts.n_dropped) == (288, 32)
        bag = read_features(tmp_path / out / "s.h5")
        assert np.array_equal(bag.x, encoder.prepare(pixels).astype(np.float16).astype(np.float32))
        assert np.array_equal(bag.coords, tiling.coords[[i for i, _ in tiles]])
    assert (tmp_path / "one" / "s.h5").read_bytes() == (tmp_path / "three" / "s.h5").read_bytes()
    assert encoder.n_hashed == 1  # of gigabytes, where the weights are real


def test_how_long_the_encoder_waited_is_told_and_is_in_no_file_of_features(tmp_path, stage_20, monkeypatch):
    """A clock that ticks when it is read: once a batch while it is encoded, and once between two."""
    encoder, encode = stage_20
    monkeypatch.setattr(encode_jobs, "perf_counter", lambda ticks=count(): float(next(ticks)))
    counts = encode("features")
    assert counts.waited_s == len(encoder.sizes) + 1 == 11.0
    assert "waited" not in " ".join(read_attrs(tmp_path / "features" / "s.h5"))
    rows = for_each_slide(
        lambda _: counts, ["s"], ledger=Ledger(tmp_path / "ledger.csv"), workers=0, max_failed_share=0
    )
    assert rows["waited"].tolist() == [11.0]
    assert encode("features") == counts._replace(kept=True, waited_s=0.0)


def test_an_encoder_that_fails_leaves_no_thread_and_no_file(tmp_path, stage_20):
    encoder, encode = stage_20
    encoder.fails = True
    with pytest.raises(RuntimeError, match="out of memory on the device"):
        encode("features")
    assert _threads() == [] and not list(tmp_path.glob("features/*"))
