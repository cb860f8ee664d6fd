"""The stages of an experiment: a plain function of the options, checked before anything runs."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

from flows.plan.checks import Options, check_options
from flows.plan.encoders import check_encoders, with_own_tiles
from flows.plan.language_models import check_language_models
from flows.plan.methods import Method, parse_method
from flows.plan.notebooks import NOTEBOOKS
from flows.plan.sources import coarser, cutting_stages, sources
from flows.plan.stages import Stage, apply_settings, check_stage_options, lies_in, make_stage, with_needs
from slidesieve.compressors.registry import BESIDE, WITHOUT_K
from slidesieve.provenance.files import ROOT


class Run(NamedTuple):
    """One method at one k on one fold with one seed: its stages, the last of which answers, and what aligned it."""

    method: Method
    k: int
    fold: int
    stages: list[Stage]
    aligned: Stage | None


def plan(options: Options, *, before: tuple[Stage, ...] = (), notebooks: Path = NOTEBOOKS) -> list[Stage]:
    """List the stages in an order in which they can run; raise ValueError if the options or the tables are faulty.

    `before` are stages that make this experiment's own tables (the toy cohort); what they will write is not read here.
    """
    methods, from_slides = _methods(options), True
    if not any(lies_in(options.manifest, stage.out_dir) for stage in before):
        from_slides = check_options(options)
    coarse = sorted({method.coarse for method, _ in methods} - {1})
    if coarse and not from_slides:
        raise ValueError(f"coarse={coarse[0]}: got features of all slides; tiles of another mpp need slides to be cut")
    common = _common(options) | sources(options.out, from_slides=from_slides)
    values = _common(options) | {"workers": options.workers}
    stages = [*before, _stage(notebooks, options, "00_audit_manifest", "", values)]
    stages += cutting_stages(notebooks, options.out, values, coarse, shards=options.shards) if from_slides else []
    runs: list[Run] = []
    known: set[str] = set()  # of all branches
    for seed, fold in product(options.seeds, options.folds):
        suffix = f"s{seed}" + (f"_f{fold}" if fold >= 0 else "")
        alignments: dict[tuple, Stage] = {}
        for method, k in methods:
            own = sources(options.out, from_slides=from_slides, coarse=method.coarse)
            run = common | own | {"seed": seed, "fold": fold}
            front = (method.coarse, *method.in_front)
            if front not in alignments and _is_aligned(options, method):
                alignments[front] = _alignment(notebooks, options, method, run, suffix)
                stages.append(alignments[front])
                known.add(alignments[front].id)
            start = alignments.get(front) if _is_aligned(options, method) else None
            branch = _branch(notebooks, options, method, run | ({"k": k} if k else {}), suffix, start)
            stages += [stage for stage in branch if stage.id not in known]  # a pre-training serves every k
            known |= {stage.id for stage in branch}
            runs.append(Run(method, k, fold, branch, start))
    stages += [*_look_closely(notebooks, options, runs, common), *_compare(notebooks, options, runs, common)]
    stages = coarser(with_own_tiles(apply_settings(stages, options.settings)), coarse)
    stages = with_needs(_apply_changes(stages, runs))
    check_stage_options(stages)
    check_encoders(stages)
    check_language_models(stages, ROOT / options.manifest)
    return stages


def _methods(options: Options) -> list[tuple[Method, int]]:
    """List (method, k), the named ones first, then the floors; k = 0 for those that have none."""
    names = dict.fromkeys((*options.compressors, *(BESIDE if options.floors else ())))
    methods = [parse_method(name) for name in names]
    return [(m, k) for m in methods for k in (options.k if m.made.has_k() else (0,))]


def _is_aligned(options: Options, method: Method) -> bool:
    """Say whether a method starts from an all-tile stage; for the compressor `all` that stage is its own stage 1."""
    from slidesieve.models.fusion import fusion_of  # with the language models' library: seconds

    wanted = method.alignment and fusion_of(method.made).serves_any
    return wanted and (options.alignment or method.compressor == "all")


def _alignment(notebooks: Path, options: Options, method: Method, run: dict, suffix: str) -> Stage:
    named = [word.removeprefix("slide_encoder=").replace("=", "-") for word in method.in_front]
    named += [f"coarse-{method.coarse}"] if method.coarse > 1 else []
    tag = "_".join(["-".join(["all", *named]), suffix])
    return _stage(notebooks, options, "40_align_captions", tag, run | {"compressor": "all", "start": ""})


def _branch(
    notebooks: Path, options: Options, method: Method, values: dict, suffix: str, align: Stage | None
) -> list[Stage]:
    """Make one method's stages: pre-training if it has one, captions (unless they aligned it), questions, answers."""
    tag = "_".join([method.tag, *([f"k{values['k']}"] if "k" in values else []), suffix])
    values = values | {"compressor": method.compressor}
    start = align.out_dir if align else ""
    branch = []
    if method.made.is_pretrained:
        values |= {"regions_first": options.alignment and method.alignment}
        if method.pretraining:
            own = "_".join([method.tag, suffix])
            branch.append(_stage(notebooks, options, "30_pretrain_resampler", own, values))
            start = branch[-1].out_dir
    if method.made.has_k():
        branch.append(_stage(notebooks, options, "40_align_captions", tag, values | {"start": start}))
        start = branch[-1].out_dir
    branch.append(_stage(notebooks, options, "50_tune_answers", tag, values | {"start": start}))
    named = {"checkpoint": branch[-1].out_dir} | ({"method": method.name} if method.name != method.compressor else {})
    branch.append(_stage(notebooks, options, "60_answer_questions", tag, values | named))
    return branch


