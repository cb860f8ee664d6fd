"""What a stage's result depends on: its notebook's code and what that reaches, its parameters, its inputs' content.

Two recipes are compared part by part, so that a rerun can say why. Left out on purpose: `run:` parameters and those
that the notebook does not read, package versions (the receipt records them), the bookkeeping modules themselves. The
figures have a part of their own: drawn by older code, they are still pictures of the same result.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.code_reach import by_meaning, reach
from slidesieve.provenance.code_words import Picks
from slidesieve.provenance.files import ROOT, files_under, hash_file, outputs_of, read_json, resolve
from slidesieve.provenance.folders import FIGURES, is_of_a_stage
from slidesieve.provenance.parameters import Parameter, check_parameters, read_parameters
from slidesieve.provenance.slide_identity import slide_identity
from slidesieve.provenance.table_files import posix, read_columns, read_names, split_part
from slidesieve.provenance.weights import snapshot

FOR_PEOPLE = (".png", "ledger.csv")  # outputs of a stage that no later stage computes with
MOST_SAID = 4  # definitions of figures in one line


_SEEN: ContextVar[dict | None] = ContextVar("what was looked up in this block", default=None)


@contextmanager
def looked_up_once() -> Iterator[None]:
    """Within the block look at each input, and at what each notebook reaches, once, however many stages ask for it."""
    token = _SEEN.set({})
    try:
        yield
    finally:
        _SEEN.reset(token)


class Recipe(NamedTuple):
    """Everything that decides a stage's outputs; hashes are hex, `inputs` maps parameter -> file -> hash.

    `code` and `figures` map each definition that the notebook reaches, as `slidesieve.room.module.name`, to its hash.
    """

    notebook: str
    code: dict[str, str]
    figures: dict[str, str]
    parameters: dict[str, object]
    inputs: dict[str, dict[str, str]]

    @property
    def digest(self) -> str:
        """Hash the recipe: neither the figures nor where a definition stands is part of it."""
        told = self._asdict() | {"code": by_meaning(self.code)}
        told.pop("figures")
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def recipe_of(notebook: Path, given: dict[str, object]) -> Recipe:
    """Compute the recipe of `notebook` run with `given` over its defaults; a wrong parameter or absent input raises."""
    declared = _once(notebook, lambda: read_parameters(notebook))
    values = check_parameters(declared, given, notebook=notebook.stem)
    read = {n: v for n, v in values.items() if declared[n].is_read(values)}
    recipe = {n: v for n, v in read.items() if declared[n].role == "recipe"}
    inputs = {n: _hash_input(declared[n], v) for n, v in read.items() if declared[n].role.startswith("in")}
    picks = _picks(recipe, [read[n] for n in inputs])
    own, (code, figures) = _once((notebook, frozenset(picks.items())), lambda: reach(notebook, picks))
    return Recipe(own, code, figures, recipe, inputs)


def _once(key: object, look: Callable[[], object]) -> object:
    seen = _SEEN.get()
    if seen is None:
        return look()
    if key not in seen:
        seen[key] = look()
    return seen[key]


def _picks(recipe: dict[str, object], inputs: list[str | list[str]]) -> Picks:
    """What a stage picks code by: its parameters, and what the models that it is given were built with."""
    told = [recipe]
    for path in [p for given in inputs for p in ([given] if isinstance(given, str) else given) if p]:
        model = resolve(path) / "model" / "model.json"
        told += [_config(model)] if model.is_file() else []
    values = [value for each in told for value in each.values()]
    words = {w for value in values for w in (value if isinstance(value, list) else [value]) if isinstance(w, str)}
    return dict.fromkeys([name for each in told for name in each], frozenset(words))


def _config(model: Path) -> dict:
    config = read_json(model)
    if not isinstance(config, dict):
        raise ValueError(f"{model}: got {type(config).__name__}; expected what a model was built with; train it again")
    return config


def differences(old: dict, new: Recipe) -> list[str]:
    """Phrase each difference between a recorded recipe and a present one, e.g. `k 32 -> 16`."""
    if "code" not in old:
        return ["its receipt was written by an earlier version, which hashed whole files"]
    reasons = [] if old["notebook"] == new.notebook else ["code of the notebook changed"]
    reasons += _code_differences(old["code"], new.code)
    was, now = old["parameters"], json.loads(json.dumps(new.parameters))
    reasons += [f"{n} {was[n]} -> {now[n]}" for n in now if n in was and was[n] != now[n]]
    reasons += [f"parameter {n} is new" for n in now if n not in was] + [
        f"parameter {n} is gone" for n in was if n not in now
    ]
    for name in sorted(old["inputs"].keys() | new.inputs.keys()):
        a, b = old["inputs"].get(name, {}), new.inputs.get(name, {})
        changed = sum(a.get(f) != b.get(f) for f in a.keys() | b.keys())
        if changed:
            reasons.append(f"input {name} changed: {changed} file{'s' * (changed > 1)}")
    return reasons


def redrawn(old: dict, new: Recipe) -> list[str]:
    """Name the figures' code that has changed since a recorded recipe was run, some of it where it is much."""
    found = _code_differences(old.get("figures", {}), new.figures)
    return found if len(found) <= MOST_SAID else [*found[:MOST_SAID], f"and {len(found) - MOST_SAID} more"]


