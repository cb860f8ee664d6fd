"""What a definition says, as far as a result depends on it, and the names of ours that it says it with."""

import ast
from typing import NamedTuple

from slidesieve.provenance.code_modules import (
    PACKAGE,
    Import,
    Lead,
    Library,
    Module,
    follow_name,
    imports_of,
    is_definition,
)

TELLS_OTHERS = f"{PACKAGE}.training.tracking"  # a call of it that stands by itself makes no result
Picks = dict[str, frozenset[str]]  # what a stage is told: parameter -> words, some of which may be rows of its table


class Said(NamedTuple):
    """A definition's words, and the definitions and modules of ours in them, by their dotted names."""

    words: str
    names: frozenset[str]


def what_is_said(module: Module, statements: list[ast.stmt], picks: Picks, ours: Library) -> Said:
    """What statements of a module say; of a table that is picked from, the rows that are picked."""
    reader = _Reader(module, picks, ours)
    cleaned = [reader.visit(copy_of(s)) for s in statements]
    return Said(written([s for s in cleaned if s is not None]), frozenset(reader.names))


def parameter_of(table: str) -> str:
    """The parameter that picks from a table: its name in the singular."""
    return table.lower().removesuffix("s")


class _Reader(ast.NodeTransformer):
    """Leave out what makes no result, write each name as what it stands for, and note those of ours."""

    def __init__(self, module: Module, picks: Picks, ours: Library):
        self.module, self.picks, self.ours = module, picks, ours
        self.imported, self.names = dict(module.imported), set()
        self.in_function, self.assigned = False, ""

    def visit_Import(self, node: Import) -> None:
        self.imported |= imports_of(node, self.module.package)

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        for inner in ast.walk(node):  # imports inside count for the whole function, wherever they stand
            if isinstance(inner, Import):
                self.visit_Import(inner)
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        before, self.in_function = self.in_function, True
        node = self.generic_visit(_without_docstring(node))
        self.in_function = before
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        before, self.in_function = self.in_function, False
        node = self.generic_visit(_without_docstring(node))
        self.in_function = before
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if not self.in_function:  # a field of a class
            return self.generic_visit(node)
        return self.visit(ast.Assign(targets=[node.target], value=node.value)) if node.value else None

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        before, self.assigned = self.assigned, node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
        node = self.generic_visit(node)
        self.assigned = before
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and any(lead.module == TELLS_OTHERS for lead in self._leads(call.func)):
            return None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            call.keywords = [word for word in call.keywords if word.arg != "end"]
            for inner in ast.walk(call):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    inner.value = ""
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        rows = table_of(node)
        ours = {key for key, dotted in rows.items() if is_definition(dotted, self.ours)}
        if not ours:
            return self.generic_visit(node)
        picked = self.picks.get(parameter_of(self.assigned), rows.keys())
        kept = [key for key in rows if key in picked]
        self.names |= {rows[key] for key in kept if key in ours}
        bare = [f"{key}: {rows[key].rpartition('.')[2]}" for key in kept]
        return ast.Tuple(elts=[ast.Constant(value=row) for row in bare], ctx=ast.Load())

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """A word that is the dotted name of a definition of ours stands for it."""
        if not (isinstance(node.value, str) and is_definition(node.value, self.ours)):
            return node
        lead = follow_name(node.value, self.ours)
        self.names.add(f"{lead.module}.{lead.name}")
        return ast.Constant(value=lead.name)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        is_new = isinstance(node.ctx, ast.Store) and node.id not in self.imported
        return node if is_new else self._written(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._written(node) if _dotted(node) else self.generic_visit(node)

    def _leads(self, node: ast.AST) -> list[Lead]:
        """What a dotted name stands for here; none where it is no name, or a name of the definition's own."""
        first, *rest = _dotted(node) or [""]
        starts = [f"{self.module.name}.{first}"] if self.module.name and first in self.module.defined else []
        starts += [self.imported[first]] if first in self.imported else []
        return [follow_name(".".join([start, *rest]), self.ours) for start in starts]

    def _written(self, node: ast.AST) -> ast.AST:
        """A dotted name as what it stands for: a definition's bare name, or an import in full."""
        leads = self._leads(node)
        self.names |= {f"{lead.module}.{lead.name}".rstrip(".") for lead in leads if lead.module}
        if not leads:
            return node
        return ast.Name(id=".".join([leads[0].name or "a module of ours", *leads[0].asked]), ctx=ast.Load())


def table_of(node: ast.Dict) -> dict[str, str]:
    """The rows of a display of words by words, "" for any other value."""
    return {_text(key): _text(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}


def copy_of(node: object) -> object:
    """A tree to change (`copy.deepcopy` takes ten times as long)."""
    if isinstance(node, list):
        return [copy_of(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    return type(node)(**{name: copy_of(value) for name, value in ast.iter_fields(node)})


def written(node: object) -> str:
    """Write out a syntax tree without what is empty: Pythons differ in that, and in what `ast.dump` leaves out."""
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        if isinstance(node, ast.JoinedStr):  # 3.12 ends f"{x:>{y}}" with an empty text
            fields["values"] = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
        return f"{type(node).__name__}({', '.join(f'{name}={written(value)}' for name, value in fields.items())})"
    return f"[{', '.join(map(written, node))}]" if isinstance(node, list) else repr(node)


def _dotted(node: ast.AST) -> list[str]:
    """The parts of a dotted name; none for what is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts, node = [node.attr, *parts], node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def _without_docstring(node: ast.AST) -> ast.AST:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        node.body = node.body[1:]
    return node


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
