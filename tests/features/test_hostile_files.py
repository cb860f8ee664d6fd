"""HDF5 files that ask for more than they hold: refused from their header, whichever reader meets them."""

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import BagFiles
from slidesieve.features.readers import count_tiles, read_bag
from slidesieve.features.store import PackedStore, read_features, write_features, write_packed
from slidesieve.provenance.hdf5 import DECLARED_BYTES, Hdf5Fault, open_hdf5, read_attrs
from slidesieve.slides.slide import View
from slidesieve.slides.tiling import Tiling, read_tiling, write_tiling

N, D = 75, 33
X = np.random.default_rng(3).standard_normal((N, D)).astype(np.float16)
XY = np.stack([np.arange(N) % 9, np.arange(N) // 9], 1) * 512


def ours(path: Path) -> None:
    write_features(path, make_bag("s", X, XY, {}), {})


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = X, XY


def stamp_like(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = X, XY


def packed(path: Path) -> None:
    write_packed(path, [make_bag("s", X, XY, {}), make_bag("t", X[:7], XY[:7], {})])


def tiles(path: Path) -> None:
    attrs = {"patch_size": 64}
    write_tiling(path, Tiling(XY, np.ones(N, np.float32), 0, View(0, 1.0, 1.0), attrs), {"slide_id": "s"})


LAYOUTS = {
    "ours": (ours, lambda path: read_features(path), "features"),
    "foreign": (foreign, lambda path: read_bag(path, "s"), "features"),
    "feats": (stamp_like, lambda path: read_bag(path, "s"), "feats"),
    "packed": (packed, lambda path: PackedStore(path).read("s"), "features"),
    "tiles": (tiles, read_tiling, "coords"),
}


def virtual(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    layout = h5py.VirtualLayout(shape, "i8")
    layout[:] = h5py.VirtualSource(aside, "x", shape)
    file.create_virtual_dataset(name, layout)


def external(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    aside.write_bytes(os.urandom(int(np.prod(shape)) * 8))
    file.create_dataset(name, shape, "i8", external=[(str(aside), 0, h5py.h5f.UNLIMITED)])


def soft_link(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file["elsewhere"] = np.ones(shape, "i8")
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    with h5py.File(aside, "w") as other:
        other["x"] = np.ones(shape, "i8")
    file[name] = h5py.ExternalLink(aside, "x")


def never_written(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file.create_dataset(name, shape, "i8")


def half_written(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file.create_dataset(name, shape, "i8", chunks=(1, *shape[1:]))[:40] = 1


def absurd(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file.create_dataset(name, (10**9, 1024), "i4", chunks=(10**6, 1024))  # 3.7 TiB, nothing of it there


def absurd_with_a_chunk(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    """One chunk of 3.9 GiB - the most that HDF5 allows - written, and packed into four MB."""
    data = file.create_dataset(name, (10**6, 1000), "i4", chunks=(10**6, 1000), compression="gzip")
    data.id.write_direct_chunk((0, 0), bytes(DECLARED_BYTES // 1000))


def objects(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file.create_dataset(name, shape[:1], h5py.vlen_dtype("f4"))[:] = [np.ones(3, "f4")] * shape[0]


def words(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file[name] = np.full(shape, b"1.0")


def nothing(file: h5py.File, name: str, shape: tuple, aside: Path) -> None:
    file[name] = h5py.Empty("i4")


FAULTS = {
    virtual: "is a virtual dataset, kept in other files",
    external: r"is kept in another file \(.*aside",
    soft_link: "is a link to /elsewhere",
    external_link: r"is a link to .*aside.*, x",
    never_written: r"declares \(\d+, \d+\), nothing of it ever written: that would read as 0",
    half_written: r"declares .* in (75|82) chunks, (35|42) of them never written",
    absurd: r"declares \(1000000000, 1024\) in 1,000 chunks, nothing of it ever written",
    absurd_with_a_chunk: r"declares .* of int32, 4,000,000,000 bytes, in 67,108 bytes on disk; .* at most 67,108,864",
    objects: "holds object; expected (whole )?numbers",
    words: r"holds \|S3; expected (whole )?numbers",
    nothing: "holds nothing; expected an array",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_in_the_file_is_refused_before_it_is_read(tmp_path, monkeypatch, layout, fault):
    write, load, name = LAYOUTS[layout]
    path = tmp_path / "s.h5"
    write(path)
    load(path)
    with h5py.File(path, "r+") as file:
        shape = file[name].shape
        del file[name]
        fault(file, name, shape, tmp_path / "aside")
    monkeypatch.delattr(h5py.Dataset, "__getitem__")  # no value is read
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(path))}.*'{name}' {FAULTS[fault]}.*; "):
        load(path)


def test_a_place_that_is_a_group_is_said(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = X
        file.create_group("coords")
    with pytest.raises(Hdf5Fault, match=r"s.h5: 'coords' is a Group; expected a dataset"):
        read_bag(tmp_path / "s.h5", "s")


def test_compressed_and_chunked_files_of_others_are_still_read(tmp_path):
    wide = np.tile(X, (90, 30)).astype(np.float32) + np.arange(90 * N, dtype=np.float32)[:, None]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("features", data=wide, chunks=(1, 990), maxshape=(None, 990))
        file.create_dataset("coords", data=np.tile(XY, (90, 1)), chunks=(32, 2), compression="gzip", shuffle=True)
    assert np.array_equal(read_bag(tmp_path / "s.h5", "s").x, wide)
    with h5py.File(tmp_path / "z.h5", "w") as file:
        file.create_dataset("features", data=wide, compression="lzf")
    assert np.array_equal(read_bag(tmp_path / "z.h5", "s").x, wide) and count_tiles(tmp_path / "z.h5") == 90 * N


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (np.where(np.arange(2 * N).reshape(N, 2) == 23, -512, XY), r"outside every slide, first row 11: \[\d+, -512\]"),
        (np.where(np.arange(2 * N).reshape(N, 2) == 23, np.nan, XY), r"1 tiles are no numbers, first row 11: .*nan"),
        (np.where(np.arange(2 * N).reshape(N, 2) == 23, np.inf, XY), "no numbers, first row 11"),
        (XY.astype(np.uint64) + 2**63, "outside every slide, first row 0"),
        (XY + 0.25, "75 tiles are fractions, first row 0"),
    ],
)
@pytest.mark.parametrize("layout", ["ours", "foreign", "feats", "packed"])
def test_places_that_are_none_are_refused(tmp_path, layout, coords, message):
    write, load, _ = LAYOUTS[layout]
    write(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        more = len(file["coords"]) - N
        del file["coords"]
        file["coords"] = np.concatenate([coords, coords[:more]])
    with pytest.raises(ValueError, match=rf"s.h5: s: coords .*{message}.*expected whole level-0 px"):
        load(tmp_path / "s.h5")


@pytest.mark.parametrize(
    ("value", "message"), [(0, r"features \(75, 33\) are all zero"), (np.nan, "75 rows of features are not finite")]
)
@pytest.mark.parametrize("layout", ["ours", "foreign", "feats", "packed"])
def test_features_that_say_nothing_are_refused(tmp_path, layout, value, message):
    write, load, name = LAYOUTS[layout]
    write(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file[name][:N] = value
    with pytest.raises(ValueError, match=rf"s.h5: s: {message}"):
        load(tmp_path / "s.h5")


def test_a_tile_at_the_origin_and_a_row_of_zeros_are_no_fault(tmp_path):
    x = X.copy()
    x[:-1] = 0
    write_features(tmp_path / "s.h5", make_bag("s", x, XY, {}), {})
    assert np.array_equal(read_features(tmp_path / "s.h5").x, x)


def test_the_header_alone_counts_no_tiles_of_a_file_that_cannot_be_read(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        absurd(file, "features", (N, D), tmp_path / "aside")
    assert (tmp_path / "s.h5").stat().st_size < 4000 and count_tiles(tmp_path / "s.h5") is None
    bags = BagFiles(
        ["s"], lambda slide: read_bag(tmp_path / "s.h5", slide), count=lambda _: count_tiles(tmp_path / "s.h5")
    )
    with pytest.raises(Hdf5Fault, match="nothing of it ever written"):
        bags.n_tiles("s")


def test_an_index_of_a_store_that_is_none_is_refused(tmp_path):
    packed(tmp_path / "p.h5")
    for name, value in (
        ("offsets", np.array([0, 75, 70], np.uint64)),
        ("offsets", np.array([[0, 75, 82]])),
        ("offsets", np.array([0.0, 75.0, 82.0])),
        ("slide_id", np.arange(2)),
        ("features", np.float32(3)),
    ):
        kept = tmp_path / f"{name}.h5"
        kept.write_bytes((tmp_path / "p.h5").read_bytes())
        with h5py.File(kept, "r+") as file:
            del file[name]
            file[name] = value
        with pytest.raises(ValueError, match=re.escape(str(kept))):
            PackedStore(kept)


def test_attributes_of_any_kind_are_read_or_refused_by_name(tmp_path):
    ours(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["schema"] = np.array([1, 2, 3])
    with pytest.raises(ValueError, match=r"s.h5 has coords, features|s.h5: schema \[1, 2, 3\]"):
        read_features(tmp_path / "s.h5")
    assert read_attrs(tmp_path / "s.h5")["schema"] == [1, 2, 3]
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        file.attrs.create("schema", np.zeros(200_000))
    with pytest.raises(Hdf5Fault, match="attribute 'schema' of / declares 1,600,000 bytes; expected at most 1,048,576"):
        read_attrs(tmp_path / "s.h5")


def test_a_tile_file_without_its_numbers_is_refused(tmp_path):
    tiles(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file.attrs["n_dropped"]
        file.attrs["view_scale"] = "one"
    with pytest.raises(ValueError, match=r"s.h5: no number in view_scale, n_dropped; .*run 10_tile_slides again"):
        read_tiling(tmp_path / "s.h5")


@pytest.mark.parametrize("suffix", [".h5", ".csv", ".npy", ".pt"])
def test_a_folder_or_a_pipe_is_no_feature_file(tmp_path, suffix):
    (tmp_path / f"a{suffix}").mkdir()
    os.mkfifo(tmp_path / f"b{suffix}")
    for name in "ab":
        with pytest.raises(ValueError, match=r"s: .* is a folder or a device; expected a feature file"):
            read_bag(tmp_path / f"{name}{suffix}", "s")


def test_bare_matrices_declare_no_more_than_they_hold(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 1024)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(X.tobytes())
    with pytest.raises(ValueError, match=r"a.npy: not a plain array \(mmap length"):
        read_bag(tmp_path / "a.npy", "s")
    torch.save(torch.ones(1, 1).expand(10**9, 1024), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b.pt: a tensor \(1000000000, 1024\) of torch.float32 in [\d,]+ bytes"):
        read_bag(tmp_path / "b.pt", "s")
    torch.save(torch.eye(5).to_sparse(), tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c.pt: a tensor \(5, 5\).*save it dense"):
        read_bag(tmp_path / "c.pt", "s")
    np.savez(tmp_path / "d.npz", x=X)
    (tmp_path / "d.npz").rename(tmp_path / "d.npy")
    with pytest.raises(ValueError, match=r"d.npy: an archive of arrays"):
        read_bag(tmp_path / "d.npy", "s")


@pytest.mark.parametrize("size", [0, 8, 1 << 40])
def test_a_heap_that_hdf5_would_walk_for_ever_or_beyond_is_refused(tmp_path, size):
    packed(tmp_path / "a.h5")
    data = bytearray((tmp_path / "a.h5").read_bytes())
    at = data.index(b"GCOL") + 16
    while int.from_bytes(data[at : at + 2], "little"):  # to the object that is what is free
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = size.to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(Hdf5Fault, match=rf"a.h5: damaged \(the heap at byte [\d,]+ declares an object of {size:,} by"):
        open_hdf5(tmp_path / "a.h5")


def test_heaps_are_looked_for_around_large_pieces_and_not_in_them(tmp_path):
    looks_bad = np.frombuffer(b"GCOL\x01\0\0\0\0\x10".ljust(1 << 21, b"\0"), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["whole"] = looks_bad
        file.create_dataset("pieces", data=looks_bad, chunks=(100_003,))
        file["names"] = ["s", "t"]
    open_hdf5(tmp_path / "a.h5").close()
    data = bytearray((tmp_path / "a.h5").read_bytes())
    (heap,) = (found.start() for found in re.finditer(rb"GCOL\x01(?!\0{3}\0\x10\0{30})", data))
    data[heap + 24 : heap + 32] = b"\xff" * 8
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(Hdf5Fault, match=rf"the heap at byte {heap:,} declares"):
        open_hdf5(tmp_path / "a.h5")
