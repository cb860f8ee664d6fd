"""The source of a published model: of the package's own modules, the definitions that it needs, word for word.

There is one truth: what is published is cut out of these modules, none of it is written a second time. A definition is
taken if a name in another leads to it; of a class, its fields and those methods whose names are said somewhere, so that
training, which nothing here asks for, stays out. A module becomes a file beside the others (`models_chat.py`), imports
of ours become relative ones, a table of compressors keeps the rows that are picked, and a dotted name that is looked up
at run time stands for the file it has become. `STAND_INS` take the place of what is not there.
"""

import ast
import re
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.code_modules import Import, Library, Module, follow_name, imports_of, is_definition, library
from slidesieve.provenance.code_reach import LIBRARY
from slidesieve.provenance.code_words import Picks, parameter_of, table_of
from slidesieve.provenance.parameters import parse

PORTABLE = "slidesieve.exports.portable"
STAND_INS = {f"jaxtyping.{name}": f"{PORTABLE}.Shaped" for name in ("Bool", "Float", "Int")}
STAND_INS |= {"einops.rearrange": f"{PORTABLE}.rearrange"}
STAND_INS |= {"slidesieve.provenance.files.hash_file": f"{PORTABLE}.hash_file"}
CALLED_UNNAMED = {"forward"}
WORDS = ast.Name | ast.Attribute | ast.Constant | ast.Import | ast.ImportFrom
HEADER = "# Cut out of {module} by `slidesieve export` ({version}): change it there, not here. Licence: Apache-2.0.\n"


class Edit(NamedTuple):
    """Bytes of a module's source to put something else in the place of."""

    start: int
    stop: int
    text: str


