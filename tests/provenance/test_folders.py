"""Whose a folder is: what we did not mark is refused before anything in it is touched, by every door."""

import pytest
from tiny_notebooks import write_notebook

from flows.run.notebook import run_notebook
from flows.script import run_cells
from slidesieve.provenance import receipts
from slidesieve.provenance.files import LOCK, MARK, files_under
from slidesieve.provenance.folders import check_folder, claim, mark, marked_files
from slidesieve.provenance.recipes import recipe_of

SOURCES = "sources: list[str] = []  # in: folders\n"
BODY = "(stage.work / 'step.txt').write_text('1')\n(stage.out_dir / 'a.txt').write_text('a')"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    path = write_notebook(tmp_path / "src" / "50_tiny.ipynb", parameters=SOURCES, body=BODY, outputs='["a.txt"]')
    monkeypatch.setenv(receipts.NOTEBOOK_VARIABLE, str(path))
    return path


def by_driver(notebook, out_dir, **given):
    assert run_notebook(notebook, out_dir, given, threads=1).status == "ran"


def by_cells(notebook, out_dir, **given):
    run_cells(notebook, {"out_dir": str(out_dir)} | given)


DOORS = pytest.mark.parametrize("door", [by_driver, by_cells])


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@DOORS
def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(notebook, tmp_path, door):
    out = tmp_path / "mine"
    (out / "work").mkdir(parents=True)
    for name in ("log.txt", "work/thesis.txt", "receipt.json", "50_tiny.ipynb", "process.txt"):
        (out / name).write_text("{}")
    before = contents(out)
    named = r"50_tiny\.ipynb, log\.txt, process\.txt and 2 more"
    with pytest.raises(ValueError, match=rf"mine: holds what slidesieve did not write: {named}; .*give a new one"):
        door(notebook, out)
    assert contents(out) == before


@DOORS
def test_the_folder_of_the_notebook_itself_is_refused(notebook, door):
    before = contents(notebook.parent)
    with pytest.raises(ValueError, match=r"src: holds the notebook itself, 50_tiny\.ipynb.*give a new one"):
        door(notebook, notebook.parent)
    mark(notebook.parent.parent, "50_tiny")  # also where it lies deeper, and whatever the mark says
    with pytest.raises(ValueError, match="holds the notebook itself"):
        door(notebook, notebook.parent.parent)
    assert contents(notebook.parent) == before


@DOORS
def test_another_stage_s_folder_is_refused(notebook, tmp_path, door):
    claim(tmp_path / "out", "20_extract_features")
    with pytest.raises(ValueError, match="out: is the folder of 20_extract_features; expected one for 50_tiny"):
        door(notebook, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {MARK}


@DOORS
def test_a_new_or_empty_folder_is_marked_and_a_note_in_it_outlives_reruns(notebook, tmp_path, door):
    (tmp_path / "out").mkdir()
    door(notebook, tmp_path / "out")
    assert (tmp_path / "out" / MARK).read_text() == "50_tiny\n"
    (tmp_path / "out" / "note.md").write_text("mine")
    (tmp_path / "out" / "deep").mkdir()
    (tmp_path / "out" / "deep" / "b.txt").write_text("mine")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "c.txt").write_text("c")
    door(notebook, tmp_path / "out", sources=[str(tmp_path / "table")])
    assert (tmp_path / "out" / "note.md").read_text() == (tmp_path / "out" / "deep" / "b.txt").read_text() == "mine"


def link_to_mine(folder, link):
    """Put a link at `link` that leads to a file of the user's, or to the folder of it if it has no ending."""
    (folder / "mine").mkdir()
    (folder / "mine" / "a.txt").write_text("mine")
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder / "mine" / ("a.txt" if link.suffix else ""))


@DOORS
def test_a_link_out_of_the_folder_is_refused_and_what_it_leads_to_stays(notebook, tmp_path, door):
    claim(tmp_path / "out", notebook.stem)
    link_to_mine(tmp_path, link := tmp_path / "out" / "a.txt")
    with pytest.raises(ValueError, match=r"out: a.txt is a link to .*mine.*; take the link away"):
        door(notebook, tmp_path / "out")
    assert contents(tmp_path / "mine") == {"a.txt": b"mine"} and link.is_symlink()


@pytest.mark.parametrize("name", ["log.txt", "process.txt", "deep/a.txt", "deep"])
def test_a_link_of_any_name_at_any_depth_is_refused(tmp_path, name):
    claim(tmp_path / "out", "50_tiny")
    link_to_mine(tmp_path, tmp_path / "out" / name)
    with pytest.raises(ValueError, match=rf"out: {name} is a link to .*mine"):
        check_folder(tmp_path / "out", "50_tiny")


def test_links_within_the_folder_and_in_place_of_slides_files_are_no_fault(tmp_path):
    claim(tmp_path / "out", "50_tiny")
    (tmp_path / "archive.h5").touch()
    (tmp_path / "out" / "slide.h5").symlink_to(tmp_path / "archive.h5")
    (tmp_path / "out" / "again.txt").symlink_to("a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    check_folder(tmp_path / "link", "50_tiny")


def test_a_work_folder_of_somebody_else_is_not_emptied(notebook, tmp_path):
    by_cells(notebook, tmp_path / "out")
    (tmp_path / "out" / "work").mkdir()
    (tmp_path / "out" / "work" / "thesis.txt").write_text("mine")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=r"work: holds what slidesieve did not write.*move it away"):
        by_cells(notebook, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before and receipts.RECEIPT in after


def test_the_mark_is_neither_output_nor_input(notebook, tmp_path):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.txt").write_text("a")
    given = {"sources": [str(tmp_path / "table")]}
    before = recipe_of(notebook, given)
    (tmp_path / "table" / "deep").mkdir()
    (tmp_path / "table" / "deep" / MARK).write_text("x\n")
    assert recipe_of(notebook, given) == before
    by_cells(notebook, tmp_path / "out")
    assert files_under(tmp_path / "out") == ["a.txt", "receipt.json"]


def test_folders_of_earlier_versions_are_ours_by_receipt_or_by_copy_and_lock(notebook, tmp_path):
    by_cells(notebook, tmp_path / "done")
    (tmp_path / "done" / MARK).unlink()
    check_folder(tmp_path / "done", "50_tiny")
    with pytest.raises(ValueError, match="is the folder of 50_tiny; expected one for 60_other"):
        check_folder(tmp_path / "done", "60_other")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "50_tiny.partial.ipynb").write_text("{")
    with pytest.raises(ValueError, match="did not write"):
        check_folder(tmp_path / "killed", "50_tiny")
    (tmp_path / "killed" / LOCK).touch()
    check_folder(tmp_path / "killed", "50_tiny")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: is a file; expected a folder for 50_tiny"):
        check_folder(tmp_path / "file", "50_tiny")
    assert marked_files(tmp_path / "absent") == set()


def test_a_folder_whose_stage_has_not_finished_is_no_input(notebook, tmp_path):
    by_cells(notebook, tmp_path / "a")
    (tmp_path / "a" / receipts.RECEIPT).unlink()
    with pytest.raises(FileNotFoundError, match=r"a/receipt\.json: not found; .*has not finished; run it first"):
        recipe_of(notebook, {"sources": [str(tmp_path / "a")]})
