"""A slide's file: kept under its own stamp, set aside when stale, never lost, and never touched if it is not ours."""

import h5py
import pytest

from slidesieve.cohort.slide_files import kept, kept_unchecked, no_stale, provenance, spare_foreign


def written(file, attrs):
    with h5py.File(file, "w") as h5:
        h5.attrs.update(attrs)
    return file


def fails(file, *seen):
    with pytest.raises(RuntimeError, match="slide"), no_stale(file) as slides:
        slides.extend(seen)
        raise RuntimeError("no such slide")


def made(file, stamp, slide="x"):
    return written(file, provenance("s", stamp) | {"n_tiles": 7, "n_dropped": 2, "slide_identity": slide})


def names(folder):
    return sorted(p.name for p in folder.iterdir())


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


def test_a_file_of_the_present_stamp_is_taken_from_another_folder_which_keeps_it(tmp_path, monkeypatch):
    file, other = made(tmp_path / "s.h5", "old"), tmp_path / "other"
    other.mkdir()
    theirs = made(other / "s.h5", "now")
    assert kept(file, "now") is None and kept(file, "else", [other]) is None
    assert kept(file, "now", [tmp_path / "none", other])[:4] == (7, 2, True, "")
    assert file.samefile(theirs) and names(tmp_path) == ["other", "s.h5", "s.h5.stale"]

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    copy = tmp_path / "copies" / "s.h5"
    copy.parent.mkdir()
    assert kept(copy, "now", [other]).n_tiles == 7 and not copy.samefile(theirs)
    assert copy.read_bytes() == theirs.read_bytes() and names(copy.parent) == ["s.h5"]


def test_a_stale_file_is_set_aside_and_taken_back_when_its_stamp_is_the_present_one_again(tmp_path):
    file = made(tmp_path / "s.h5", "a")
    whole = file.read_bytes()
    fails(file)
    assert names(tmp_path) == ["s.h5.stale"] and kept(file, "b") is None
    made(file, "b")
    fails(file)
    made(file, "c")
    assert names(tmp_path) == ["s.h5", "s.h5.stale", "s.h5.stale1"]  # none takes another's place
    assert kept(file, "a")[:2] == (7, 2) and file.read_bytes() == whole
    assert len(names(tmp_path)) == 3 and kept(file, "b") and kept(file, "c") and kept(file, "a")


def test_without_its_slide_a_file_is_up_to_date_by_the_slide_that_it_names(tmp_path):
    file, stamp_of = tmp_path / "s.h5", "now {}".format
    assert kept_unchecked(file, stamp_of, stated_sha256="") is None
    made(file, "now x", "x")
    assert kept_unchecked(file, stamp_of, stated_sha256="").note == "its slide is not there to be checked"
    assert kept_unchecked(file, "then {}".format, stated_sha256="") is None
    fails(file)
    assert kept_unchecked(file, stamp_of, stated_sha256="")[:2] == (7, 2) and names(tmp_path) == ["s.h5"]
    fails(file, "y")  # another slide has been seen in its place
    assert kept_unchecked(file, stamp_of, stated_sha256="") is None and kept(file, "now x") and file.exists()
    made(file, "now sha256:ab", "sha256:ab")
    assert kept_unchecked(file, stamp_of, stated_sha256="cd") is None
    assert kept_unchecked(file, stamp_of, stated_sha256="ab")


def test_what_we_did_not_write_is_neither_written_over_nor_renamed_again(tmp_path):
    (tmp_path / "s.h5").write_bytes(b"notes")
    (tmp_path / "s.h5.stale").write_bytes(b"older notes")
    spare_foreign(tmp_path / "s.h5")
    made(tmp_path / "s.h5", "a")
    spare_foreign(tmp_path / "s.h5")
    fails(tmp_path / "s.h5", "y")
    assert names(tmp_path) == ["s.h5.replaced", "s.h5.stale", "s.h5.stale1"]
    assert (tmp_path / "s.h5.stale").read_bytes() == b"older notes"
    assert (tmp_path / "s.h5.stale1").read_bytes() == b"notes"
