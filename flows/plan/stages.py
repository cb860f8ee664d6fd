"""A stage is one notebook, one folder, one set of parameters.

It needs another stage if one of its inputs lies in that stage's folder; nothing else is declared anywhere.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import Parameter, check_parameters, nearest, parse_value, read_parameters
from slidesieve.provenance.recipes import is_model_id


class Stage(NamedTuple):
    """One notebook run: `parameters` are what differs from the notebook's defaults, `needs` the ids it waits for."""

    id: str
    notebook: Path
    out_dir: str
    parameters: dict[str, object]
    needs: tuple[str, ...] = ()


def make_stage(notebook: Path, *, id: str, out_dir: str, offered: dict[str, object]) -> Stage:
    """Make a stage from those of the offered values that its notebook has parameters for; check their types."""
    declared = declared_of(notebook)
    parameters = {n: v for n, v in offered.items() if n in declared}
    check_parameters(declared, parameters, notebook=notebook.stem)
    return Stage(id, notebook, out_dir, parameters)


def with_needs(stages: list[Stage]) -> list[Stage]:
    """Fill in what each stage needs: the earlier stages in whose folders its inputs lie."""
    done: list[Stage] = []
    places: dict[Path, int] = {}
    for place, stage in enumerate(stages):
        needs = {places[folder] for _, path in _inputs(stage) for folder in _folders_of(path) if folder in places}
        done.append(stage._replace(needs=tuple(stages[i].id for i in sorted(needs))))
        places[ROOT / stage.out_dir] = place
    return done


def apply_settings(stages: list[Stage], words: tuple[str, ...]) -> list[Stage]:
    """Apply `name=value` to every stage that has the parameter, `50.name=value` to the stages whose id begins so.

    A name that is no parameter of a stage's notebook is an option of its compressor, or nothing to it.
    """
    for word in words:
        key, equals, text = word.partition("=")
        prefix, _, name = key.rpartition(".")
        if not equals or name == "out_dir":
            raise ValueError(f"-p {word}: write name=value or STAGE.name=value; out_dir is the flow's own")
        within = [s for s in stages if re.match(re.escape(prefix) + r"(?![^_/])", s.id)] if prefix else stages
        if not within:
            raise ValueError(f"-p {word}: no stage begins with {prefix}; there are {', '.join(s.id for s in stages)}")
        changed = {s.id: s._replace(parameters=s.parameters | took) for s in within if (took := _taken(s, name, text))}
        if not changed:
            raise ValueError(f"-p {word}: {_nothing_like(name, within)}")
        stages = [changed.get(s.id, s) for s in stages]
    return stages


def _taken(stage: Stage, name: str, text: str) -> dict[str, object]:
    """What a stage makes of a word: a parameter of its notebook, or an option of its compressor."""
    declared = declared_of(stage.notebook)
    if name in declared:
        return {name: parse_value(declared[name], text)}
    known = _options_of(stage)
    if name not in known:
        return {}
    given = stage.parameters.get("options", {}) | {name: parse_value(_as_parameter(known[name]), text)}
    return {"options": given}


def _nothing_like(name: str, stages: list[Stage]) -> str:
    parameters = {name for stage in stages for name in declared_of(stage.notebook)}
    taking = [stage for stage in stages if "options" in declared_of(stage.notebook)]
    options = {_compressor_of(stage): _options_of(stage) for stage in taking}
    close = nearest(name, parameters.union(*options.values()))
    if not options or ("did you mean" in close and not _is_of_another_method(name)):
        return f"no notebook of these has a parameter {name!r}{close}"
    told = "; ".join(f"{of} has {', '.join(known) or 'none'}" for of, known in options.items())
    return f"{name!r} is neither a parameter of these notebooks nor an option of their compressors: {told}"


def _is_of_another_method(name: str) -> bool:
    from slidesieve.compressors.registry import COMPRESSORS
    from slidesieve.models.options import all_options_of

    return any(name in all_options_of(compressor) for compressor in COMPRESSORS)


def check_stage_options(stages: list[Stage]) -> None:
    """Raise ValueError if a stage gives its compressor an option that it does not have, or a value not allowed."""
    for stage in stages:
        if given := stage.parameters.get("options"):
            from slidesieve.models.options import check_options

            check_options(_options_of(stage), given, of=f"{stage.id}, {_compressor_of(stage)}")


def _options_of(stage: Stage) -> dict:
    """The options of a stage's compressor; none where its notebook takes none."""
    if "options" not in declared_of(stage.notebook):
        return {}
    from slidesieve.models.options import all_options_of  # torch takes seconds to import

    return all_options_of(_compressor_of(stage))


def _compressor_of(stage: Stage) -> str:
    return str(values_of(stage)["compressor"])


def _as_parameter(option) -> Parameter:
    return Parameter(option.name, option.type, option.default, "an option of the compressor", "recipe")


def check_inputs(stages: list[Stage]) -> None:
    """Raise ValueError naming the inputs that neither exist nor are made by one of the stages."""
    absent, made, there = {}, {ROOT / stage.out_dir for stage in stages}, set()
    for stage in stages:
        for parameter, path in _inputs(stage):
            if path in there or any(folder in made for folder in _folders_of(path)):
                continue
            if (ROOT / path).exists() or is_model_id(parameter, path):
                there.add(path)
            else:
                absent.setdefault(f"{parameter.name} = {path}", stage.id)
    if absent:
        named = "; ".join(f"{what} (for {id})" for what, id in absent.items())
        raise ValueError(f"inputs that do not exist: {named}; correct the paths")


def values_of(stage: Stage) -> dict[str, object]:
    """Every parameter of the stage's notebook with its value: given, or its default."""
    return check_parameters(declared_of(stage.notebook), stage.parameters, notebook=stage.notebook.stem)


def changes_of(stage: Stage) -> dict[str, object]:
    """The parameters given that differ from the notebook's defaults; no paths."""
    declared = declared_of(stage.notebook)
    own = {n: v for n, v in stage.parameters.items() if "in" not in declared[n].role.split("+")}
    return {n: v for n, v in own.items() if v != declared[n].default}


def declared_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, read once while it is the same."""
    if not notebook.exists():
        raise ValueError(f"no notebook {notebook}")
    return _read(notebook, notebook.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(notebook: Path, mtime_ns: int) -> dict[str, Parameter]:
    """A plan asks for a notebook's parameters hundreds of times."""
    return read_parameters(notebook)


def _inputs(stage: Stage) -> list[tuple[Parameter, str]]:
    """List every path that the stage reads, with the parameter that names it."""
    declared = declared_of(stage.notebook)
    named = [(p, stage.parameters.get(n, p.default)) for n, p in declared.items() if "in" in p.role.split("+")]
    return [(p, path) for p, value in named for path in (value if isinstance(value, list) else [value]) if path]


@lru_cache(maxsize=1 << 16)
def _folders_of(path: str) -> tuple[Path, ...]:
    """A path, and the folders that it lies in."""
    return ROOT / path, *(ROOT / path).parents


def lies_in(path: str, folder: str) -> bool:
    return (ROOT / path).is_relative_to(ROOT / folder)
