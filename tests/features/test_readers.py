"""Files that others wrote, made the way they write them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from shared_data import SHARED
from slide_files import write_manifest

from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_bags
from slidesieve.features.readers import read_bag
from slidesieve.features.store import write_features, write_packed

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")


def _write(path: Path, attrs: dict | None = None, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            rows = value.ndim > 1 and len(value)
            file.create_dataset(name, data=value, **({"chunks": (1, *value.shape[1:])} if rows else {}))
        file.attrs.update(attrs or {})
    return path


X = np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32)
XY = np.arange(18).reshape(9, 2) * 512


def test_trident(tmp_path):
    path = _write(tmp_path / "a.h5", features=X, coords=XY)
    with h5py.File(path, "r+") as file:
        file["coords"].attrs["patch_size_level0"] = 512
    bag = read_bag(path, "any")
    assert np.array_equal(bag.x, X) and np.array_equal(bag.coords, XY)
    assert bag.slide_id == "any" and bag.attrs["patch_size_level0"] == 512


def test_clam_mopadi_and_coordinate_free_files(tmp_path):
    clam = read_bag(_write(tmp_path / "a.h5", features=X[:, None], coords=XY.astype(np.int32)), "s")
    assert np.array_equal(clam.x, X) and clam.coords.dtype == np.int64
    assert np.array_equal(read_bag(_write(tmp_path / "b.h5", feats=X, coords=XY), "s").coords, XY)
    assert read_bag(_write(tmp_path / "c.h5", features=X), "s").attrs["has_coords"] is False


def test_ours_must_be_of_the_slide_asked_for(tmp_path):
    write_features(tmp_path / "s.h5", make_bag("s", X, XY, {}), {})
    assert np.array_equal(read_bag(tmp_path / "s.h5", "s").coords, XY)
    with pytest.raises(ValueError, match="holds 's', 't' was asked for"):
        read_bag(tmp_path / "s.h5", "t")


def test_what_is_refused_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"has coords, imgs; expected a dataset `features` or `feats`"):
        read_bag(_write(tmp_path / "a.h5", coords=XY, imgs=X), "s")
    with pytest.raises(ValueError, match="micrometres"):
        read_bag(_write(tmp_path / "b.h5", feats=X, coords=XY / 3), "s")
    with pytest.raises(ValueError, match="micrometres"):
        read_bag(_write(tmp_path / "c.h5", {"unit": "um"}, feats=X, coords=XY.astype(np.float32)), "s")
    with pytest.raises(ValueError, match=r"shape \(0, 5\)"):
        read_bag(_write(tmp_path / "d.h5", features=X[:0]), "s")
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        read_bag(_write(tmp_path / "e.h5", features=X[0]), "s")
    (tmp_path / "f.h5").write_text("slide,1,2")
    with pytest.raises(ValueError, match="is not HDF5"):
        read_bag(tmp_path / "f.h5", "s")
    with pytest.raises(FileNotFoundError, match=r"s: no feature file .*run 20_extract_features"):
        read_bag(tmp_path / "absent.h5", "s")


def test_bare_matrices(tmp_path):
    np.save(tmp_path / "a.npy", X.astype(np.float16))
    torch.save(torch.tensor(X).bfloat16()[None], tmp_path / "b.PT")
    for name, x in (("a.npy", X.astype(np.float16)), ("b.PT", torch.tensor(X).bfloat16().float().numpy())):
        bag = read_bag(tmp_path / name, "s")
        assert np.array_equal(bag.x, x) and bag.x.dtype == np.float32 and bag.attrs["has_coords"] is False


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", {"feature": X, "index": Trap(tmp_path / "ran")}, allow_pickle=True)
    with pytest.raises(ValueError, match=r'convert it once: .*np.load\("a.npy", allow_pickle=True\).item\(\)'):
        read_bag(tmp_path / "a.npy", "s")
    torch.save(Trap(tmp_path / "ran"), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b.pt: not a plain tensor \(UnpicklingError\)"):
        read_bag(tmp_path / "b.pt", "s")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "b.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works


def test_arrays_of_something_else_and_cut_ones_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", XY)
    torch.save({"features": torch.tensor(X), "n": 9}, tmp_path / "b.pt")
    torch.save(torch.tensor(XY), tmp_path / "c.pt")
    np.save(tmp_path / "d.npy", X)
    torch.save(torch.tensor(X), tmp_path / "e.pt")
    for name in ("d.npy", "e.pt"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    np.save(tmp_path / "f.npy", X[0])
    for name, message in (
        ("a.npy", r"array of int64; expected features \(n, d\)"),
        ("b.pt", "holds a dict of features, n; expected one tensor"),
        ("c.pt", "holds torch.int64; expected one tensor"),
        ("d.npy", "not a plain array .*; copy it again"),
        ("e.pt", "not a plain tensor .*; copy it again"),
        ("f.npy", r"shape \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            read_bag(tmp_path / name, "s")


def test_load_bags_takes_each_slide_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    write_packed(tmp_path / "p.h5", [make_bag("a", X, None, {}), make_bag("b", X[:3], None, {})])
    _write(tmp_path / "c.h5", features=X[:2], coords=XY[:2])
    lines = [",".join(map(str, (*x, f"{i * 512}_0.png"))) for i, x in enumerate(X[:6].tolist())]
    (tmp_path / "e.csv").write_text("\n".join(["0,1,2,3,4,patch", *lines]))
    (tmp_path / "made").mkdir()
    write_features(tmp_path / "made" / "d.h5", make_bag("d", X[:4], XY[:4], {}), {})
    places = {"a": "p.h5", "b": "p.h5", "c": "c.h5", "d": "", "e": "e.csv"}
    rows = [{"slide_id": i, "feature_path": p} for i, p in places.items()]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", rows))
    bags = load_bags(manifest, tmp_path / "made", ["d", "b", "e", "c", "a"])
    assert {i: len(bag.x) for i, bag in bags.items()} == {"d": 4, "b": 3, "c": 2, "a": 9, "e": 6}
    assert list(bags) == ["d", "b", "e", "c", "a"] and np.array_equal(bags["e"].x, X[:6])
    with pytest.raises(ValueError, match="d: no feature_path and no features folder"):
        load_bags(manifest, None, ["a", "d"])
    with pytest.raises(FileNotFoundError, match="d: no feature file"):
        load_bags(manifest, tmp_path / "other", ["d"])
    write_features(tmp_path / "made" / "d.h5", make_bag("d", X[:, :4], XY, {}), {})
    clash = load_bags(manifest, tmp_path / "made", ["a", "d"])
    assert len(clash["a"].x) == 9
    with pytest.raises(ValueError, match="d: features of width 4, those of a are of 5; use one encoder"):
        clash["d"]


@pytest.mark.shared
@needs_shared
def test_real_features_with_and_without_coordinates():
    folder = SHARED / "mil" / "real_coords"
    bag = read_bag(folder / "TCGA-AD-6964-01Z-00-DX1.h5", "TCGA-AD-6964-01Z-00-DX1")
    assert bag.x.shape == (777, 512) and bag.coords.shape == (777, 2) and bag.attrs["has_coords"]
    bag = read_bag(folder / "TCGA-3X-AAVA-01Z-00-DX1.h5", "TCGA-3X-AAVA-01Z-00-DX1")
    assert bag.x.shape == (180, 512) and not bag.attrs["has_coords"]
    clam = next(folder.glob("clam_coords_*"))
    with pytest.raises(ValueError, match="has coords; expected a dataset"):
        read_bag(clam, "s")


@pytest.mark.shared
@needs_shared
def test_a_real_packed_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(SHARED))
    path = SHARED / "mil" / "hipt_tcga" / "LUNG.h5"
    with h5py.File(path) as file:
        ids, offsets = [s.decode() for s in file["slide_id"][:]], file["offsets"][:]
        last = file["features"][offsets[-2] :].astype(np.float32)
    rows = [{"slide_id": i, "feature_path": "mil/hipt_tcga/LUNG.h5"} for i in (ids[0], ids[-1])]
    bags = load_bags(read_manifest(write_manifest(tmp_path / "m.csv", rows)), None, [ids[-1], ids[0]])
    assert np.array_equal(bags[ids[-1]].x, last)
    assert bags[ids[0]].x.shape == (offsets[1], 192)