def _code_differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Phrase what changed between two sets of definitions; one that only moved did not."""
    if old == new:
        return []
    was, now = by_meaning(old), by_meaning(new)
    full = {name.rpartition(".")[2]: name for name in (old | new)}
    reasons = [f"code of {full[n]} changed" for n in was.keys() & now.keys() if was[n] != now[n]]
    reasons += [f"now uses {full[n]}" for n in now.keys() - was.keys()]
    return sorted(reasons) + sorted(f"no longer uses {full[n]}" for n in was.keys() - now.keys())


def is_model_id(parameter: Parameter, value: str) -> bool:
    """Say whether an input that is no path names a model on a hub: `owner/name`, or `name`."""
    return "path or id" in parameter.help and value.count("/") <= 1 and not value.startswith((".", "/", "~"))


def with_fetched_models(recipe: Recipe) -> Recipe:
    """Say which commit a hub id stood for that was not in the cache when the stage began."""
    inputs = {
        name: {f: (s.name[:16] if sha == "id" and (s := snapshot(f)) else sha) for f, sha in files.items()}
        for name, files in recipe.inputs.items()
    }
    return recipe._replace(inputs=inputs)


def is_for_people(output: str) -> bool:
    """Say whether no later stage computes with an output of a stage."""
    return output.endswith(FOR_PEOPLE) or output.startswith(f"{FIGURES}/")


def _hash_input(parameter: Parameter, value: str | list[str]) -> dict[str, str]:
    """Map file -> hash for one input; the entries of a list are told apart by their last path component."""
    if isinstance(value, list):
        labels = [Path(v).name for v in value]
        labels = labels if len(set(labels)) == len(labels) else [f"{i}" for i in range(len(value))]
        parts = [(label, _hash_input(parameter, v)) for label, v in zip(labels, value, strict=True)]
        return {f"{label}/{file}": sha for label, part in parts for file, sha in part.items()}
    if not value:
        return {}
    return _once((parameter.role, "path or id" in parameter.help, value), lambda: _hash_one(parameter, value))


def _hash_one(parameter: Parameter, value: str) -> dict[str, str]:
    path = resolve(value)
    if path.is_dir():
        return _hash_folder(path, files_under(path))
    if path.is_file():
        named = _named_files(path, slides=parameter.role == "in+slides") if path.suffix == ".csv" else {}
        return {"": hash_file(path)[:16]} | named
    if is_model_id(parameter, value):
        cached = snapshot(value)  # a folder named by its commit: a model that the hub has changed is another input
        return {value: cached.name[:16] if cached else "id"}
    raise FileNotFoundError(
        f"input {parameter.name}: {value} not found under {ROOT}; run the stage that makes it, or correct the path"
    )


def _hash_folder(folder: Path, files: list[str]) -> dict[str, str]:
    """The outputs of a stage's folder, by its receipt; of any other these files."""
    if is_of_a_stage(folder):
        return {f: sha[:16] for f, sha in outputs_of(folder).items() if not is_for_people(f)}
    return {f: hash_file(folder / f)[:16] for f in files}


def _named_files(table: Path, *, slides: bool) -> dict[str, str]:
    """Fingerprint a manifest's files: features by content, slides by what tells them without reading them whole.

    A slide that cannot be read is left out, as an absent one is: the stage's ledger says so.
    """
    names = read_names(table)
    if "slide_id" not in names or not {"feature_path", "slide_path"} & set(names):  # questions, which may be many
        return {}
    columns = read_columns(table)
    rows = len(columns["slide_id"])
    root = Path(os.environ.get("DATA_ROOT") or table.parent)
    features = {split_part(posix(path))[0] for path in columns.get("feature_path", ()) if path}
    hashes = {p: hash_file(root / p)[:16] for p in sorted(features) if (root / p).is_file()}
    for folder in sorted(p for p in features if (root / p).is_dir()):  # a packed one
        parts = sorted(file.name for file in (root / folder).glob("part_*.h5"))
        hashes |= {f"{folder}/{file}": sha for file, sha in _hash_folder(root / folder, parts).items()}
    named = (columns.get(name, [""] * rows) for name in ("slide_path", "sha256"))
    for relative, sha256 in zip(*named, strict=True) if slides else ():
        with suppress(OSError):
            relative = posix(relative)
            if relative and (root / relative).is_file():
                hashes[relative] = slide_identity(root / relative, sha256)
    return hashes
