"""Which settings of two experiments differ, by what their receipts say: parameters, inputs, code, software, methods.

Stages of one name and tag are compared (`50_tune_answers/all_s0` with the same of the other). What an experiment made
itself (features, checkpoints) is no setting: whatever makes it differ is named where it stands. A change that several
stages share is one row.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from slidesieve.answers.controls import is_control
from slidesieve.answers.names import run_name
from slidesieve.experiments.found import COMPARED, Experiment
from slidesieve.provenance.code_reach import by_meaning

INPUTS = {"lm": "language model", "questions": "question file", "open_questions": "open questions"}
SOFTWARE = ("python", "device")
SHOWN = 4  # names in a cell; more are counted
ABSENT, OWN = "not there", "made by itself"
MADE = ("answers", "checkpoint", "start", "tiles", "others", "captions_stage")  # by an experiment itself
TAKEN_OUT = ("compressor", "k", "seed", "method")  # a stage's tag, and its method's row, say these


class Setting(NamedTuple):
    """What differs, where (stages and runs; "": everywhere), and both values in words."""

    what: str
    where: str
    one: str
    other: str


class Settings(NamedTuple):
    """Rows that differ, and how many parameters and inputs are the same in both."""

    differing: list[Setting]
    same: int


def compare_settings(one: Experiment, other: Experiment) -> Settings:
    """Compare two experiments by their receipts: what a reader asks for first stands first."""
    common = [stage for stage in one.receipts if stage in other.receipts]
    found = [*_of_stages(one, other, common, _inputs), *_of_stages(one, other, common, _parameters)]
    rows, same = (
        _merged(found),
        len({(stage.partition("/")[0], what) for stage, what, a, b in found if _content(a) == _content(b)}),
    )
    return Settings([*_runs(one, other), *_stages(one, other), *rows, *_code(one, other), *_software(one, other)], same)


def code_of(experiment: Experiment) -> str:
    """Eight hex digits of all definitions that results of an experiment depend on, wherever they stand."""
    told = json.dumps(by_meaning(_definitions(experiment)), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _of_stages(one: Experiment, other: Experiment, common: Iterable[str], part) -> Iterator[tuple[str, str, str, str]]:
    """(stage, what, value, other value) of each value in a part of the receipts; "": the stage does not read it."""
    for stage in common:
        a, b = (part(stage, experiment.receipts[stage]) for experiment in (one, other))
        yield from ((stage, what, a.get(what, ""), b.get(what, "")) for what in dict.fromkeys([*a, *b]))


def _parameters(stage: str, receipt: dict) -> dict[str, str]:
    given = receipt["recipe"].get("parameters", {})
    return {name: _said(value) for name, value in given.items() if name not in TAKEN_OUT and _said(value) != ""}


def _inputs(stage: str, receipt: dict) -> dict[str, str]:
    """What a stage was given, as path and content in two lines; OWN is the path of what the experiment made itself."""
    given, own = receipt.get("given", {}), str(receipt.get("given", {}).get("out_dir", "")).removesuffix(stage)
    told = {}
    for name, files in receipt["recipe"].get("inputs", {}).items():
        if not files or name in MADE:
            continue
        paths = given.get(name) if isinstance(given.get(name), list) else [given.get(name)]
        inside = bool(own) and any(str(path).startswith(own) for path in paths)
        whole = {"": files[""]} if "" in files else files  # a manifest's own words, not its slides' files
        content = next(iter(files)) if "id" in files.values() else _short(whole)
        told[INPUTS.get(name, name.replace("_", " "))] = f"{OWN if inside else _listed(_ends(paths))}\n{content}"
    return told


def _ends(paths: list[object]) -> list[str]:
    """Paths as given, absolute ones by their end alone: where a machine keeps its files is nobody's setting."""
    return [
        "/".join(PurePath(str(path)).parts[-2:]) if PurePath(str(path)).is_absolute() else str(path) for path in paths
    ]


def _merged(found: Iterable[tuple[str, str, str, str]]) -> list[Setting]:
    """One row for each change: in which stages, and in which of their runs if not in all."""
    found = list(found)
    runs: dict[tuple[str, str], set[str]] = {}
    changes: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for stage, what, a, b in found:
        name, _, tag = stage.partition("/")
        runs.setdefault((name, what), set()).add(tag)
        if _content(a) != _content(b) and not (a.startswith(OWN) and b.startswith(OWN)):
            changes.setdefault((what, a, b), {}).setdefault(name, []).append(tag)
    rows = []
    for (what, a, b), where in changes.items():
        told = [n if len(tags) == len(runs[n, what]) else f"{n} ({_listed(tags)})" for n, tags in where.items()]
        rows.append(Setting(what, ", ".join(told), *_in_words(a, b)))
    return rows


