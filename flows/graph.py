"""The stages of an experiment and what each needs: a plain function of the options, checked before anything runs.

A stage is one notebook, one folder, one set of parameters. It needs another stage if one of its inputs lies in that
stage's folder; nothing else is declared anywhere.
"""

import re
from itertools import product
from pathlib import Path
from typing import NamedTuple

from flows.methods import Method, parse_method
from lib.file_hashes import ROOT
from lib.parameters import Parameter, check_parameters, nearest, parse_value, read_parameters
from lib.recipes import is_model_id

FLOORS = ("all", "random", "mean", "text_only")
WITHOUT_K = ("all", "text_only")  # keep every tile, or none
NOTEBOOKS = ROOT / "notebooks"


class Options(NamedTuple):
    """An experiment as asked for. Paths: relative to the repository's root, or absolute; `settings`: `-p` words."""

    manifest: str
    questions: str
    out: str
    captions: str = ""
    instructions: str = ""
    truth: str = ""
    compressors: tuple[str, ...] = ("sparselearn",)
    k: tuple[int, ...] = (8,)
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = (-1,)
    encoder: str = ""
    llm: str = ""
    floors: bool = True
    alignment: bool = True
    workers: int = 1
    threads: int = 1
    device: str = ""
    settings: tuple[str, ...] = ()


class Stage(NamedTuple):
    """One notebook run: `parameters` are what differs from the notebook's defaults, `needs` the ids it waits for."""

    id: str
    notebook: Path
    out_dir: str
    parameters: dict[str, object]
    needs: tuple[str, ...] = ()


def plan(options: Options, *, before: tuple[Stage, ...] = (), notebooks: Path = NOTEBOOKS) -> list[Stage]:
    """List the stages in an order in which they can run; raise ValueError if the options or the tables are faulty.

    `before` are stages that make this experiment's own tables (the toy cohort); what they will write is not read here.
    """
    from_slides = True
    if not any(_lies_in(options.manifest, stage.out_dir) for stage in before):
        from_slides = check_options(options)
    stages = [*before, *_data_stages(options, notebooks, from_slides=from_slides)]
    features = f"{options.out}/20_extract_features" if from_slides else ""
    tiles = f"{options.out}/10_tile_slides" if from_slides else ""
    common = _common(options) | {"features": features, "tiles": tiles}
    branches: list[tuple[Method, list[Stage]]] = []
    for seed, fold in product(options.seeds, options.folds):
        run = common | {"seed": seed, "fold": fold}
        suffix = f"s{seed}" + (f"_f{fold}" if fold >= 0 else "")
        alignments: dict[str, Stage] = {}
        for method, k in _methods(options):
            if method.slide_encoder not in alignments and _is_aligned(options, method):
                alignments[method.slide_encoder] = _alignment(notebooks, options, method, run, suffix)
                stages.append(alignments[method.slide_encoder])
            start = alignments.get(method.slide_encoder) if _is_aligned(options, method) else None
            branch = _branch(notebooks, options, method, run | ({"k": k} if k else {}), suffix, start)
            stages += branch
            branches.append((method, branch))
    answers = [branch[-1].out_dir for _, branch in branches]
    *_, tuned, answered = branches[0][1]
    look = tuned.parameters | common | {"checkpoint": tuned.out_dir, "answers": [answered.out_dir]}
    tag = tuned.id.partition("/")[2]
    stages += [_stage(notebooks, options, n, tag, look) for n in ("70_map_selected_tokens", "71_length_stability")]
    stages.append(_stage(notebooks, options, "80_compare_methods", "", common | {"answers": answers}))
    return with_needs(_apply_changes(apply_settings(stages, options.settings), branches))


def check_inputs(stages: list[Stage]) -> None:
    """Raise ValueError naming the inputs that neither exist nor are made by one of the stages."""
    absent = {}
    for stage in stages:
        for parameter, path in _inputs(stage):
            made = any(_lies_in(path, other.out_dir) for other in stages)
            if not (made or (ROOT / path).exists() or is_model_id(parameter, path)):
                absent.setdefault(f"{parameter.name} = {path}", stage.id)
    if absent:
        named = "; ".join(f"{what} (for {id})" for what, id in absent.items())
        raise ValueError(f"inputs that do not exist: {named}; correct the paths")


def check_options(options: Options) -> bool:
    """Check the compressors' names and read every table, raising on a fault; return whether a slide lacks features."""
    from lib import examples
    from lib import manifest as manifests
    from lib import questions as tables
    from lib.compressors import COMPRESSORS

    for method in map(parse_method, options.compressors):
        if method.compressor not in COMPRESSORS:
            raise ValueError(f"no compressor {method.compressor!r}{nearest(method.compressor, COMPRESSORS)}")
    manifest = manifests.read_manifest(ROOT / options.manifest)
    for fold in options.folds:
        manifests.split_of(manifest, fold)
    tables.check_slides(tables.read_questions(ROOT / options.questions), manifest)
    for path in filter(None, (options.captions, options.instructions)):
        taught = examples.read_examples(ROOT / path, answer_form="text", slide_prompt="", region_prompt="")
        tables.check_slides(taught, manifest)
    return bool((manifest.table["feature_path"] == "").any())


def with_needs(stages: list[Stage]) -> list[Stage]:
    """Fill in what each stage needs: the earlier stages in whose folders its inputs lie."""
    done: list[Stage] = []
    for stage in stages:
        needs = [other.id for other in done if any(_lies_in(path, other.out_dir) for _, path in _inputs(stage))]
        done.append(stage._replace(needs=tuple(needs)))
    return done


