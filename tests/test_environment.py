"""One list of versions: pyproject's direct dependencies, the lock, and environment.yml agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from slidesieve.provenance.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(r) for r in (*PROJECT["dependencies"], *EXTRAS["dev"])]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line]
LOCKED = {canonicalize_name(r.name): str(r.specifier) for r in LOCK}


def test_the_lock_holds_exact_versions_and_no_addresses():
    assert len(LOCKED) == len(LOCK) > 100
    assert all(re.fullmatch(r"==[\w.]+", version) for version in LOCKED.values())
    assert LOCKED["torch"] == "==2.13.0"


def test_the_lock_holds_for_every_python_and_brings_what_only_some_need():
    pythons = [f"3.{minor}" for minor in range(9, 17) if f"3.{minor}" in SpecifierSet(PROJECT["requires-python"])]
    assert pythons == ["3.11", "3.12", "3.13"]
    only = {r.name: [p for p in pythons if r.marker.evaluate({"python_version": p})] for r in LOCK if r.marker}
    assert only["aiohttp"] == ["3.12"] and only["whenever"] == ["3.13"]  # papermill's and prefect's wishes


def test_direct_dependencies_are_pinned_as_in_the_lock():
    assert {r.name: str(r.specifier) for r in DIRECT} == {r.name: LOCKED[canonicalize_name(r.name)] for r in DIRECT}


def test_environment_yml_is_in_step_and_gives_a_reason_on_each_line():
    text = (ROOT / "environment.yml").read_text()
    entries = yaml.safe_load(text)["dependencies"]
    python = next(e for e in entries if isinstance(e, str) and e.startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    pinned = [Requirement(e) for e in entries[-1]["pip"] if "==" in e]
    direct = {r.name: str(r.specifier) for r in DIRECT}
    assert pinned and all(direct[r.name] == str(r.specifier) for r in pinned)
    lines = [line for line in text.split("dependencies:")[1].splitlines() if line.strip() and line.strip() != "- pip:"]
    assert all("  # " in line for line in lines)


def test_what_the_code_imports_is_declared():
    files = [p for folder in ("lib", "flows", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    roots = {root for path in files for root in _roots(path.read_text(encoding="utf-8"))}
    own = {p.stem for p in files} | {"slidesieve", "flows", "benchmarks"} | set(sys.stdlib_module_names)
    owners = packages_distributions()
    declared = [*DIRECT, *(Requirement(r) for extra in EXTRAS.values() for r in extra)]
    names = {canonicalize_name(r.name) for r in declared}
    undeclared = {r for r in roots - own if not {canonicalize_name(d) for d in owners.get(r, [r])} & names}
    assert undeclared == set()


def _roots(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
