"""Faults of a language model, named when the experiment is planned and not hours later at its first training."""

from pathlib import Path

from flows.plan.stages import Stage, declared_of, lies_in
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import stand_ins_left
from slidesieve.provenance.recipes import is_model_id


def check_language_models(stages: list[Stage], manifest: Path) -> None:
    """Open config and tokenizer of each language model that no stage makes; raise ValueError, in a line, on a fault.

    A stage that was given none is a fault: the notebook's own is the demo's, and no experiment's.
    """
    for notebook, given in {(stage.notebook, frozenset(stage.parameters)) for stage in stages}:
        if toy := stand_ins_left(declared_of(notebook), given).get("lm"):
            raise ValueError(
                "llm: got none; what is kept of a slide is read by a language model: name a causal one by folder or "
                f"hub id (--llm PATH_OR_ID); --llm {toy} asks for the demo's toy, which `make demo` makes"
            )
    readers = [values for stage in stages if "lm" in (values := _values(stage))]
    for lm in dict.fromkeys(values["lm"] for values in readers):
        if not any(lies_in(lm, stage.out_dir) for stage in stages):
            _check(lm, [values for values in readers if values["lm"] == lm], manifest)


def _check(lm: str, readers: list[dict[str, object]], manifest: Path) -> None:
    from slidesieve.models.fusion import fusion_of
    from slidesieve.models.language_model import examine, hub_answers
    from slidesieve.provenance.weights import snapshot

    path = ROOT / lm
    if not path.exists() and snapshot(lm) is None and not hub_answers():
        return  # the first stage that loads it will say so
    given = str(path) if path.exists() else lm
    latents = any(not fusion_of(_class_of(values)).is_prefix for values in readers if "compressor" in values)
    templates = dict.fromkeys(values["chat_template"] for values in readers if "chat_template" in values)
    for template in templates or ("own",):
        facts = examine(given, chat_template=template, latents=latents)
    if facts.limit:
        examine(given, chat_template=template, longest=_largest_position(readers, longest_bag(manifest)))


def _class_of(values: dict[str, object]):
    from slidesieve.compressors.registry import COMPRESSORS

    return COMPRESSORS[str(values["compressor"])]


def _largest_position(readers: list[dict[str, object]], longest: int) -> int:
    """The largest position that any tile claims, in training or in answers; slides have up to `longest` tiles."""
    from slidesieve.models.positions import largest_position

    most = min(longest, max((values["max_tiles"] for values in readers if "max_tiles" in values), default=0))
    claims = [
        largest_position(v["position_ids"], longest=longest, tokens=most, span=v["position_span"])
        for v in readers
        if "compressor" in v and _class_of(v).has_places() and "position_ids" in v
    ]
    return max(claims, default=0)


def longest_bag(manifest: Path) -> int:
    """Tiles of the longest slide that has features by now, from the files' headers; 0 if none tells."""
    from slidesieve.cohort import manifest as manifests
    from slidesieve.features.bag_files import load_available_bags

    if not manifest.is_file():
        return 0
    cohort = manifests.read_manifest(manifest)
    with_features = cohort.table.loc[cohort.table["feature_path"] != "", "slide_id"]
    bags = load_available_bags(cohort, None, with_features)
    return max((bags.count(slide_id) or 0 for slide_id in bags), default=0)


def _values(stage: Stage) -> dict[str, object]:
    """Every parameter of a stage that has a language model, defaults of its notebook among them; else nothing."""
    declared = declared_of(stage.notebook)
    if "lm" not in declared:
        return {}
    values = {name: parameter.default for name, parameter in declared.items()} | stage.parameters
    known = values["lm"] and ((ROOT / values["lm"]).exists() or is_model_id(declared["lm"], values["lm"]))
    return values if known else {}  # an absent folder is another check's to name
