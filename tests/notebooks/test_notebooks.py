"""What every notebook keeps to, checked without running any."""

import ast
import json
import re
import symtable
from difflib import get_close_matches
from pathlib import Path

import pytest
from papermill import inspect_notebook

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import ROLES, read_cells, read_parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[str]:
    return ["".join(c["source"]) for c in read_cells(notebook) if c["cell_type"] == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def test_its_name_is_number_verb_object(notebook):
    assert re.fullmatch(r"\d\d_[a-z]+(_[a-z]+)+", notebook.stem)


def test_it_is_committed_without_outputs_and_with_nothing_but_tags(notebook):
    for cell in read_cells(notebook):
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_its_cell_ids_are_there_and_distinct(notebook):
    ids = [cell["id"] for cell in read_cells(notebook)]
    assert len(set(ids)) == len(ids)
    assert json.loads(notebook.read_text())["metadata"]["kernelspec"]["name"] == "python3"


def test_it_opens_with_its_question_and_what_it_reads_and_writes(notebook):
    first = read_cells(notebook)[0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown" and text.startswith("# ")
    assert all(word in text.lower() for word in ("?", "reads", "writes", "takes"))


def test_imports_then_parameters_then_begin_and_finish_last(notebook):
    cells = [c for c in read_cells(notebook) if c["cell_type"] == "code"]
    code = code_cells(notebook)
    tagged = [i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == [1]
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(code[0]).body)
    assert f'receipts.begin("{notebook.stem}", globals())' in code[2]
    assert "stage.finish(" in code[-1] and sum("stage.finish(" in c for c in code) == 1


def test_a_cell_that_shows_makes_nothing_that_others_use(notebook):
    """Cells tagged `figures` count for no result, so none may hang on what they set."""
    cells = [c for c in read_cells(notebook) if c["cell_type"] == "code"]
    shows = ["figures" in c["metadata"].get("tags", []) for c in cells]
    scopes = [symtable.symtable("".join(c["source"]), notebook.stem, "exec") for c in cells]
    set_there = {s.get_name() for top, shown in zip(scopes, shows, strict=True) if shown for s in assigned_in(top)}
    used = {name for top, shown in zip(scopes, shows, strict=True) if not shown for name in names_in(top)}
    assert set_there & used == set() and not shows[0] and not shows[-1]


def assigned_in(top: symtable.SymbolTable) -> list[symtable.Symbol]:
    return [symbol for symbol in top.get_symbols() if symbol.is_assigned()]


def names_in(scope: symtable.SymbolTable) -> set[str]:
    """The notebook's own names in a scope and in those within it: none that only a comprehension knows."""
    own = {s.get_name() for s in scope.get_symbols() if scope.get_type() == "module" or s.is_global()}
    return own.union(*map(names_in, scope.get_children()))


def test_its_parameters_are_typed_with_help_and_papermill_reads_the_same(notebook):
    ours, theirs = read_parameters(notebook), inspect_notebook(str(notebook))
    assert theirs.keys() <= ours.keys()  # Papermill loses a line whose help holds an equals sign
    for name in theirs:
        parameter = ours[name]
        assert theirs[name]["help"] == parameter.help
        assert theirs[name]["inferred_type_name"] == parameter.type
        assert ast.literal_eval(theirs[name]["default"]) == parameter.default


def test_its_folder_is_a_run_parameter_and_roles_are_spelt_right(notebook):
    parameters = read_parameters(notebook)
    assert parameters["out_dir"].role == "run"
    for parameter in parameters.values():
        head = re.match(r"([a-z+]+):", parameter.help)
        assert head is None or head[1] in ROLES or not get_close_matches(head[1], ROLES, cutoff=0.7)


def test_it_holds_no_paths_of_a_machine_no_magics_and_no_classes(notebook):
    source = "\n".join(code_cells(notebook))
    assert not re.search(r"""["'](/|~/|[A-Z]:\\)""", source)
    assert not re.search(r"^\s*[%!]", source, flags=re.MULTILINE)
    assert "sys.path" not in source
    tree = ast.parse(source)
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
    assert sum(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)) <= 1


def test_where_one_figure_is_described_all_are(notebook):
    source = "\n".join(code_cells(notebook))
    if "style.show(" in source:
        assert source.count("style.show(") == source.count("alt=alt") and "style.save(" not in source


def test_it_is_short(notebook):
    lines = [line for cell in code_cells(notebook) for line in cell.splitlines() if line.strip()]
    assert len(read_cells(notebook)) <= 40 and len(lines) <= 160


@pytest.mark.parametrize("name", ["40_align_captions", "50_tune_answers"])
def test_a_temperature_is_part_of_the_recipe_of_what_softens_and_of_nothing_else(name):
    parameters = read_parameters(ROOT / "notebooks" / f"{name}.ipynb")
    given = {known.name: known.default for known in parameters.values()}
    cooled = [known for word, known in parameters.items() if word.startswith("tau_")]
    assert len(cooled) == 4
    for compressor, made in COMPRESSORS.items():
        assert {known.is_read(given | {"compressor": compressor}) for known in cooled} == {made.softens}, compressor
