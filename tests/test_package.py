"""The package installs by itself, is light to import, and answers at the command line."""

import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.plan.notebooks import NOTEBOOKS, notebook_named
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import read_parameters

SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = ("papermill", "prefect", "openslide", "transformers", "peft", "pandas", "matplotlib")


def test_every_room_is_installed_and_so_are_the_notebooks():
    rooms = {p.parent.relative_to(ROOT / "lib") for p in (ROOT / "lib").rglob("__init__.py")}
    rooms |= {p.parent.relative_to(ROOT) for p in (ROOT / "flows").rglob("__init__.py")}
    assert {".".join(room.parts) for room in rooms} | {"flows.notebooks"} == set(
        SETUP["tool"]["setuptools"]["packages"]
    )
    assert SETUP["tool"]["setuptools"]["package-dir"]["flows.notebooks"] == "notebooks"


def test_a_method_is_imported_without_the_machinery_around_it():
    code = "import sys; from slidesieve.compressors.sparselearn import SparseLearn; SparseLearn(16, 3, tau=0.1)\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert run.stdout.strip() == "[]"


def test_help_lists_the_notebooks_and_a_notebook_s_parameters_with_their_help():
    everything = CliRunner().invoke(cli.app, ["notebook", "--help"])
    assert everything.exit_code == 0
    assert all(path.stem in everything.stdout for path in NOTEBOOKS.glob("*.ipynb"))
    one = CliRunner().invoke(cli.app, ["notebook", "50_tune_answers", "--help"])
    assert one.exit_code == 0
    for parameter in read_parameters(NOTEBOOKS / "50_tune_answers.ipynb").values():
        assert f"{parameter.name}: {parameter.type} = {parameter.default!r}\n      {parameter.help}" in one.stdout


def test_a_notebook_is_found_by_its_first_words_and_a_misspelt_one_is_told(tmp_path):
    assert notebook_named("50") == notebook_named("50_tune_answers") == NOTEBOOKS / "50_tune_answers.ipynb"
    assert notebook_named("mine/70.ipynb").name == "70.ipynb"
    with pytest.raises(ValueError, match="notebook: got '50_tune_answer'; did you mean '50_tune_answers'"):
        notebook_named("50_tune_answer")
    told = CliRunner().invoke(cli.app, ["notebook", "5", "--out", str(tmp_path / "x")])
    assert told.exit_code == 2 and "error: notebook: got '5'; there are 00_audit_manifest" in told.stdout


def test_the_tree_of_the_layout_names_every_module():
    tree = (ROOT / "docs/layout.md").read_text()
    lists = "".join(line for line in tree.splitlines() if line.count(",") > 2)
    modules = [p for top in ("lib/slidesieve", "flows") for p in (ROOT / top).rglob("*.py") if p.stem != "__init__"]
    named = {p.stem for p in modules if not {"synthetic", "figures"} & set(p.parts)}
    assert {name for name in named if f" {name}.py " not in tree and name not in lists} == set()