def _content(value: str) -> str:
    return value.partition("\n")[2] or value


def _in_words(a: str, b: str) -> tuple[str, str]:
    """Two values; of files the paths, with their content's hash where the paths are the same."""
    if "\n" not in a + b:
        return a or ABSENT, b or ABSENT
    paths = [value.partition("\n")[0] for value in (a, b)]
    told = [value.replace("\n", ", content ") for value in (a, b)] if paths[0] == paths[1] else paths
    return told[0] or ABSENT, told[1] or ABSENT


def _runs(one: Experiment, other: Experiment) -> list[Setting]:
    """Methods that only one of them has, and seeds of a method that only one of them has."""
    a, b = (_seeds(experiment) for experiment in (one, other))
    rows = []
    if a.keys() != b.keys():
        told = [_listed([run_name(*run) for run in own if run not in rest]) for own, rest in ((a, b), (b, a))]
        rows.append(Setting("methods that the other has not", "", told[0] or "none", told[1] or "none"))
    changed: dict[tuple[str, str], list[str]] = {}
    for run in a.keys() & b.keys():
        if a[run] != b[run]:
            changed.setdefault((a[run], b[run]), []).append(run_name(*run))
    whole = len(changed) == 1 and len(next(iter(changed.values()))) == len(a.keys() & b.keys())
    return rows + [Setting("seeds", "" if whole else _listed(sorted(r)), *pair) for pair, r in sorted(changed.items())]


def _seeds(experiment: Experiment) -> dict[tuple[str, int], str]:
    own = experiment.answers[~experiment.answers["method"].map(is_control)]
    runs = own.groupby(["method", "k"], sort=False)["seed"].unique()
    return {(method, int(k)): ", ".join(map(str, sorted(seeds))) for (method, k), seeds in runs.items()}


def _stages(one: Experiment, other: Experiment) -> list[Setting]:
    """Kinds of stages up to the answers that only one of them has (an alignment, a pre-training)."""
    a, b = ({stage.partition("/")[0] for stage in own.receipts if stage < COMPARED} for own in (one, other))
    if a == b:
        return []
    return [
        Setting("stages that the other has not", "", _listed(sorted(a - b)) or "none", _listed(sorted(b - a)) or "none")
    ]


def _code(one: Experiment, other: Experiment) -> list[Setting]:
    """The commits, if results depend on code that differs, and what is called how that does."""
    common = one.receipts.keys() & other.receipts.keys()
    a, b = (_definitions(experiment, common) for experiment in (one, other))
    was, now = by_meaning(a), by_meaning(b)
    full = {name.rpartition(".")[2]: name for name in (a | b)}
    names = sorted(full[name] for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if not names:
        return []
    commits = [experiment.commits or f"not told, {code_of(experiment)}" for experiment in (one, other)]
    many = f"{len(names)} definition{'s' * (len(names) > 1)} that results depend on: "
    return [Setting("code", many + _listed([name.removeprefix("slidesieve.") for name in names]), *commits)]


def _definitions(experiment: Experiment, stages: Iterable[str] | None = None) -> dict[str, str]:
    """Definition, or notebook, -> hash, of the stages whose results count."""
    told: dict[str, str] = {}
    for stage in sorted(experiment.receipts if stages is None else stages):
        recipe, name = experiment.receipts[stage]["recipe"], stage.partition("/")[0]
        told |= recipe.get("code", {}) | ({f"notebooks.{name}": recipe["notebook"]} if "notebook" in recipe else {})
    return told


def _software(one: Experiment, other: Experiment) -> list[Setting]:
    a, b = (_environment(experiment) for experiment in (one, other))
    return [
        Setting(name, "", a.get(name, ABSENT), b.get(name, ABSENT)) for name in {**a, **b} if a.get(name) != b.get(name)
    ]


def _environment(experiment: Experiment) -> dict[str, str]:
    """Versions and device, all that its stages had."""
    found: dict[str, set[str]] = {}
    for receipt in experiment.receipts.values():
        told = receipt.get("environment", {})
        own = {name: told[name] for name in SOFTWARE if name in told} | told.get("packages", {})
        for name, value in own.items():
            found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(files: dict[str, str]) -> str:
    if list(files) == [""]:
        return files[""][:8]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:8]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN + 1 else ""
    return ", ".join(names[: SHOWN if more else SHOWN + 1]) + more