def _look_closely(notebooks: Path, options: Options, runs: list[Run], common: dict[str, object]) -> list[Stage]:
    """Look at the first run alone: its lengths and map; how a scorer's soft becomes hard; how slots share the tiles.

    And, if some method merges tiles, at what it is built on: are they redundant, and what do visual tokens cost?
    """
    from slidesieve.models.fusion import fusion_of

    first, (*_, tuned, answered) = runs[0], runs[0].stages
    own = sources(options.out, from_slides=bool(common["tiles"]), coarse=first.method.coarse)
    look = tuned.parameters | common | own | {"checkpoint": tuned.out_dir, "answers": [answered.out_dir]}
    made, names, kin = first.method.made, ["71_length_stability"], []
    if made.keeps_tiles() and fusion_of(made).is_prefix:
        names.insert(0, "70_map_selected_tokens")
    if made.softens:
        names, kin = [*names, "72_soft_to_hard"], [run for run in runs[1:] if run[:3] == first[:3]]
        look |= {"captions_stage": first.stages[-3].out_dir}
    if made.routes:
        family = [run for run in runs[1:] if run.fold == first.fold]
        names, kin = [*names, "73_slot_usage"], [r for r in family if r.method.compressor == first.method.compressor]
    look |= {"others": [run.stages[-2].out_dir for run in kin]}
    stages = [_stage(notebooks, options, name, tuned.id.partition("/")[2], look) for name in names]
    if any(run.method.made.kind == "resamples" for run in runs):
        tiles = {"features": common["features"] or options.manifest}
        stages.append(_stage(notebooks, options, "74_tile_redundancy", "", tiles))
        machine = {name: common[name] for name in ("device", "threads") if name in common}
        stages.append(_stage(notebooks, options, "75_compute_cost", "", machine))
    return stages


def _compare(notebooks: Path, options: Options, runs: list[Run], common: dict[str, object]) -> list[Stage]:
    """Compare the variants of a method at the first k, plain methods over several k, and everything."""
    names = dict.fromkeys(run.method.name for run in runs)
    varied = [n for n in names if n not in WITHOUT_K and any(other.startswith(f"{n}:") for other in names)]
    own = sources(options.out, from_slides=bool(common["tiles"]), coarse=runs[0].method.coarse)
    compared = {"78_show_cases": (own | _owners(options), runs), "80_compare_methods": ({}, runs)}
    if len(options.k) > 1:
        compared = {"77_token_budget": ({}, [r for r in runs if r.method.name == r.method.compressor])} | compared
    if varied:
        family = [r for r in runs if r.k in (0, options.k[0]) and f"{r.method.name}:".startswith(f"{varied[0]}:")]
        compared = {"76_compare_variants": ({"reference": varied[0]}, family)} | compared
    return [
        _stage(notebooks, options, name, "", common | extra | {"answers": [run.stages[-1].out_dir for run in asked]})
        for name, (extra, asked) in compared.items()
    ]


def _owners(options: Options) -> dict[str, str]:
    """Whose the tokens of mosaics are, where that lies beside the truth."""
    path = Path(options.truth).parent / "owners.csv"
    return {"owners": path.as_posix()} if options.truth and (ROOT / path).exists() else {}


def _apply_changes(stages: list[Stage], runs: list[Run]) -> list[Stage]:
    """Apply each method's own changes to its stages, after the settings for all: they say more."""
    changed, now = {}, {stage.id: stage for stage in stages}
    for run in runs:
        front = [now[run.aligned.id]] if run.aligned else []
        own = [now[stage.id] for stage in run.stages]
        taken = [*apply_settings(front, run.method.in_front), *apply_settings(own, run.method.changes)]
        changed |= {stage.id: stage for stage in taken}
    return [changed.get(stage.id, stage) for stage in stages]


def _common(options: Options) -> dict[str, object]:
    values = {
        "manifest": options.manifest,
        "questions": options.questions,
        "captions": options.captions or options.questions,
        "instructions": options.instructions,
        "open_questions": options.open_questions,
        "truth": options.truth,
        "threads": options.threads,
    }
    given = {"encoder": options.encoder, "lm": options.llm, "device": options.device}
    return values | {name: value for name, value in given.items() if value}


def _stage(notebooks: Path, options: Options, name: str, tag: str, offered: dict[str, object]) -> Stage:
    id = f"{name}/{tag}" if tag else name
    return make_stage(notebooks / f"{name}.ipynb", id=id, out_dir=f"{options.out}/{id}", offered=offered)
