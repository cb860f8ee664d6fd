"""The encoder of an experiment: tiles as it was made for, and its faults, named when the experiment is planned."""

from flows.plan.sources import FEATURES, TILES
from flows.plan.stages import Stage, values_of
from slidesieve.features.known_encoders import STAND_IN, check_loadable, departures, hub_id, known, own_pooling
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import read_parameters
from slidesieve.provenance.recipes import is_model_id

CUT = ("00_audit_manifest", TILES, FEATURES)  # notebooks that are told of tiles


def with_own_tiles(stages: list[Stage]) -> list[Stage]:
    """Give the stages that cut and encode slides what a known encoder was made for; what they were given stands.

    An encoder named by the last part of its id is from here on that id.
    """
    encoded = _encoded(stages)
    found = known(_encoder(encoded[0])) if encoded else None
    own = {name: value for name in ("tile_px", "mpp", "pooling") if (value := getattr(found, name, None))}
    return [
        stage._replace(parameters=_named(stage, own) | stage.parameters | _full(stage))
        if stage.notebook.stem in CUT
        else stage
        for stage in stages
    ]


def check_encoders(stages: list[Stage]) -> None:
    """Raise ValueError, in a line, for an encoder that is not named, or that cannot be loaded here.

    No weights are opened; a folder that is absent is another check's to name.
    """
    tiles = _tiles_of(stages)
    for stage in _encoded(stages):
        name = _encoder(stage)
        is_there = bool(name) and (ROOT / name).exists()
        if is_there or not name or is_model_id(read_parameters(stage.notebook)["encoder"], name):
            given = str(ROOT / name) if is_there else name
            check_loadable(given, tile_px=tiles.get("tile_px"), mpp=tiles.get("mpp"))


def told(stages: list[Stage]) -> str:
    """What the slides are cut and encoded as, and why, in a line; "" where no slide is."""
    if not (encoded := _encoded(stages)):
        return ""
    name, tiles = _encoder(encoded[0]), _tiles_of(stages)
    pooling = own_pooling(name, str(values_of(encoded[0]).get("pooling", "")))
    cut = f"encoder {name}: tiles of {tiles['tile_px']} px of {tiles['mpp']:g} µm"
    if name == STAND_IN:
        return f"{cut}; a stand-in without weights, as asked for"
    if not (found := known(name)):
        return f"{cut}, pooling {pooling}: not known by name, so check -p tile_px, mpp and pooling"
    other = departures(name, tile_px=tiles["tile_px"], mpp=tiles["mpp"], pooling=pooling)
    why = f"not as it was made for ({other.partition(': ')[2]})" if other else "as it was made for"
    return f"{cut}, pooling {pooling}, {why}; weights: {found.terms}"


def _encoded(stages: list[Stage]) -> list[Stage]:
    """The stages that encode slides by an encoder of their choice."""
    return [s for s in stages if s.notebook.stem == FEATURES and "encoder" in read_parameters(s.notebook)]


def _encoder(stage: Stage) -> str:
    """The encoder that a stage was given: the notebook's own is the demo's, and no experiment's."""
    return str(stage.parameters.get("encoder", ""))


def _full(stage: Stage) -> dict[str, object]:
    return {"encoder": hub_id(name)} if (name := _encoder(stage)) else {}


def _named(stage: Stage, own: dict[str, object]) -> dict[str, object]:
    declared = read_parameters(stage.notebook)
    return {name: value for name, value in own.items() if name in declared}


def _tiles_of(stages: list[Stage]) -> dict[str, object]:
    """What the first stage that cuts slides is told."""
    return next((values_of(stage) for stage in stages if stage.notebook.stem == TILES), {})
