"""The direction of imports: who may know whom."""

import ast
from pathlib import Path

import pytest

from slidesieve.provenance.files import ROOT

# A room imports only from rooms before its own; modules of a room have an order of their own, without circles.
LOW = ["provenance", "cohort", "slides", "features", "datasets", "compressors", "models", "training", "answers"]
ROOMS = [*LOW, "evaluation", "experiments", "mil", "cost", "analyses", "figures", "exports", "synthetic"]
FLOW_ROOMS = ["plan", "run", "report"]
MOST_MODULES, MOST_LINES = 14, 250


def modules() -> dict[str, Path]:
    """Map each module of slidesieve and flows to its file, packages by their own name."""
    files = [
        (p, top)
        for top, package in ((ROOT / "lib", "slidesieve"), (ROOT, "flows"))
        for p in (top / package).rglob("*.py")
    ]
    return {".".join(p.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): p for p, top in files}


MODULES = modules()


def imported(name: str) -> set[str]:
    """List what a module imports, as dotted names; an imported submodule of ours is named in full."""
    names = set()
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            inner = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= inner or {base}
    return names


IMPORTS = {name: imported(name) for name in MODULES}


def users(target: str) -> set[str]:
    return {name for name, names in IMPORTS.items() if any(n == target or n.startswith(f"{target}.") for n in names)}


def room_of(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("slidesieve.")))
def test_rooms_import_one_way(name):
    place = ROOMS.index(room_of(name))
    assert {n for n in IMPORTS[name] if n.startswith("slidesieve.") and ROOMS.index(room_of(n)) > place} == set()


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room_of(n) in FLOW_ROOMS))
def test_rooms_of_flows_import_one_way_and_no_door(name):
    place = FLOW_ROOMS.index(room_of(name))
    inner = {n for n in IMPORTS[name] if n.startswith("flows.")}
    assert {n for n in inner if room_of(n) not in FLOW_ROOMS or FLOW_ROOMS.index(room_of(n)) > place} == set()


def test_modules_import_in_no_circle():
    assert {
        name for name in MODULES if name in set().union(*(reached(n) for n in IMPORTS[name] & MODULES.keys()))
    } == set()


def test_compressors_stand_alone():
    """One paper, one file: a compressor needs nothing of ours but its interface and its blocks."""
    inner = {
        n for name in MODULES if room_of(name) == "compressors" for n in IMPORTS[name] if n.startswith("slidesieve")
    }
    assert {n for n in inner if room_of(n) != "compressors"} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_says_what_it_holds(room):
    inside = [n for n in MODULES if room_of(n) == room and n.count(".") == 2]
    assert 0 < len(inside) <= MOST_MODULES or room == "synthetic"  # of the toy alone: a file a kind of thing
    face = MODULES[f"slidesieve.{room}"].read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(face)) and len(ast.parse(face).body) == 1  # no face that exports again


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_is_short(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def reached(name: str) -> set[str]:
    """List all that a module imports, and what that imports in turn."""
    seen, ahead = set(), {name}
    while ahead:
        one = ahead.pop()
        seen.add(one)
        ahead |= IMPORTS.get(one, set()) - seen
    return seen


@pytest.mark.parametrize(
    "name",
    [
        "slidesieve.training.loop",
        "slidesieve.models.checkpoints",
        "slidesieve.answers.answering",
        "slidesieve.features.readers",
        "slidesieve.cost.measure",
    ],
)
def test_training_and_answering_need_no_slides(name):
    """A GPU machine that has features needs no OpenSlide."""
    assert {n.split(".")[0] for n in reached(f"slidesieve.{name}")} & {
        "openslide",
        "tifffile",
        "imagecodecs",
        "papermill",
    } == set()


def test_the_package_knows_no_orchestration():
    assert {n for tool in ("prefect", "papermill", "flows") for n in users(tool) if _in(n, "slidesieve")} == set()


def test_only_figures_draw():
    assert {n for n in users("matplotlib") if room_of(n) != "figures"} == set()


def test_nothing_imports_the_toy():
    assert {n for n in users("slidesieve.synthetic") if not _in(n, "slidesieve.synthetic")} == set()


def test_one_notebook_needs_no_prefect():
    """An ephemeral Prefect start costs as much as ten notebooks."""
    reached, todo = set(), {"flows.notebook", "flows.run.notebook", "flows.run.launch", "flows.run.execute"}
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= {n for n in IMPORTS[name] if n in MODULES} - reached
    assert {n for n in reached if n in users("prefect")} == set()


def test_flows_hold_no_tensors():
    assert {n for tool in ("torch", "numpy", "pandas") for n in users(tool) if _in(n, "flows")} == set()


def _in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
