"""Each format of the field: files made as it is written down, level-0 places by hand; what is refused, and why."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from shared_data import INPUTS
from slide_files import write_manifest

from slidesieve.cohort.audit import file_faults
from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_available_bags, load_bags
from slidesieve.features.readers import LAYOUTS, count_tiles, format_of, read_bag
from slidesieve.features.store import write_packed

N, D = 11, 6
RNG = np.random.default_rng(5)
X = RNG.standard_normal((N, D)).astype(np.float32)
PX = [(512 * (i % 4), 512 * (i // 4)) for i in range(N)]  # level-0 px, top left, by hand
MPP = 0.2461


def h5(path: Path, datasets: dict[str, np.ndarray], attrs: dict | None = None, **of: dict) -> Path:
    """Write datasets, the file's attributes, and attributes of datasets by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file.create_dataset(name, data=data)
        file.attrs.update(attrs or {})
        for name, own in of.items():
            file[name].attrs.update(own)
    return path


def trident(folder: Path, x=X, coords=PX) -> Path:
    own = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20}
    data = {"features": np.asarray(x), "coords": np.asarray(coords)}
    return h5(folder / "20x_256px_0px_overlap/features_uni/s.h5", data, features={"encoder": "uni"}, coords=own)


def uni2(folder: Path) -> Path:
    return h5(folder / "s.h5", {"features": X[None], "coords": np.array(PX)[None]})


def clam(folder: Path) -> Path:
    return h5(folder / "h5_files/s.h5", {"features": X[:, None], "coords": np.array(PX, np.int32)})


def stamp(folder: Path, x=X, attrs=None, mpp=MPP) -> Path:
    um = (np.array(PX) * mpp).astype(np.float32)
    said = {
        "stamp_version": "2.3.0",
        "extractor": "uni2-h",
        "unit": "um",
        "tile_size_um": 512 * mpp,
        "feat_type": "tile",
    }
    data = {"feats": np.asarray(x, np.float16), "coords": um}
    return h5(folder / "uni2-h-1234abcd/s.h5", data, said | (attrs or {}))


def atlaspatch(folder: Path, *encoders: str) -> Path:
    coords = np.array([(x, y, 256, 256, 1) for x, y in PX], np.int32)
    data = {f"features/{name}": X + i for i, name in enumerate(encoders)}
    return h5(folder / "patches/s.h5", {"coords": coords, **data}, {"patch_size": 256, "patch_size_level0": 512})


def slide2vec(folder: Path, n=N) -> Path:
    path = folder / "tile_embeddings/s.pt"
    path.parent.mkdir(parents=True)
    torch.save(torch.tensor(X).half(), path)
    meta = {"encoder_name": "virchow2", "tile_size_lv0": 512, "requested_spacing_um": 0.5, "feature_dtype": "float16"}
    path.with_name("s.meta.json").write_text(json.dumps(meta))
    (folder / "tiles").mkdir()
    x, y = np.array(PX[:n], np.int64).T
    np.savez(folder / "tiles/s.coordinates.npz", x=x, y=y, tissue_fractions=np.ones(n))
    return path


@pytest.mark.parametrize(
    ("write", "format", "half", "encoder"),
    [
        (trident, "TRIDENT, CLAM, UNI2-h", False, "uni"),
        (uni2, "TRIDENT, CLAM, UNI2-h", False, None),
        (clam, "TRIDENT, CLAM, UNI2-h", False, None),
        (stamp, "STAMP", True, None),
        (lambda folder: atlaspatch(folder, "uni_v2"), "AtlasPatch", False, "uni_v2"),
        (slide2vec, "slide2vec", True, "virchow2"),
    ],
)
def test_what_is_written_is_read(tmp_path, write, format, half, encoder):
    path = write(tmp_path)
    assert format_of(path) == format
    bag = read_bag(path, "s", mpp=MPP)
    assert np.array_equal(bag.x, X.astype(np.float16).astype(np.float32) if half else X) and bag.x.dtype == np.float32
    assert bag.coords.tolist() == [list(place) for place in PX] and bag.coords.dtype == np.int64
    assert bag.attrs["has_coords"] and bag.attrs.get("encoder") == encoder
    assert count_tiles(path) == (None if path.suffix == ".pt" else N)
    assert format in {*LAYOUTS, "slide2vec"}


