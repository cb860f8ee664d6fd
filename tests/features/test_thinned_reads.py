"""Tiles are left out before features are widened: to the bit what reading, widening and then leaving out gives."""

import warnings
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.features.bag import checked_bag, in_float32, linspace_cap, make_bag, take
from slidesieve.features.bag_files import load_bags
from slidesieve.features.readers import read_bag
from slidesieve.features.store import PackedStore, write_features, write_packed

N, D = 77, 33
DRAW = np.random.default_rng(7)
X = DRAW.standard_normal((N, D)).astype(np.float16)
XY = DRAW.integers(0, 9000, (N, 2))
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def ours(path, x):
    write_features(path, make_bag("s", X, XY, {}), {})
    with h5py.File(path, "r+") as file:
        file["features"][:] = x


def packed(path, x):
    write_packed(path, [make_bag("r", X[:7], XY[:7], {}), make_bag("s", X, XY, {})])
    with h5py.File(path, "r+") as file:
        file["features"][7:] = x


def foreign(path, x, **layout):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=x, **layout)
        file["coords"] = XY


LAYOUTS = {
    "ours.h5": ours,
    "packed.h5": packed,
    "whole.h5": foreign,
    "rows.h5": lambda path, x: foreign(path, x.astype(np.float32), chunks=(1, D)),
    "double.h5": lambda path, x: foreign(path, x.astype(np.float64)),
    "big_endian.h5": lambda path, x: foreign(path, x.astype(">f2")),
    "bare.npy": lambda path, x: np.save(path, np.asfortranarray(x)),
}
THIN = {
    "all": (None, list(range(N))),
    "cap": (partial(linspace_cap, most=9), [int(i * (N - 1) / 8) for i in range(9)]),
    "more": (partial(linspace_cap, most=N + 1), list(range(N))),
    "some": (partial(take, tiles=np.array([70, 3, 3, 11])), [70, 3, 3, 11]),
}


@pytest.mark.parametrize("thin", THIN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tiles_left_are_those_of_the_whole_bag_to_the_bit(tmp_path, layout, thin):
    LAYOUTS[layout](tmp_path / layout, X)
    leave_out, rows = THIN[thin]
    bag = read_bag(tmp_path / layout, "s", thin=leave_out)
    assert bag.x.dtype == np.float32 and bag.x.shape == (len(rows), D)
    for got, row in zip(bag.x, rows, strict=True):
        assert [v.hex() for v in got.tolist()] == [float(v).hex() for v in X[row]]
    assert bag.slide_index.tolist() == rows and bag.slide_length == N
    if not layout.endswith(".npy"):
        assert bag.coords.tolist() == XY[rows].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_left_out_is_checked_all_the_same(tmp_path, layout, value):
    x = X.copy()
    x[1, D - 1] = value
    LAYOUTS[layout](tmp_path / layout, x)
    with pytest.raises(ValueError, match="1 rows of features are not finite, first row 1;"):
        read_bag(tmp_path / layout, "s", thin=THIN["cap"][0])


def test_rows_written_twice_are_refused_though_no_row_left_is_there_twice(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"], file["coords"] = np.concatenate([X, X]), np.concatenate([XY, XY])
    with pytest.raises(ValueError, match="the last 77 of 154 rows are the first 77 again"):
        read_bag(tmp_path / "s.h5", "s", thin=partial(linspace_cap, most=3))


def test_features_of_which_only_a_tile_left_out_says_anything_are_no_fault(tmp_path):
    x = np.zeros_like(X)
    x[1] = 1
    ours(tmp_path / "s.h5", x)
    assert not read_bag(tmp_path / "s.h5", "s", thin=THIN["cap"][0]).x.any()
    ours(tmp_path / "s.h5", -0.0 * x)
    with pytest.raises(ValueError, match="are all zero"):
        read_bag(tmp_path / "s.h5", "s", thin=THIN["cap"][0])


def test_every_half_is_known_as_finite_or_not_and_widened_as_numpy_does():
    known = []
    for half in EVERY_HALF:
        try:
            known.append(in_float32(checked_bag("s", np.array([[1, half]], np.float16), None, {})).x[0, 1])
        except ValueError:
            assert not np.isfinite(half)
    finite = EVERY_HALF[np.isfinite(EVERY_HALF)]
    assert np.array(known).view(np.uint32).tolist() == finite.astype(np.float32).view(np.uint32).tolist()


def test_a_float_beyond_single_precision_is_not_finite():
    with pytest.raises(ValueError, match="1 rows of features are not finite, first row 2"), np.errstate(over="ignore"):
        make_bag("s", np.array([[1.0], [2.0], [1e39]]), None, {})


def test_a_bag_is_its_own_memory_and_not_the_file_s(tmp_path):
    for name, write in LAYOUTS.items():
        write(tmp_path / name, X)
        before = (tmp_path / name).read_bytes()
        bag = read_bag(tmp_path / name, "s")
        bag.x[:] = 0
        bag.coords[:] = 0
        assert (tmp_path / name).read_bytes() == before
        (tmp_path / name).unlink()
    frozen = X.copy()
    frozen.flags.writeable = False
    torch.set_warn_always(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(make_bag("s", frozen, None, {}).x, X)
        assert np.array_equal(make_bag("s", X[::-2], None, {}).x, X[::-2])
    torch.set_warn_always(False)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name.endswith(".h5")])
def test_a_file_cut_short_is_named_whichever_tiles_are_asked_for(tmp_path, layout):
    LAYOUTS[layout](tmp_path / layout, X)
    data = (tmp_path / layout).read_bytes()
    for length in (len(data) - 1, len(data) // 2, 700):
        (tmp_path / layout).write_bytes(data[:length])
        for thin, _ in THIN.values():
            with pytest.raises(ValueError, match=layout):
                read_bag(tmp_path / layout, "s", thin=thin)


@pytest.mark.parametrize("layout", ["ours.h5", "packed.h5", "rows.h5"])
def test_slides_loaded_with_fewest_tiles_are_those_of_a_loop(tmp_path, monkeypatch, layout):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    LAYOUTS[layout](tmp_path / layout, X)
    (tmp_path / "m.csv").write_text(f"slide_id,feature_path\ns,{layout}\n")
    cohort: Manifest = read_manifest(tmp_path / "m.csv")
    for most in (1, 2, 10, N, N + 5):
        bag = load_bags(cohort, None, ["s"], most_tiles=most)["s"]
        rows = [int(i * (N - 1) / max(min(most, N) - 1, 1)) for i in range(min(most, N))]
        assert bag.slide_index.tolist() == rows and np.array_equal(bag.x, X[rows].astype(np.float32))


def test_a_packed_bag_is_thinned_as_it_is_read(tmp_path):
    packed(tmp_path / "p.h5", X)
    bag = PackedStore(tmp_path / "p.h5").read("s", partial(take, tiles=np.array([76, 0])))
    assert np.array_equal(bag.x, X[[76, 0]].astype(np.float32)) and bag.coords.tolist() == XY[[76, 0]].tolist()