class Cut:
    """The definitions that some roots reach: `files()` gives each module's file and text."""

    def __init__(self, roots: Mapping[str, str], picks: Picks, *, version: str, root: Path = LIBRARY):
        """`roots`: the definitions to start from, whole, by dotted name -> the name of their module's file."""
        self.ours: Library = library(root)
        self.picks, self.version = picks, version
        self.roots = set(roots)
        self.names = {full.rpartition(".")[0]: name for full, name in roots.items()}
        self.reached, self.said, self.looked_up = set(roots), set(), set()
        self.leads: dict[str, str] = {}  # dotted name -> what it stands for
        size, read = -1, set()
        while size != (size := len(self.reached) + len(self.said)):
            for full in sorted(self.reached - read):
                self._read(full)
                read |= set() if self._is_class(full) else {full}  # of a class more is taken as more is said

    def files(self) -> dict[str, str]:
        """File name -> text, of every module that has a definition here."""
        modules = sorted({full.rpartition(".")[0] for full in self.reached})
        return {f"{self.file_of(name)}.py": self._written(name) for name in modules}

    def file_of(self, module: str) -> str:
        """The name, without its ending, of a module's file in the folder."""
        return self.names.get(module) or "_".join(module.split(".")[1:])

    def _read(self, full: str) -> None:
        """Take up what a definition says: names of ours, and words that may be a method's name."""
        module = self._module(full)
        for node in self._words(full):
            if isinstance(node, ast.Import | ast.ImportFrom):
                raise ValueError(f"{full}: imports inside a function; expected none there; move them to the top")
            if isinstance(node, ast.Name):
                self.said.add(node.id)
                local = f"{module.name}.{node.id}" if node.id in module.defined else module.imported.get(node.id, "")
                self.reached |= {self._meant(local)} - {""}
            elif isinstance(node, ast.Attribute):
                self.said.add(node.attr)
            else:
                self.said |= {node.value} if node.value.isidentifier() else set()
                if meant := self._quoted(node):
                    self.reached.add(meant)
                    self.looked_up.add(meant)

    def _meant(self, dotted: str) -> str:
        """The definition of ours that a dotted name, or what stands in for it, leads to; "": none of ours."""
        if dotted not in self.leads:
            lead = follow_name(STAND_INS.get(dotted, dotted), self.ours)
            full = f"{lead.module}.{lead.name}"
            if lead.module and not lead.name:
                raise ValueError(f"{dotted}: a module as a value; expected the name of a definition; import that")
            self.leads[dotted] = STAND_INS.get(full, full) if lead.module else ""
        return self.leads[dotted]

    def _quoted(self, node: ast.AST) -> str:
        """The definition of ours that a text is the dotted name of; "": none."""
        named = isinstance(node, ast.Constant) and node.value.startswith("slidesieve.")
        return self._meant(node.value) if named and is_definition(node.value, self.ours) else ""

    def _module(self, full: str) -> Module:
        return self.ours.module(full.rpartition(".")[0])

    def _is_class(self, full: str) -> bool:
        return any(isinstance(each.statement, ast.ClassDef) for each in anatomies(full, self.ours))

    def _words(self, full: str) -> Iterator[ast.AST]:
        """The words of a definition, but for methods that are left out and rows that are not picked."""
        for each in anatomies(full, self.ours):
            left_out = set(self._left_out(full, each))
            yield from each.rest
            yield from (word for part, words in each.parts.items() if part not in left_out for word in words)

    def _left_out(self, full: str, each: "Anatomy") -> list[ast.AST]:
        """Methods of a class that nobody names, and keys and values of a table that nobody picks."""
        if isinstance(each.statement, ast.ClassDef):
            return [] if full in self.roots else [n for n in each.parts if not self._is_called(n.name)]
        dropped = []
        for table in each.tables:
            picked = self.picks[parameter_of(full.rpartition(".")[2])]
            pairs = zip(table.keys, table.values, strict=True)
            dropped += [node for pair in pairs if pair[0].value not in picked for node in pair]
        return dropped

    def _is_called(self, name: str) -> bool:
        return name in self.said or name in CALLED_UNNAMED or (name.startswith("__") and name.endswith("__"))

    def _written(self, name: str) -> str:
        """A module's file: its docstring, the imports it needs, and its definitions as they stand."""
        source = Source(self.ours.files[name].read_text(encoding="utf-8"))
        fulls = {full for full in self.reached if full.rpartition(".")[0] == name}
        found = {id(each.statement): (each, full) for full in sorted(fulls) for each in anatomies(full, self.ours)}
        kept = sorted(found.values(), key=lambda row: row[0].statement.lineno)
        used = {word.id for full in fulls for word in self._words(full) if isinstance(word, ast.Name)}
        parts = [source.text_of(each.statement, self._edits(full, each, source)) for each, full in kept]
        head = HEADER.format(module=name, version=self.version) + source.docstring()
        text = "\n".join([head, *self._imports(name, source, used), "", *parts]).rstrip() + "\n"
        return re.sub(r"\n{4,}", "\n\n\n", text)

    def _edits(self, full: str, each: "Anatomy", source: "Source") -> list[Edit]:
        dropped = self._left_out(full, each)
        edits = [Edit(*source.whole(node), "") for node in dropped if isinstance(node, ast.stmt)]
        keys = [node for node in dropped if isinstance(node, ast.expr)]
        edits += [Edit(*source.row(key, value), "") for key, value in zip(keys[::2], keys[1::2], strict=True)]
        first, last = source.span(each.statement)
        for word in self._words(full):
            if (meant := self._quoted(word)) and first <= source.span(word)[0] < last:
                module, _, name = meant.rpartition(".")
                edits.append(Edit(*source.span(word), f'f"{{__package__}}.{self.file_of(module)}.{name}"'))
        return edits

    def _imports(self, name: str, source: "Source", used: set[str]) -> list[str]:
        """Import lines for the names in use; those of ours come last, and say what they have become."""
        theirs, inner = [], {}
        for node in (n for n in source.tree.body if isinstance(n, Import)):
            outer = []
            for alias in node.names:
                one = type(node)(**{**dict(ast.iter_fields(node)), "names": [alias]})
                ((local, dotted),) = imports_of(one, self.ours.module(name).package).items()
                if local in used and (full := self._meant(dotted)):
                    inner[local] = full
                elif local in used:
                    outer.append(alias)
            if outer:
                theirs.append(ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), "names": outer})))
        if any(full.rpartition(".")[0] == name for full in self.roots):  # so that every file is found, and comes along
            inner |= {full.rpartition(".")[2]: full for full in self.looked_up}
        lines: dict[str, list[str]] = {}
        for local, full in sorted(inner.items()):
            module, _, last = full.rpartition(".")
            lines.setdefault(self.file_of(module), []).append(last if local == last else f"{last} as {local}")
        return [*theirs, "", *(f"from .{file} import {', '.join(names)}" for file, names in sorted(lines.items()))]