def test_micrometres_become_level_0_px_by_the_manifests_mpp(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    path = stamp(tmp_path).relative_to(tmp_path)
    rows = [{"slide_id": "s", "feature_path": str(path), "mpp": str(MPP)}]
    bags = load_bags(read_manifest(write_manifest(tmp_path / "m.csv", rows)), None, ["s"])
    assert bags["s"].coords.tolist() == [list(place) for place in PX]
    with pytest.raises(ValueError, match=r"s: .*micrometres, and the slide's mpp is not known.*column mpp.*fill it in"):
        read_bag(tmp_path / path, "s")


def test_an_old_stamp_file_without_a_unit_is_refused_with_the_remedy(tmp_path):
    old = {"feats": X, "coords": np.array(PX) / 512 * 224}
    with pytest.raises(ValueError, match=r"strides of 224 and no unit.*multiply coords by 256 / 224 .*unit = \"um\""):
        read_bag(h5(tmp_path / "s.h5", old, {"extractor": "ctranspath"}), "s", mpp=MPP)
    with pytest.raises(ValueError, match="has coords in 'mm'; expected um or px"):
        read_bag(stamp(tmp_path, attrs={"unit": "mm"}), "s", mpp=MPP)


def test_one_encoder_of_several_is_named_in_the_path(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    path = atlaspatch(tmp_path, "conch_v15", "uni_v2")
    with pytest.raises(ValueError, match=r"features of conch_v15, uni_v2, none is named; .*as s.h5#conch_v15"):
        read_bag(path, "s")
    with pytest.raises(ValueError, match="features of conch_v15, uni_v2, 'uni' was asked for"):
        read_bag(path, "s", part="uni")
    rows = [
        {"slide_id": "s", "feature_path": "patches/s.h5#uni_v2"},
        {"slide_id": "t", "feature_path": "patches/t.h5#x"},
    ]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", rows))
    bags = load_available_bags(manifest, None, ["s", "t"])
    assert list(bags) == ["s"] and np.array_equal(bags["s"].x, X + 1) and bags.n_tiles("s") == N
    faults = file_faults(manifest, check_sha256=False)
    assert [path for path in faults["path"] if ".h5" in path] == ["patches/t.h5#x"]
    with pytest.raises(ValueError, match=r"one encoder, 'uni' was asked for; take #uni out of feature_path"):
        read_bag(trident(tmp_path), "s", part="uni")


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (lambda folder: trident(folder, x=X[0], coords=PX[:1]), r"holds a slide's embedding, features of shape \(6,\)"),
        (lambda folder: stamp(folder, attrs={"feat_type": "slide"}), "holds a slide's embedding"),
        (lambda folder: stamp(folder, attrs={"feat_type": "patient"}), "holds a patient's embedding"),
        (lambda folder: trident(folder, x=X[:0], coords=np.zeros((0, 2))), r"features of shape \(0, 6\)"),
        (lambda folder: trident(folder, x=(X * 9).astype(np.int8)), "features .* are int8, whole numbers; expected fl"),
        (
            lambda folder: trident(folder, x=X.view(np.uint16)[:, :D]),
            r"uint16, .*bits of bfloat16, .*view\(torch.bfloat16",
        ),
        (lambda folder: trident(folder, np.tile(X, (2, 1)), PX * 2), "the last 11 of 22 rows are the first 11 again"),
        (
            lambda folder: h5(folder / "s.h5", {"features": np.tile(X, (2, 1))}),
            "the last 11 of 22 rows are the first 11",
        ),
        (lambda folder: trident(folder, coords=PX[:-1]), r"coords \(10, 2\) for features"),
        (lambda folder: slide2vec(folder, n=9), r"features \(11, 6\) for the 9 tiles of .*s.coordinates.npz"),
    ],
)
def test_what_is_no_bag_is_refused_by_name(tmp_path, write, fault):
    path = write(tmp_path)
    with pytest.raises(ValueError, match=fault) as error:
        read_bag(path, "s", mpp=MPP)
    assert "s.h5" in str(error.value) or "s.pt" in str(error.value)


