"""The direction of imports: who may know whom."""

import ast
from pathlib import Path

import pytest

from lib.file_hashes import ROOT

# A lib module imports only from names before its own; a package counts as one name. A new module gets its place here.
LIST = """
whole_files syntax parameters file_hashes weight_hashes code_modules code_words code_reach recipes receipts
manifest site_order audit features slides slide_pixels tiling overviews stain_texture encoders
batch bag_files feature_csv importers ledger slide_loop tile_jobs encode_jobs
soft_topk compressors positions standardised mae prompts token_budget attention_masks decoder_families language_model
prefix_lm latent_reader method_options flops vlm checkpoints answer_sums shares
questions slideinstruct slidechat_cohort benchmark_tables examples validation stats selection answers
classification published comparison variants head_to_head budget label_cohort scoring answer_costs
feed launch_training run_files run_state training_step training mae_training reconstruction
mil mil_models mil_cohort mil_tasks mil_folds mil_scores
lengths token_maps slots gate_mass soft_hard leak leak_tiles soft_hard_words redundancy relevance
cost_models cost activations cost_tables
plan_sizes plan_work plan_memory plan_cost plan_pretraining plan_table
plots slide_plots length_plots variant_plots token_plots soft_hard_plots mil_plots slot_plots mae_plots
redundancy_plots cost_plots head_to_head_plots synthetic
"""
ORDER = LIST.split()


def modules() -> dict[str, Path]:
    """Map each module of lib and flows to its file, packages by their own name."""
    files = [p for package in ("lib", "flows") for p in (ROOT / package).rglob("*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


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


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("lib.")))
def test_lib_imports_run_one_way(name):
    place = ORDER.index(name.split(".")[1])
    inner = {n.split(".")[1] for n in IMPORTS[name] if n.startswith("lib.")} - {name.split(".")[1]}
    assert {n for n in inner if ORDER.index(n) > place} == set()


def reached(name: str) -> set[str]:
    """List all that a module imports, and what that imports in turn."""
    seen, ahead = set(), {name}
    while ahead:
        one = ahead.pop()
        seen.add(one)
        ahead |= IMPORTS.get(one, set()) - seen
    return seen


@pytest.mark.parametrize("name", ["lib.training", "lib.checkpoints", "lib.scoring", "lib.importers", "lib.cost"])
def test_training_and_answering_need_no_slides(name):
    """A GPU machine that has features needs no OpenSlide."""
    assert {n.split(".")[0] for n in reached(name)} & {"openslide", "tifffile", "imagecodecs", "papermill"} == set()


def test_lib_knows_no_orchestration():
    assert {n for tool in ("prefect", "papermill", "flows") for n in users(tool) if _in(n, "lib")} == set()


def test_only_plots_draws():
    assert {n for n in users("matplotlib") if "plots" not in n.split(".")[-1]} == set()


def test_nothing_in_lib_imports_the_toy():
    assert {n for n in users("lib.synthetic") if not _in(n, "lib.synthetic")} == set()


def test_one_notebook_needs_no_prefect():
    """An ephemeral Prefect start costs as much as ten notebooks."""
    reached, todo = set(), {"flows.notebook", "flows.launch", "flows.execute"}
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= {n for n in IMPORTS[name] if n in MODULES} - reached
    assert {n for n in reached if n in users("prefect")} == set()


def test_flows_hold_no_tensors():
    assert {n for tool in ("torch", "numpy", "pandas") for n in users(tool) if _in(n, "flows")} == set()


def _in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