def apply_settings(stages: list[Stage], words: tuple[str, ...]) -> list[Stage]:
    """Apply `name=value` to every stage that has the parameter, `50.name=value` to the stages whose id begins so."""
    for word in words:
        key, equals, text = word.partition("=")
        prefix, _, name = key.rpartition(".")
        if not equals or name == "out_dir":
            raise ValueError(f"-p {word}: write name=value or STAGE.name=value; out_dir is the flow's own")
        within = [s for s in stages if re.match(re.escape(prefix) + r"(?![^_/])", s.id)] if prefix else stages
        known = {name: p for s in within for name, p in _declared(s.notebook).items()}
        if not within:
            raise ValueError(f"-p {word}: no stage begins with {prefix}; there are {', '.join(s.id for s in stages)}")
        if name not in known:
            raise ValueError(f"-p {word}: no notebook of these has a parameter {name!r}{nearest(name, known)}")
        chosen = {s.id for s in within if name in _declared(s.notebook)}
        stages = [
            s._replace(parameters=s.parameters | {name: parse_value(_declared(s.notebook)[name], text)})
            if s.id in chosen
            else s
            for s in stages
        ]
    return stages


def make_stage(notebook: Path, *, id: str, out_dir: str, offered: dict[str, object]) -> Stage:
    """Make a stage from those of the offered values that its notebook has parameters for; check their types."""
    declared = _declared(notebook)
    parameters = {n: v for n, v in offered.items() if n in declared}
    check_parameters(declared, parameters, notebook=notebook.stem)
    return Stage(id, notebook, out_dir, parameters)


def _methods(options: Options) -> list[tuple[Method, int]]:
    """List (method, k), the named ones first, then the floors; k = 0 for those that have none."""
    names = dict.fromkeys((*options.compressors, *(FLOORS if options.floors else ())))
    methods = [parse_method(name) for name in names]
    return [(m, k) for m in methods for k in ((0,) if m.compressor in WITHOUT_K else options.k)]


def _is_aligned(options: Options, method: Method) -> bool:
    """Say whether a method starts from an all-tile stage; for the compressor `all` that stage is its own stage 1."""
    return method.alignment and (options.alignment or method.compressor == "all")


def _alignment(notebooks: Path, options: Options, method: Method, run: dict, suffix: str) -> Stage:
    encoder = {"slide_encoder": method.slide_encoder} if method.slide_encoder else {}
    tag = "_".join(["-".join(["all", *encoder.values()]), suffix])
    return _stage(notebooks, options, "40_align_captions", tag, run | {"compressor": "all", "start": ""} | encoder)


def _branch(
    notebooks: Path, options: Options, method: Method, values: dict, suffix: str, align: Stage | None
) -> list[Stage]:
    """Make one method's stages: captions (unless the alignment was just that), questions, answers."""
    tag = "_".join([method.tag, *([f"k{values['k']}"] if "k" in values else []), suffix])
    values = values | {"compressor": method.compressor}
    start = align.out_dir if align else ""
    branch = []
    if method.compressor not in WITHOUT_K:
        branch.append(_stage(notebooks, options, "40_align_captions", tag, values | {"start": start}))
        start = branch[0].out_dir
    branch.append(_stage(notebooks, options, "50_tune_answers", tag, values | {"start": start}))
    named = {"checkpoint": branch[-1].out_dir} | (
        {"method": method.name} if method.changes or not method.alignment else {}
    )
    branch.append(_stage(notebooks, options, "60_answer_questions", tag, values | named))
    return branch


def _apply_changes(stages: list[Stage], branches: list[tuple[Method, list[Stage]]]) -> list[Stage]:
    """Apply each method's own changes to its stages, after the settings for all: they say more."""
    changed = {}
    for method, branch in branches:
        ids = {stage.id for stage in branch}
        changed |= {s.id: s for s in apply_settings([s for s in stages if s.id in ids], method.changes)}
    return [changed.get(stage.id, stage) for stage in stages]


def _data_stages(options: Options, notebooks: Path, *, from_slides: bool) -> list[Stage]:
    values = _common(options) | {"workers": options.workers, "tiles": f"{options.out}/10_tile_slides"}
    names = ["00_audit_manifest"] + (["10_tile_slides", "20_extract_features"] if from_slides else [])
    return [_stage(notebooks, options, name, "", values) for name in names]


def _common(options: Options) -> dict[str, object]:
    values = {
        "manifest": options.manifest,
        "questions": options.questions,
        "captions": options.captions or options.questions,
        "instructions": options.instructions,
        "truth": options.truth,
        "threads": options.threads,
    }
    given = {"encoder": options.encoder, "lm": options.llm, "device": options.device}
    return values | {name: value for name, value in given.items() if value}


def _stage(notebooks: Path, options: Options, name: str, tag: str, offered: dict[str, object]) -> Stage:
    id = f"{name}/{tag}" if tag else name
    return make_stage(notebooks / f"{name}.ipynb", id=id, out_dir=f"{options.out}/{id}", offered=offered)


def _declared(notebook: Path) -> dict[str, Parameter]:
    if not notebook.exists():
        raise ValueError(f"no notebook {notebook}")
    return read_parameters(notebook)


def _inputs(stage: Stage) -> list[tuple[Parameter, str]]:
    """List every path that the stage reads, with the parameter that names it."""
    named = [
        (p, stage.parameters.get(n, p.default)) for n, p in _declared(stage.notebook).items() if p.role.startswith("in")
    ]
    return [(p, path) for p, value in named for path in (value if isinstance(value, list) else [value]) if path]


def _lies_in(path: str, folder: str) -> bool:
    return (ROOT / path).is_relative_to(ROOT / folder)