def test_rows_that_are_alike_but_not_all_doubled_are_read(tmp_path):
    """Overlapping contours name a tile twice; one tile may be like another."""
    x, coords = np.concatenate([X, X[:3]]), [*PX, *PX[:3]]
    assert len(read_bag(trident(tmp_path, x, coords), "s").x) == N + 3
    moved = [(x + 9000, y) for x, y in PX]
    assert len(read_bag(trident(tmp_path / "b", np.tile(X, (2, 1)), [*PX, *moved]), "s").x) == 2 * N


def test_slide2vecs_files_must_all_be_there_and_whole(tmp_path):
    path = slide2vec(tmp_path)
    places = tmp_path / "tiles/s.coordinates.npz"
    whole = places.read_bytes()
    for data in (None, whole[:-30], b"no"):
        places.unlink() if data is None else places.write_bytes(data)
        with pytest.raises(ValueError, match=r"s.coordinates.npz: no places .*copy the folder tiles beside"):
            read_bag(path, "s")
    np.savez(places, x=np.array([{}], object), y=np.zeros(1))
    with pytest.raises(ValueError, match=r"s.coordinates.npz: no places"):
        read_bag(path, "s")
    places.write_bytes(whole)
    path.with_name("s.meta.json").write_text("[")
    with pytest.raises(ValueError, match=r"s.meta.json: not JSON"):
        read_bag(path, "s")


def test_a_stores_slides_are_found_under_other_spellings(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    write_packed(tmp_path / "p.h5", [make_bag(f"00{i}", X + i, None, {}) for i in range(3)])
    rows = [{"slide_id": str(i), "feature_path": "p.h5"} for i in range(4)]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", rows))
    bags = load_available_bags(manifest, None, ["2", "0", "3"])
    assert list(bags) == ["2", "0"] and np.array_equal(bags["2"].x, (X + 2).astype(np.float16).astype(np.float32))
    assert bags["2"].slide_id == "2" and bags.n_tiles("0") == N


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("grad.pt", None),
        ("param.pt", None),
        ("bf16.pt", None),
        ("batch.pt", None),
        ("int.pt", "holds torch.uint8; expected one tensor of features"),
        ("int8.h5", "int8, whole numbers"),
        ("bf16_as_u2.h5", "if they are the bits of bfloat16"),
        ("doubled.h5", "the last 20 of 40 rows are the first 20 again"),
    ],
)
def test_features_of_the_field_are_read_or_refused_by_name(name, fault):
    path = INPUTS / "pt-grad" / name
    if fault:
        with pytest.raises(ValueError, match=rf"{name}.*{fault}"):
            read_bag(path, "s")
    else:
        assert read_bag(path, "s").x.shape == (20, 16)


def test_other_tensors_are_read_or_refused_by_name(tmp_path):
    x = torch.from_numpy(X)
    for i, read in enumerate((x.double(), x.half().requires_grad_(), x.t().contiguous().t())):
        torch.save(read, tmp_path / f"{i}.pt")
        assert np.allclose(read_bag(tmp_path / f"{i}.pt", "s").x, X, atol=1e-2)
    refused = {
        "complex": (x.to(torch.complex64), "holds torch.complex64; expected one tensor"),
        "no_tile": (x[:0], r"features of shape \(0, 6\)"),
        "dict": ({"features": x, "coords": x}, "holds a dict of features, coords; expected one tensor"),
        "list": ([x, x], "holds a list; expected one tensor"),
        "too_large": (x.double() * 1e300, "11 rows of features are not finite"),
        "embedding": (x[0], "holds a slide's embedding"),
    }
    for name, (value, fault) in refused.items():
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(ValueError, match=rf"{name}.pt.*{fault}"):
            read_bag(tmp_path / f"{name}.pt", "s")
