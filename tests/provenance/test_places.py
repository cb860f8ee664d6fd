"""No folder of this machine in what others get to read."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from flows.run.execute import Account, publish
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.places import without_places


def told() -> str:
    return "\n".join(
        [
            f"{ROOT}/lib/a.py:3",
            f"{sys.prefix}/lib/python3.11/site-packages/b.py:4: UserWarning",
            f"{sys.base_prefix}/lib/python3.11/c.py:5",
            "/mnt/cohort/slides/d.svs: no such slide file",
            f"{Path.home()}/other/e.py",
            f"{tempfile.gettempdir()}/ipykernel_4711/123.py:1",
            "a / b and /dev/null",
        ]
    )


KEPT = [
    "lib/a.py:3",
    "lib/python3.11/site-packages/b.py:4: UserWarning",
    "lib/python3.11/c.py:5",
    "DATA_ROOT/slides/d.svs: no such slide file",
    "~/other/e.py",
    "123.py:1",
    "a / b and /dev/null",
]


def test_folders_are_taken_out_and_what_is_in_them_stays(monkeypatch):
    monkeypatch.setenv("DATA_ROOT", "/mnt/cohort")
    assert without_places(told()).splitlines() == KEPT
    monkeypatch.setenv("DATA_ROOT", "/")
    assert without_places("/mnt/x /y") == "/mnt/x /y"
    inside = f"/mnt{Path.home()}/x https://a.example{Path.home()}/x"
    assert without_places(inside) == inside


def test_an_executed_copy_and_its_page_hold_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", "/mnt/cohort")
    outputs = [new_output("stream", name="stderr", text=told())]
    outputs.append(new_output("error", ename="ValueError", evalue=told(), traceback=told().splitlines()))
    nbformat.write(new_notebook(cells=[new_code_cell("x", outputs=outputs)]), tmp_path / "50_tiny.partial.ipynb")
    publish(tmp_path, "50_tiny", Account(False, told(), "code cell 1 of 1: x"), [])
    for suffix in ("ipynb", "html"):
        text = (tmp_path / f"50_tiny.failed.{suffix}").read_text(encoding="utf-8")
        for folder in (
            f"{ROOT}/",
            f"{sys.prefix}/",
            f"{sys.base_prefix}/",
            f"{Path.home()}/",
            "/mnt/cohort",
            "ipykernel_",
        ):
            assert folder not in text
        assert text.count("site-packages/b.py:4") == {"ipynb": 3, "html": 3}[suffix]
