"""Modules of ours, read without being imported: what each defines, and where a dotted name leads."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.parameters import parse

PACKAGE = "slidesieve"
ON_IMPORT = "on import"
QUOTED = re.compile(rf"""["']{PACKAGE}\.""")
Import = ast.Import | ast.ImportFrom
Compound = ast.If | ast.Try | ast.For | ast.With


class Module(NamedTuple):
    """The statements of a module by the names that they define, what its other names stand for, and the rest."""

    name: str
    package: str  # what relative imports start from
    defined: dict[str, list[ast.stmt]]
    imported: dict[str, str]
    on_import: list[ast.stmt]


class Library:
    """The modules of ours under a root, as they stand when it is made."""

    def __init__(self, root: Path):
        self.files: dict[str, Path] = {}
        for path in sorted((root / PACKAGE).rglob("*.py")):  # a folder's module comes after a file's of its name
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            self.files.setdefault(name.removesuffix(".__init__"), path)

    def module(self, name: str) -> Module:
        """Read a module; a folder without `__init__.py` defines nothing."""
        path = self.files.get(name)
        return _read(name, path, path.stat().st_mtime_ns) if path else Module(name, name, {}, {}, [])

    def quotes_itself(self, name: str) -> bool:
        """Say whether a module holds a word that may be a dotted name of ours: few do, and a table has several."""
        return bool(QUOTED.search(self.files[name].read_text(encoding="utf-8")))


def library(root: Path) -> Library:
    """The library under `root` as it stands now; the same object as long as no file of it has changed."""
    return _library(root, tuple(sorted((str(p), p.stat().st_mtime_ns) for p in (root / PACKAGE).rglob("*.py"))))


@lru_cache(maxsize=8)
def _library(root: Path, _version: tuple) -> Library:
    return Library(root)


class Lead(NamedTuple):
    """Where a dotted name leads: to a definition of a module of ours and what is asked of it, or away (no module)."""

    module: str
    name: str  # "": the module as a whole; if there is no module, the dotted name in full
    asked: tuple[str, ...] = ()


def follow_name(dotted: str, ours: Library) -> Lead:
    """Find what a dotted name stands for, through any number of imports."""
    parts = dotted.split(".")
    sizes = range(len(parts), 0, -1) if parts[0] == PACKAGE else ()
    size = next((n for n in sizes if ".".join(parts[:n]) in ours.files), 0)
    if not size:
        return Lead("", dotted)
    name, rest = ".".join(parts[:size]), parts[size:]
    if not rest:
        return Lead(name, "")
    module, (first, *asked) = ours.module(name), rest
    if first in module.defined or first == ON_IMPORT:
        return Lead(name, first, tuple(asked))
    if first in module.imported:
        return follow_name(".".join([module.imported[first], *asked]), ours)
    return Lead(name, "", tuple(rest))


def is_definition(dotted: str, ours: Library) -> bool:
    """Say whether a dotted name leads to a function, class or constant of ours."""
    lead = follow_name(dotted, ours)
    return bool(lead.module and lead.name)


@lru_cache(maxsize=1024)
def _read(name: str, path: Path, mtime_ns: int) -> Module:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return sort_statements(name, package, path.read_text(encoding="utf-8"))


def sort_statements(name: str, package: str, source: str) -> Module:
    """Sort a module's statements; one that defines several names, or does so in a case, stands under each."""
    module = Module(name, package, {}, {}, [])
    for statement in parse(source).body:
        if isinstance(statement, Import):
            module.imported.update(imports_of(statement, package))
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        names = list(_names(statement))
        for each in names:
            module.defined.setdefault(each, []).append(statement)
        if not names or isinstance(statement, Compound):
            module.on_import.append(statement)
            for inner in ast.walk(statement):
                if isinstance(inner, Import):
                    module.imported.update(imports_of(inner, package))
    return module


def imports_of(node: Import, package: str) -> dict[str, str]:
    """Local name -> the dotted name that an import gives it."""
    if isinstance(node, ast.Import):
        return {a.asname or _first(a.name): a.name if a.asname else _first(a.name) for a in node.names}
    parts = package.split(".")
    outer = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*outer, *filter(None, [node.module])])
    return {a.asname or a.name: f"{base}.{a.name}" for a in node.names}


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | Compound):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _first(dotted: str) -> str:
    return dotted.partition(".")[0]
