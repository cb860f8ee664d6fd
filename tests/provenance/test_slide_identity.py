"""Which slide a file is, without reading it whole; and what of a manifest's slides is in a stage's recipe."""

import os
from pathlib import Path

import pytest
from tiny_notebooks import write_notebook

from slidesieve.provenance import files
from slidesieve.provenance.recipes import differences, recipe_of
from slidesieve.provenance.slide_identity import CHUNK_BYTES, CHUNKS, slide_identity

SIZE = (5 << 20) + 77
LAST = SIZE - CHUNK_BYTES


@pytest.fixture
def slide(tmp_path, monkeypatch):
    """A file of 5 MiB that has not been written to for long, and notes of its own."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    path = tmp_path / "s.tif"
    path.write_bytes(bytes(i % 251 for i in range(SIZE)))
    os.utime(path, ns=(10**9, 10**9))
    return path


def flip(path: Path, place: int, mtime_ns: int | None = 10**9) -> None:
    with path.open("rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def reads(monkeypatch):
    """Count the bytes that are read of slides."""
    opened, total = Path.open, []

    def counted(self, *args, **kwargs):
        file = opened(self, *args, **kwargs)
        if self.suffix in (".tif", ".dat", ".mrxs"):
            read = file.read
            file = type("Counted", (), {
                "__enter__": lambda s: s, "__exit__": lambda s, *_: s.whole.close(), "whole": file, "seek": file.seek,
                "read": lambda s, n=-1: (total.append(len(got := read(n))), got)[1],
            })()  # fmt: skip
        return file

    monkeypatch.setattr(Path, "open", counted)
    return total


def test_the_sample_sees_the_first_byte_the_last_and_sixteen_stretches_between(slide, tmp_path):
    seen = {slide_identity(slide)}
    for place in (0, *(LAST * i // 15 + 5 for i in range(16)), SIZE - 1):
        (tmp_path / "store").rename(tmp_path / f"store{place}")  # without notes
        flip(slide, place)
        identity = slide_identity(slide)
        assert identity not in seen
        seen.add(identity)
    (tmp_path / "store").rename(tmp_path / "old")
    flip(slide, CHUNK_BYTES + 9)  # between two stretches, and the time put back: this is what only a sum sees
    assert slide_identity(slide) in seen
    flip(slide, CHUNK_BYTES + 9, 10**9 + 1)
    assert slide_identity(slide) not in seen
    assert slide_identity(slide) == slide_identity(slide)


def test_a_file_is_sampled_once_and_again_only_when_its_stamp_changes(slide, reads):
    first = slide_identity(slide)
    assert sum(reads) == CHUNKS * CHUNK_BYTES
    assert slide_identity(slide) == first and sum(reads) == CHUNKS * CHUNK_BYTES
    os.utime(slide, ns=(1, 10**9 + 1))
    assert slide_identity(slide) != first and sum(reads) == 2 * CHUNKS * CHUNK_BYTES


def test_a_file_that_may_still_be_written_to_is_not_noted(slide):
    os.utime(slide)
    stamp = slide.stat().st_mtime_ns
    first = slide_identity(slide)
    flip(slide, 0, stamp)
    assert slide_identity(slide) != first


def test_without_room_for_a_note_the_sample_stands(slide, tmp_path):
    (tmp_path / "store").write_text("in the way of a folder")
    assert slide_identity(slide) == slide_identity(slide)


def test_a_mirax_slide_is_its_folder_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"head")
    alone = slide_identity(path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0001.dat").write_bytes(b"part")
    half = slide_identity(path, "ab")
    (tmp_path / "a" / "Data0001.dat").write_bytes(b"all.")
    assert len({alone, half, slide_identity(path, "ab")}) == 3


@pytest.mark.parametrize(("own", "part", "other"), [("a.dcm", "b.dcm", "c.txt"), ("a.vms", "a(0,0).jpg", "b.jpg")])
def test_the_files_beside_a_slide_that_belong_to_it_are_told(tmp_path, monkeypatch, own, part, other):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for name in (own, part):
        (tmp_path / name).write_bytes(b"some")
    first = slide_identity(tmp_path / own, "ab")
    (tmp_path / other).write_bytes(b"none of it")
    assert slide_identity(tmp_path / own, "ab") == first
    (tmp_path / part).write_bytes(b"more")
    assert slide_identity(tmp_path / own, "ab") != first


def test_a_run_that_verifies_trusts_no_note(slide):
    before = slide_identity(slide)
    flip(slide, 5)  # neither size nor mtime tell
    assert slide_identity(slide) == before
    with files.verified(True):
        assert slide_identity(slide) != before


@pytest.fixture
def stage(slide, tmp_path):
    """What the recipe of a stage that reads slides says of them; the manifest may state a sum."""
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters='manifest: str = ""  # in+slides: the manifest\n')

    def recipe(sha256=""):
        rows = ["slide_id,slide_path,feature_path,sha256", f"s,s.tif,,{sha256}", "gone,gone.tif,,"]
        (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
        return recipe_of(notebook, {"manifest": str(tmp_path / "m.csv")})

    return recipe


@pytest.mark.parametrize("sha256", ["", "ab" * 32])
def test_a_replaced_slide_is_another_input_whatever_the_manifest_states(stage, slide, sha256):
    before = stage(sha256)
    assert differences(before._asdict(), stage(sha256)) == []
    flip(slide, 3 << 20, 10**9 + 5)  # as large as before
    assert differences(before._asdict(), stage(sha256)) == ["input manifest changed: 1 file"]
    slide.unlink()
    assert differences(before._asdict(), stage(sha256)) == ["input manifest changed: 1 file"]


@pytest.mark.parametrize("sha256", ["", "ab" * 32])
def test_planning_reads_no_slide_whole(stage, reads, sha256):
    for _ in range(3):
        stage(sha256)
    assert sum(reads) == CHUNKS * CHUNK_BYTES < SIZE / 4


def test_a_stage_and_its_slides_name_a_slide_alike(stage, slide):
    assert stage().inputs["manifest"]["s.tif"] == slide_identity(slide)


def test_planning_goes_on_where_a_slide_cannot_be_read(stage, slide, monkeypatch):
    opened = Path.open

    def broken(self, *args, **kwargs):
        if self.suffix == ".tif":
            raise OSError(5, "Input/output error", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", broken)
    assert stage().inputs["manifest"].keys() == {""}