class Anatomy(NamedTuple):
    """The words of a statement (names, attributes, texts, imports): of each part that may be left out, and the rest."""

    statement: ast.stmt
    rest: list[ast.AST]
    parts: dict[ast.AST, list[ast.AST]]  # methods, or keys and values of the tables
    tables: list[ast.Dict]  # of definitions of ours


@lru_cache(maxsize=1 << 13)
def anatomies(full: str, ours: Library) -> list[Anatomy]:
    """The statements of a definition; one module is cut for many models."""
    module, _, name = full.rpartition(".")
    return [_anatomy(statement, ours) for statement in ours.module(module).defined[name]]


def _anatomy(statement: ast.stmt, ours: Library) -> Anatomy:
    is_class = isinstance(statement, ast.ClassDef)
    methods = [n for n in statement.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)] if is_class else []
    dicts = [] if is_class else [node for node in ast.walk(statement) if isinstance(node, ast.Dict)]
    tables = [t for t in dicts if any(is_definition(dotted, ours) for dotted in table_of(t).values())]
    parts = {part: _words_of(part) for part in [*methods, *(n for t in tables for n in (*t.keys, *t.values))]}
    return Anatomy(statement, _words_of(statement, but=parts), parts, tables)


def _words_of(node: ast.AST, but: Container[ast.AST] = ()) -> list[ast.AST]:
    words, todo = [], [node]
    while todo:
        node = todo.pop()
        if isinstance(node, WORDS) and not (isinstance(node, ast.Constant) and not isinstance(node.value, str)):
            words.append(node)
        todo += (child for child in ast.iter_child_nodes(node) if child not in but)
    return words


class Source:
    """A module's text, and where its syntax stands in it, in bytes."""

    def __init__(self, text: str):
        self.bytes, self.tree = text.encode(), parse(text)
        self.lines = self.bytes.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def docstring(self) -> str:
        first = self.tree.body[0]
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        return self.bytes[slice(*self.span(first))].decode() + "\n" if is_text else ""

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def row(self, key: ast.expr, value: ast.expr) -> tuple[int, int]:
        """A row of a table: its comma included, and all of its lines where it has them for itself."""
        start, stop = self.span(key)[0], self.span(value)[1]
        stop += len(re.match(rb",? *\n?", self.bytes[stop:]).group())
        line = self.starts[key.lineno - 1]
        return (start if self.bytes[line:start].strip() else line), stop

    def whole(self, node: ast.stmt) -> tuple[int, int]:
        """Whole lines of a definition: decorators, the comments and the empty lines above it."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while first > 1 and self.lines[first - 2].lstrip().startswith(b"#"):
            first -= 1
        while first > 1 and not self.lines[first - 2].strip():
            first -= 1
        return self.starts[first - 1], self.starts[node.end_lineno]

    def text_of(self, statement: ast.stmt, edits: list[Edit]) -> str:
        start, stop = self.whole(statement)
        text = self.bytes
        for edit in sorted(edits, reverse=True):
            text = text[: edit.start] + edit.text.encode() + text[edit.stop :]
            stop += len(edit.text.encode()) - (edit.stop - edit.start)
        return text[start:stop].decode().rstrip("\n")
