"""A slide's file: kept under its own stamp, removed when stale, and never if it is not ours."""

import h5py
import pytest

from slidesieve.cohort.slide_files import kept, no_stale, provenance


def written(file, attrs):
    with h5py.File(file, "w") as h5:
        h5.attrs.update(attrs)
    return file


def fails(file):
    with pytest.raises(RuntimeError, match="slide"), no_stale(file):
        raise RuntimeError("no such slide")


def test_a_file_of_another_stamp_does_not_outlive_a_failure(tmp_path):
    file = written(tmp_path / "s.h5", provenance("s", "old"))
    with no_stale(file):
        pass
    assert file.exists()
    fails(file)
    assert not file.exists()
    fails(file)  # there is none


def test_what_we_did_not_write_outlives_it(tmp_path):
    foreign = written(tmp_path / "a.h5", {"made_by": "someone"})
    (tmp_path / "b.h5").write_bytes(b"notes")
    for name in ("a.h5", "b.h5"):
        before = (tmp_path / name).read_bytes()
        fails(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        assert kept(tmp_path / name, "new") is None
    assert h5py.File(foreign).attrs["made_by"] == "someone"


def test_counts_are_those_of_the_present_stamp_only(tmp_path):
    file = written(tmp_path / "s.h5", provenance("s", "now") | {"n_tiles": 7, "n_dropped": 2})
    assert kept(file, "now")[:2] == (7, 2) and kept(file, "now").kept
    assert kept(file, "other") is None and kept(tmp_path / "none.h5", "now") is None
