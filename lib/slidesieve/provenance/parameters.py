"""The parameters cell of a notebook: names, types, defaults and roles, read without running anything.

Each line of that cell is `name: type = default  # help`. The help's first word gives the role:
  `in:`         a file or folder the notebook reads (or a list of them); its content, not its path, is in the recipe
  `in+slides:`  a manifest whose slide files belong to the recipe too (feature files named in a manifest always do)
  `run:`        how to run (out_dir, workers, device, threads ...); never part of the recipe
  `run+in:`     folders that are waited for and may save work, and change no result; never part of the recipe either
  none          a scientific parameter; its value is part of the recipe
An `in:` whose help says "path or id" may also hold a model id, which then stands for itself; one whose help says "the
demo's stand-in" has a default that serves the demo's own files alone.
An empty string means "not used".

A help may go on with the case in which the notebook reads the parameter at all, as `if compressor is not all: ...`,
`if not start: ...`, `if epochs or regions_first: ...`; in any other case its value is no part of the recipe.
"""

import ast
import difflib
import io
import json
import re
import threading
import tokenize
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

SCALARS = {"str": str, "int": int, "float": float, "bool": bool}
ROLES = ("in+slides", "in", "run+in", "run")
STAND_IN = "the demo's stand-in"
_ONE_AT_A_TIME = threading.Lock()


class Parameter(NamedTuple):
    """One line of a parameters cell."""

    name: str
    type: str
    default: object
    help: str
    role: str
    condition: str = ""  # "" is always read

    def is_read(self, values: dict[str, object]) -> bool:
        """Say whether a notebook with these values of its parameters reads this one."""
        return any(all(_holds(t, values) for t in case.split(" and ")) for case in self.condition.split(" or "))


