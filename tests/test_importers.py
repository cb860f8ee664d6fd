"""Files that others wrote, made the way they write them."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from slide_files import write_manifest

from lib.features import make_bag, write_features, write_packed
from lib.importers import load_bags, read_bag
from lib.manifest import read_manifest

SHARED = Path(os.environ.get("DATA_SHARED") or Path(__file__).parents[2] / "shared" / "data")
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


def test_load_bags_takes_each_slide_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    write_packed(tmp_path / "p.h5", [make_bag("a", X, None, {}), make_bag("b", X[:3], None, {})])
    _write(tmp_path / "c.h5", features=X[:2], coords=XY[:2])
    (tmp_path / "made").mkdir()
    write_features(tmp_path / "made" / "d.h5", make_bag("d", X[:4], XY[:4], {}), {})
    rows = [{"slide_id": i, "feature_path": p} for i, p in (("a", "p.h5"), ("b", "p.h5"), ("c", "c.h5"), ("d", ""))]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", rows))
    bags = load_bags(manifest, tmp_path / "made", ["d", "b", "c", "a"])
    assert {i: len(bag.x) for i, bag in bags.items()} == {"d": 4, "b": 3, "c": 2, "a": 9}
    assert list(bags) == ["d", "b", "c", "a"]
    with pytest.raises(ValueError, match="d: no feature_path and no features folder"):
        load_bags(manifest, None, ["a", "d"])
    with pytest.raises(FileNotFoundError, match="d: no feature file"):
        load_bags(manifest, tmp_path / "other", ["d"])
    write_features(tmp_path / "made" / "d.h5", make_bag("d", X[:, :4], XY, {}), {})
    with pytest.raises(ValueError, match=r"widths \[4, 5\]"):
        load_bags(manifest, tmp_path / "made", ["a", "d"])


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
