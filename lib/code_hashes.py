"""Hashes of code: of a notebook's cells, and of every lib module it imports, directly or through another.

Code is hashed by its syntax tree without docstrings: comments, layout and markdown do not count. The hash is the same
under every Python that we run on, so that another interpreter finds the work of the former one up to date.
"""

import ast
import hashlib
from pathlib import Path

from lib.file_hashes import ROOT
from lib.parameters import read_cells
from lib.syntax import parse

BOOKKEEPING = {"lib.receipts", "lib.recipes", "lib.parameters", "lib.file_hashes", "lib.code_hashes", "lib.syntax"}


def notebook_hash(notebook: Path) -> str:
    return _code_hash("\n".join(_code_cells(notebook)))


def lib_hashes(notebook: Path, root: Path = ROOT) -> dict[str, str]:
    """Hash every lib module that the notebook imports, directly or through another."""
    todo, hashes = _imports("\n".join(_code_cells(notebook)), "", root), {}
    while todo:
        module = todo.pop()
        if module not in hashes and module not in BOOKKEEPING:
            source = _module_file(module, root).read_text(encoding="utf-8")
            hashes[module] = _code_hash(source)
            todo |= _imports(source, module, root)
    return dict(sorted(hashes.items()))


def _code_cells(notebook: Path) -> list[str]:
    code = [c for c in read_cells(notebook) if c["cell_type"] == "code"]
    return ["".join(c["source"]) for c in code if "parameters" not in c["metadata"].get("tags", [])]


def _imports(source: str, module: str, root: Path) -> set[str]:
    """List the lib modules (packages included) named by the import statements of `source`, which is `module`."""
    names = set()
    package = module if module and _module_file(module, root).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    with_parents = {".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count(".") + 1)}
    return {n for n in with_parents if n.split(".")[0] == "lib" and _module_file(n, root)}


def _module_file(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _code_hash(source: str) -> str:
    """Hash code by its syntax tree without docstrings, so that comments and layout do not count."""
    tree = parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    return hashlib.sha256(_words(tree).encode()).hexdigest()[:16]


def _words(node: object) -> str:
    """Write out a syntax tree without what is empty: Pythons differ in that, and in what `ast.dump` leaves out."""
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        if isinstance(node, ast.JoinedStr):  # 3.12 ends f"{x:>{y}}" with an empty text
            fields["values"] = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
        return f"{type(node).__name__}({', '.join(f'{name}={_words(value)}' for name, value in fields.items())})"
    return f"[{', '.join(map(_words, node))}]" if isinstance(node, list) else repr(node)