def parse(source: str) -> ast.Module:
    """Python source -> syntax tree, one thread at a time.

    CPython 3.11 counts the depth of all threads' trees together: two made at once end in a SystemError if garbage is
    collected by Python code in between. A flow hashes the code of several notebooks side by side.
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source)


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the cell tagged `parameters`; raise ValueError listing each faulty line."""
    cells = [c for c in read_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{notebook.name}: {len(cells)} cells tagged `parameters`; tag exactly one")
    source = "".join(cells[0]["source"])
    comments = {
        t.start[0]: t.string.lstrip("# ")
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type == tokenize.COMMENT
    }
    declared, faults = {}, []
    for node in parse(source).body:
        line, fault = comments.get(node.end_lineno, ""), _line_fault(node)
        if fault or not line:
            faults.append(f"line {node.lineno}: {fault or 'no help comment'}")
            continue
        role = next((r for r in ROLES if line.startswith(r + ":")), "recipe")
        default = ast.literal_eval(node.value)
        condition = re.match(r"(?:[a-z+]+: )?if ([^:]+): ", line)
        declared[node.target.id] = Parameter(
            node.target.id, ast.unparse(node.annotation), default, line, role, condition[1] if condition else ""
        )
    for p in declared.values():
        unknown = sorted({_subject(t) for t in re.split(" or | and ", p.condition)} - {*declared, ""})
        faults += [f"{p.name}: read if {name}, which is no parameter" for name in unknown]
    faults += [
        f"{p.name}: default {p.default!r} is not {p.type}" for p in declared.values() if not fits(p.default, p.type)
    ]
    if faults:
        raise ValueError(
            f"{notebook.name}, parameters cell: " + "; ".join(faults) + "; write `name: type = default  # help`"
        )
    return declared


def template_of(notebook: Path) -> Path:
    """Return where a notebook's sentences lie, if it has any: a template beside it."""
    return notebook.with_suffix(".md.j2")


def read_cells(notebook: Path) -> list[dict]:
    """Read a notebook's cells as they stand in its JSON."""
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def check_parameters(declared: dict[str, Parameter], given: dict[str, object], *, notebook: str) -> dict[str, object]:
    """Merge `given` over the defaults; raise ValueError listing every unknown name and wrong type."""
    faults = []
    for name, value in given.items():
        if name not in declared:
            faults.append(f"no parameter {name!r}{nearest(name, declared)}")
        elif not fits(value, declared[name].type):
            faults.append(f"{name} = {value!r} is {type(value).__name__}, expected {declared[name].type}")
    if faults:
        raise ValueError(f"{notebook}: " + "; ".join(faults))
    values = {p.name: p.default for p in declared.values()} | given
    return {n: float(v) if declared[n].type == "float" else v for n, v in values.items()}


def stand_ins_left(declared: dict[str, Parameter], given: Collection[str]) -> dict[str, object]:
    """Map each parameter that nobody gave, and whose default is a stand-in, to that default."""
    return {n: p.default for n, p in declared.items() if STAND_IN in p.help and n not in given}


def check_stand_ins(declared: dict[str, Parameter], given: dict[str, object], *, notebook: str) -> None:
    """Raise ValueError if a stand-in of the demo's would be taken, unasked, beside inputs that are not the demo's."""
    inputs = [n for n, p in declared.items() if p.role.startswith("in") and STAND_IN not in p.help]
    others = [f"{n} = {given[n]}" for n in inputs if given.get(n) and given[n] != declared[n].default]
    for name, default in stand_ins_left(declared, given).items():
        if others:
            raise ValueError(
                f"{notebook}: {name}: got none beside {others[0]}; {default} is the demo's stand-in, for its files; "
                f"name one (-p {name}=PATH_OR_ID), or ask for the stand-in (-p {name}={default})"
            )


def parse_value(parameter: Parameter, text: str) -> object:
    """Turn a command-line word into the parameter's type: lists and dicts as JSON, lists also as `a,b`."""
    base, item = _split_type(parameter.type)
    wrong = ValueError(f"{parameter.name} = {text!r}: expected {parameter.type}")
    if base == "str":
        return text
    if base == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{parameter.name} = {text!r}: expected true or false")
        return text.lower() == "true"
    try:
        if base in SCALARS:
            return SCALARS[base](text)
        if base == "list" and not text.lstrip().startswith("["):
            return [SCALARS[item or "str"](word.strip()) for word in text.split(",") if word.strip()]
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not fits(value, parameter.type):
        raise wrong
    return value


def fits(value: object, annotation: str) -> bool:
    """Say whether `value` has the annotated type; an int passes for a float, a bool never for a number."""
    base, item = _split_type(annotation)
    if base in SCALARS:
        if base == "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        return type(value) is SCALARS[base]
    if base == "list":
        return isinstance(value, list) and (item is None or all(fits(v, item) for v in value))
    return isinstance(value, dict)


def nearest(name: str, known: object) -> str:
    """Phrase a suggestion for a misspelt name, or list what there is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


def _subject(term: str) -> str:
    return term.removeprefix("not ").partition(" is ")[0]


def _holds(term: str, values: dict[str, object]) -> bool:
    """Judge one term of a condition: `name`, `not name`, `name is word`, `name is not word`; "" holds."""
    if not term:
        return True
    value, (_, equals, word) = values[_subject(term)], term.partition(" is ")
    if equals:
        return (str(value) == word.removeprefix("not ")) != word.startswith("not ")
    return bool(value) != term.startswith("not ")


def _split_type(annotation: str) -> tuple[str, str | None]:
    base, _, item = annotation.rstrip("]").partition("[")
    return base, (item or None) if base == "list" else None


def _line_fault(node: ast.stmt) -> str:
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        return f"`{ast.unparse(node)}` is not `name: type = default`"
    base, item = _split_type(ast.unparse(node.annotation))
    if base not in (*SCALARS, "list", "dict") or (item is not None and item not in SCALARS):
        return f"type {ast.unparse(node.annotation)} is not one of {', '.join(SCALARS)}, list, list[...], dict"
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return f"default of {node.target.id} is not a plain value"
    return ""
