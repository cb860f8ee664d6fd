"""What a notebook's code reaches: functions, classes and constants of ours, through any number of steps.

A result depends on these definitions, not on the files that they stand in: each is hashed by what it says, with every
name of ours as the bare name of the definition that it stands for, so that code may move between files. What does not
make a result does not count: comments, docstrings, types of arguments, the words of an error or of a printed line, and
what is told to a tracker.

- What a module does when it is imported counts wherever anything of it is reached.
- A word that is the dotted name of a definition stands for that definition.
- A table of dotted names, as COMPRESSORS, is followed only where a stage picks from it: by a parameter of the table's
  name in the singular, or in the model that it is given; a stage that picks none reaches all of them.
- A module that is used as a value, or asked for what it does not define, is reached whole.
- Figures are reached apart: they draw results and make none. So are a notebook's sentences, and its cells that are
  tagged `figures`.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.code_modules import (
    ON_IMPORT,
    PACKAGE,
    Library,
    Module,
    follow_name,
    is_definition,
    library,
    sort_statements,
)
from slidesieve.provenance.code_words import Picks, Said, parameter_of, table_of, what_is_said
from slidesieve.provenance.parameters import read_cells, template_of

KEEPS_BOOKS = "receipts recipes parameters files folders locks code_reach code_words code_modules syntax"
LIBRARY = Path(__file__).resolve().parents[2]  # the folder that holds the package
BOOKKEEPING = {f"{PACKAGE}.provenance.{name}" for name in KEEPS_BOOKS.split()}
BOOKKEEPING |= {f"{PACKAGE}.datasets.versions"}  # says what a file is called: to learn of one more changes no answer


class Reach(NamedTuple):
    """Definition, as `slidesieve.room.module.name` -> hash: what makes the result, and what only draws it."""

    code: dict[str, str]
    figures: dict[str, str]


def reach(notebook: Path, picks: Picks, root: Path = LIBRARY) -> tuple[str, Reach]:
    """The hash of a notebook's own code (without its parameters and figures cells), and what the code reaches."""
    ours = library(root)
    rows = _tables(ours).rows
    picks = {name: words & rows[name] for name, words in picks.items() if name in rows}
    cells = _code_cells(notebook)
    said = _said_in([source for source, shows in cells if not shows], picks, ours)
    figure_cells = [source for source, shows in cells if shows]
    shown = _said_in([cells[0][0], *figure_cells] if figure_cells else [], picks, ours)  # the first: imports
    code, drawn = _follow(said.names, picks, ours, stop_at_figures=True)
    figures, _ = _follow(drawn | shown.names, picks, ours, stop_at_figures=False, known=code)
    own = {"figures": shown.words if figure_cells else "", "sentences": _sentences(notebook)}
    figures |= {f"{notebook.stem}.{name}": _hash(words) for name, words in own.items() if words}
    return _hash(said.words), Reach(dict(sorted(code.items())), dict(sorted(figures.items())))


def by_meaning(definitions: dict[str, str]) -> dict[str, list[str]]:
    """Bare name -> hashes of the definitions of that name, wherever they stand."""
    found: dict[str, list[str]] = {}
    for name, digest in sorted(definitions.items(), key=lambda row: row[1]):
        found.setdefault(name.rpartition(".")[2], []).append(digest)
    return dict(sorted(found.items()))


def is_figure(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.figures.")


def _said_in(cells: list[str], picks: Picks, ours: Library) -> Said:
    own = sort_statements("", "", "\n".join(cells))
    statements = dict.fromkeys([*own.on_import, *(s for many in own.defined.values() for s in many)])
    return what_is_said(own, sorted(statements, key=lambda s: s.lineno), picks, ours)


def _follow(
    names: Iterable[str], picks: Picks, ours: Library, *, stop_at_figures: bool, known: Iterable[str] = ()
) -> tuple[dict[str, str], set[str]]:
    """Hash what `names` reach but for what is `known`; figures are handed back where they are no part of it."""
    found, todo, figures, tables = dict.fromkeys(known, ""), set(names), set(), _tables(ours).holders
    while todo:
        full = todo.pop()
        module, name, _ = follow_name(full, ours)
        if not module or module in BOOKKEEPING or full in found:
            continue
        if stop_at_figures and is_figure(module):
            figures.add(full)
        elif not name:  # a module as a value
            todo |= {f"{module}.{each}" for each in ours.module(module).defined}
        else:
            said = _said_by(full, ours, frozenset(picks.items() if full in tables else ()))
            found[full] = _hash(said.words)
            todo |= (said.names | _done_on_import(module, ours)) - found.keys()
    return {full: digest for full, digest in found.items() if digest}, figures


def _done_on_import(module: str, ours: Library) -> set[str]:
    parts = module.split(".")
    packages = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return {f"{name}.{ON_IMPORT}" for name in packages if ours.module(name).on_import}


@lru_cache(maxsize=1 << 14)
def _said_by(full: str, ours: Library, picks: frozenset[tuple[str, frozenset[str]]]) -> Said:
    """What a definition says; where a name leads depends on the whole library."""
    return what_is_said(*_statements(full, ours), dict(picks), ours)


def _statements(full: str, ours: Library) -> tuple[Module, list[ast.stmt]]:
    name, _, last = full.rpartition(".")
    module = ours.module(name)
    return module, module.on_import if last == ON_IMPORT else module.defined[last]


class Tables(NamedTuple):
    """Tables of dotted names: parameter -> the rows that it may pick; and the definitions that hold one."""

    rows: dict[str, frozenset[str]]
    holders: frozenset[str]


@lru_cache(maxsize=8)
def _tables(ours: Library) -> Tables:
    """Find every table; what a stage picks matters to no definition but those that hold one."""
    rows, holders = {}, set()
    for name in filter(ours.quotes_itself, ours.files):
        module = ours.module(name)
        for defined, statements in (*module.defined.items(), (ON_IMPORT, module.on_import)):
            for found in filter(None, (_rows_of_ours(s, ours) for s in statements)):
                holders.add(f"{name}.{defined}")
                if defined != ON_IMPORT:
                    rows[parameter_of(defined)] = found
    return Tables(rows, frozenset(holders))


def _rows_of_ours(statement: ast.stmt, ours: Library) -> frozenset[str]:
    """The rows of a statement's last table of which a word leads to a definition of ours."""
    tables = [table_of(node) for node in ast.walk(statement) if isinstance(node, ast.Dict)]
    ours_of = [rows for rows in tables if any(is_definition(dotted, ours) for dotted in rows.values())]
    return frozenset(ours_of[-1] if ours_of else ())


def _code_cells(notebook: Path) -> list[tuple[str, bool]]:
    """A notebook's code cells but for its parameters, and of each whether it only shows what others have made."""
    code = [(c, c["metadata"].get("tags", [])) for c in read_cells(notebook) if c["cell_type"] == "code"]
    return [("".join(c["source"]), "figures" in tags) for c, tags in code if "parameters" not in tags]


def _sentences(notebook: Path) -> str:
    template = template_of(notebook)
    return template.read_text(encoding="utf-8") if template.is_file() else ""


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:16]
