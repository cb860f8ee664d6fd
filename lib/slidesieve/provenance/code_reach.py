"""What a notebook's code reaches: functions, classes and constants of ours, through any number of steps.

A result depends on these definitions, not on the files that they stand in: each is hashed by what it says, with every
name of ours as the bare name of the definition that it stands for, so that code may move between files. What does not
make a result does not count: comments, docstrings, types of arguments, the words of an error or of a printed line.

- What a module does when it is imported counts wherever anything of it is reached.
- A word that is the dotted name of a definition stands for that definition.
- A table of dotted names, as COMPRESSORS, is followed only where a stage picks from it: by a parameter of the table's
  name in the singular, or in the model that it is given; a stage that picks none reaches all of them.
- A module that is used as a value, or asked for what it does not define, is reached whole.
- Figures are reached apart: they draw results and make none.
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


class Reach(NamedTuple):
    """Definition, as `slidesieve.room.module.name` -> hash: what makes the result, and what only draws it."""

    code: dict[str, str]
    figures: dict[str, str]


def reach(notebook: Path, picks: Picks, root: Path = LIBRARY) -> tuple[str, Reach]:
    """The hash of a notebook's own code (parameters cell left out) and sentences, and what the code reaches."""
    ours = library(root)
    tables = _tables(ours)
    picks = {name: words & tables[name] for name, words in picks.items() if name in tables}
    own = sort_statements("", "", "\n".join(_code_cells(notebook)))
    statements = dict.fromkeys([*own.on_import, *(s for many in own.defined.values() for s in many)])
    said = what_is_said(own, sorted(statements, key=lambda s: s.lineno), picks, ours)
    code, drawn = _follow(said.names, picks, ours, stop_at_figures=True)
    figures, _ = _follow(drawn, picks, ours, stop_at_figures=False, known=code)
    return _hash(said.words + _sentences(notebook)), Reach(dict(sorted(code.items())), dict(sorted(figures.items())))


def by_meaning(definitions: dict[str, str]) -> dict[str, list[str]]:
    """Bare name -> hashes of the definitions of that name, wherever they stand."""
    found: dict[str, list[str]] = {}
    for name, digest in sorted(definitions.items(), key=lambda row: row[1]):
        found.setdefault(name.rpartition(".")[2], []).append(digest)
    return dict(sorted(found.items()))


def is_figure(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.figures.")


def _follow(
    names: Iterable[str], picks: Picks, ours: Library, *, stop_at_figures: bool, known: Iterable[str] = ()
) -> tuple[dict[str, str], set[str]]:
    """Hash what `names` reach but for what is `known`; figures are handed back where they are no part of it."""
    found, todo, figures = dict.fromkeys(known, ""), set(names), set()
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
            said = _said_by(full, ours, frozenset(picks.items() if _has_table(full, ours) else ()))
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


@lru_cache(maxsize=1 << 14)
def _has_table(full: str, ours: Library) -> bool:
    """Say whether a definition holds a table of dotted names: what a stage picks matters to no other."""
    return any(_rows_of_ours(node, ours) for s in _statements(full, ours)[1] for node in ast.walk(s))


def _statements(full: str, ours: Library) -> tuple[Module, list[ast.stmt]]:
    name, _, last = full.rpartition(".")
    module = ours.module(name)
    return module, module.on_import if last == ON_IMPORT else module.defined[last]


def _rows_of_ours(node: ast.AST, ours: Library) -> frozenset[str]:
    rows = table_of(node) if isinstance(node, ast.Dict) else {}
    return frozenset(rows if any(is_definition(dotted, ours) for dotted in rows.values()) else ())


@lru_cache(maxsize=8)
def _tables(ours: Library) -> dict[str, frozenset[str]]:
    """Parameter -> the rows that it may pick, of each table of dotted names."""
    found = {}
    for name in ours.files:
        for defined, statements in ours.module(name).defined.items():
            for node in ast.walk(ast.Module(body=statements, type_ignores=[])):
                if rows := _rows_of_ours(node, ours):
                    found[parameter_of(defined)] = rows
    return found


def _code_cells(notebook: Path) -> list[str]:
    code = [c for c in read_cells(notebook) if c["cell_type"] == "code"]
    return ["".join(c["source"]) for c in code if "parameters" not in c["metadata"].get("tags", [])]


def _sentences(notebook: Path) -> str:
    template = template_of(notebook)
    return template.read_text(encoding="utf-8") if template.is_file() else ""


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:16]
