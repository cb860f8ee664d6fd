"""What a stage's result depends on: notebook code, the lib code it imports, its parameters, the content of its inputs.

Two recipes are compared part by part, so that a rerun can say why. Left out on purpose: `run:` parameters, package
versions (the receipt records them), and the bookkeeping modules themselves.
"""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from lib.code_hashes import lib_hashes, notebook_hash
from lib.file_hashes import RECEIPT, ROOT, file_stamp, files_under, hash_file, outputs_of, resolve
from lib.parameters import Parameter, check_parameters, read_parameters
from lib.weight_hashes import snapshot

FOR_PEOPLE = (".png", "ledger.csv")  # outputs of a stage that no later stage computes with


class Recipe(NamedTuple):
    """Everything that decides a stage's outputs; hashes are hex, `inputs` maps parameter -> file -> hash."""

    notebook: str
    lib: dict[str, str]
    parameters: dict[str, object]
    inputs: dict[str, dict[str, str]]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self._asdict(), sort_keys=True).encode()).hexdigest()[:16]


def recipe_of(notebook: Path, given: dict[str, object]) -> Recipe:
    """Compute the recipe of `notebook` run with `given` over its defaults; a wrong parameter or absent input raises."""
    declared = read_parameters(notebook)
    values = check_parameters(declared, given, notebook=notebook.stem)
    recipe = {n: v for n, v in values.items() if declared[n].role == "recipe"}
    inputs = {}
    for name, parameter in declared.items():
        if parameter.role.startswith("in"):
            inputs[name] = _hash_input(parameter, values[name])
    return Recipe(notebook_hash(notebook), lib_hashes(notebook), recipe, inputs)


def differences(old: dict, new: Recipe) -> list[str]:
    """Phrase each difference between a recorded recipe and a present one, e.g. `k 32 -> 16`."""
    reasons = [] if old["notebook"] == new.notebook else ["code of the notebook changed"]
    reasons += [f"code of {m} changed" for m in sorted(old["lib"].keys() & new.lib) if old["lib"][m] != new.lib[m]]
    reasons += [f"now uses {m}" for m in sorted(new.lib.keys() - old["lib"].keys())]
    reasons += [f"no longer uses {m}" for m in sorted(old["lib"].keys() - new.lib.keys())]
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


def _hash_input(parameter: Parameter, value: str | list[str]) -> dict[str, str]:
    """Map file -> hash for one input; the entries of a list are told apart by their last path component."""
    if isinstance(value, list):
        labels = [Path(v).name for v in value]
        labels = labels if len(set(labels)) == len(labels) else [f"{i}" for i in range(len(value))]
        parts = [(label, _hash_input(parameter, v)) for label, v in zip(labels, value, strict=True)]
        return {f"{label}/{file}": sha for label, part in parts for file, sha in part.items()}
    if not value:
        return {}
    path = resolve(value)
    if path.is_dir() and (path / RECEIPT).exists():
        return {f: sha[:16] for f, sha in outputs_of(path).items() if not f.endswith(FOR_PEOPLE)}
    if path.is_dir():
        return {f: hash_file(path / f)[:16] for f in files_under(path)}
    if path.is_file():
        named = _named_files(path, slides=parameter.role == "in+slides") if path.suffix == ".csv" else {}
        return {"": hash_file(path)[:16]} | named
    if is_model_id(parameter, value):
        cached = snapshot(value)  # a folder named by its commit: a model that the hub has changed is another input
        return {value: cached.name[:16] if cached else "id"}
    raise FileNotFoundError(
        f"input {parameter.name}: {value} not found under {ROOT}; run the stage that makes it, or correct the path"
    )


def _named_files(table: Path, *, slides: bool) -> dict[str, str]:
    """Fingerprint a manifest's files: features by content, slides by their sha256 column or by size and mtime."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"slide_id", "feature_path"} <= rows[0].keys():
        return {}
    root = Path(os.environ.get("DATA_ROOT") or table.parent)
    features = {row["feature_path"] for row in rows if row["feature_path"]}
    hashes = {p: hash_file(root / p)[:16] for p in sorted(features) if (root / p).is_file()}
    for row in rows if slides else []:
        path = root / (row.get("slide_path") or "")
        if path.is_file():
            hashes[row["slide_path"]] = row.get("sha256") or "{}-{}".format(*file_stamp(path))
    return hashes
