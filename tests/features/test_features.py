"""Feature files and packed stores: what goes in comes out, whole or not at all."""

import errno
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from slidesieve.features.bag import linspace_cap, make_bag, norms, spectrum
from slidesieve.features.store import PackedStore, read_features, write_features, write_packed
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.slides.slide import View
from slidesieve.slides.tiling import Tiling, write_tiling


def _bag(slide_id: str = "s", n: int = 75, d: int = 33, *, coords: bool = True, seed: int = 0):
    draw = np.random.default_rng(seed)
    places = draw.integers(0, 90_000, (n, 2)) if coords else None
    return make_bag(slide_id, draw.standard_normal((n, d)), places, {})


def test_a_bag_comes_back_as_float16_made_float32(tmp_path):
    bag = _bag()
    write_features(tmp_path / "s.h5", bag, {"encoder": "e", "patch_size": 64, "recipe_hash": "r"})
    again = read_features(tmp_path / "s.h5")
    assert again.slide_id == "s" and again.x.dtype == np.float32 and again.coords.dtype == np.int64
    assert np.array_equal(again.x, bag.x.astype(np.float16).astype(np.float32))
    assert np.array_equal(again.coords, bag.coords)
    assert again.attrs["encoder"] == "e" and again.attrs["has_coords"] is True
    assert read_attrs(tmp_path / "s.h5")["recipe_hash"] == "r"


def test_the_layout_is_contiguous_half_precision_with_tridents_attributes(tmp_path):
    write_features(tmp_path / "s.h5", _bag(), {"patch_size": 64})
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["features"].dtype == np.float16 and file["features"].chunks is None
        assert file["features"].compression is None and file["coords"].attrs["patch_size"] == 64


def test_the_same_bag_makes_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_features(tmp_path / name, _bag(), {"encoder": "e"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_without_coordinates_places_count_up(tmp_path):
    write_features(tmp_path / "s.h5", _bag(n=5, coords=False), {})
    again = read_features(tmp_path / "s.h5")
    assert again.coords.tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]] and again.attrs["has_coords"] is False


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_features(tmp_path / "s.h5", _bag(), {})
    before = (tmp_path / "s.h5").read_bytes()
    with pytest.raises(TypeError):
        write_features(tmp_path / "s.h5", _bag(seed=1), {"bad": object()})
    assert (tmp_path / "s.h5").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]


TILING = Tiling(np.zeros((3, 2), np.int64), np.ones(3, np.float32), 0, View(0, 1.0, 1.0), {})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_features(path, _bag(), {}),
        lambda path: write_packed(path, [_bag()]),
        lambda path: write_tiling(path, TILING, {}),
    ],
)
def test_a_full_disk_is_a_fault_of_the_system_and_never_of_hdf5(tmp_path, monkeypatch, write):
    """HDF5 crashes where it cannot write, and not only once: no file of ours is open in it while it is written."""
    write(tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "s.h5")
    assert caught.value.errno == errno.ENOSPC
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("s.h5", before)]


def test_what_a_bag_refuses():
    x = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"s: features of shape \(0, 3\)"):
        make_bag("s", x[:0], None, {})
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        make_bag("s", x[0], None, {})
    with pytest.raises(ValueError, match=r"coords \(3, 2\) for features \(4, 3\)"):
        make_bag("s", x, np.zeros((3, 2)), {})
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 rows of features are not finite, first row 2"):
        make_bag("s", x, None, {})


def test_values_beyond_float16_are_refused(tmp_path):
    with pytest.raises(ValueError, match="up to 70000 do not fit float16"):
        write_features(tmp_path / "s.h5", make_bag("s", np.full((2, 2), 7e4), None, {}), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("coords", [True, False])
def test_a_packed_store_gives_back_each_bag(tmp_path, coords):
    bags = [_bag(f"s{i}", n, coords=coords, seed=i) for i, n in enumerate((7, 1, 75))]
    write_packed(tmp_path / "p.h5", bags)
    store = pickle.loads(pickle.dumps(PackedStore(tmp_path / "p.h5")))
    assert store.slide_ids == ["s0", "s1", "s2"]
    for bag in reversed(bags):
        again = store.read(bag.slide_id)
        assert np.array_equal(again.x, bag.x.astype(np.float16).astype(np.float32))
        assert np.array_equal(again.coords, bag.coords) and again.attrs["has_coords"] is coords
    assert pickle.loads(pickle.dumps(store)).read("s1").x.shape == (1, 33)  # an open store crosses processes
    with pytest.raises(ValueError, match=r"s9: not among the 3 slides"):
        store.read("s9")


def test_a_file_that_is_no_packed_store_is_named(tmp_path):
    (tmp_path / "junk.h5").write_bytes(b"not HDF5 at all")
    h5py.File(tmp_path / "other.h5", "w").close()
    for name in ("junk", "other"):
        with pytest.raises(ValueError, match=rf"{name}.h5: not a packed store .* expected HDF5 with features, offsets"):
            PackedStore(tmp_path / f"{name}.h5")


def test_a_packed_store_of_two_widths_or_of_wrong_offsets_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"widths \[3, 4\]"):
        write_packed(tmp_path / "p.h5", [_bag("a", d=3), _bag("b", d=4)])
    write_packed(tmp_path / "p.h5", [_bag("a", 5), _bag("b", 6)])
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        file["offsets"][2] = 10
    with pytest.raises(ValueError, match="offsets do not cut 11 rows into 2 bags"):
        PackedStore(tmp_path / "p.h5")


def test_norms_and_spectrum_by_hand():
    bags = [make_bag("a", np.array([[3.0, 4.0], [-3.0, -4.0]]), None, {}), make_bag("b", np.zeros((1, 2)), None, {})]
    assert norms(bags).tolist() == [5, 5, 0]
    assert spectrum(bags) == pytest.approx([1, 0])
    circle = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert spectrum([make_bag("c", circle, None, {})]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("n", "most"), [(47, 5), (47, 46), (9, 2), (9, 1), (9, 9), (3, 9)])
def test_a_cap_leaves_tiles_evenly_spaced_from_the_first_to_the_last(n, most):
    bag = make_bag("s", np.arange(n, dtype=np.float32)[:, None], None, {})
    want = [int(i * (n - 1) / max(min(most, n) - 1, 1)) for i in range(min(most, n))]
    assert linspace_cap(bag, most).x[:, 0].tolist() == want
