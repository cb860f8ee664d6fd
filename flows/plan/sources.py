"""Where an experiment's tiles and features come from: stages that cut slides, at one mpp or at several."""

from collections.abc import Iterable
from pathlib import Path

from flows.plan.stages import Stage, make_stage, values_of

TILES, FEATURES = "10_tile_slides", "20_extract_features"


def sources(out: str, *, from_slides: bool, coarse: int = 1) -> dict[str, str]:
    """The folders of tiles and features at so many times the mpp; empty where the manifest names features.

    Which tiles carry evidence is known on the grid on which it was planted, and on no coarser one.
    """
    if not from_slides:
        return {"tiles": "", "features": ""}
    own = {"tiles": f"{out}/{_named(TILES, coarse)}", "features": f"{out}/{_named(FEATURES, coarse)}"}
    return own | ({"truth": ""} if coarse > 1 else {})


def cutting_stages(notebooks: Path, out: str, values: dict[str, object], coarse: Iterable[int]) -> list[Stage]:
    """Cut and encode the slides, then again at each of these times the mpp."""
    stages = []
    for times in (1, *coarse):
        own = sources(out, from_slides=True, coarse=times)
        for name, folder in ((TILES, own["tiles"]), (FEATURES, own["features"])):
            offered = values | {"tiles": own["tiles"]}
            stages.append(
                make_stage(notebooks / f"{name}.ipynb", id=Path(folder).name, out_dir=folder, offered=offered)
            )
    return stages


def coarser(stages: list[Stage], coarse: Iterable[int]) -> list[Stage]:
    """Multiply the mpp at which each coarse stage cuts tiles, whatever it is set to."""
    times = {_named(TILES, n): n for n in coarse}
    return [
        stage._replace(parameters=stage.parameters | {"mpp": times[stage.id] * float(values_of(stage)["mpp"])})
        if stage.id in times
        else stage
        for stage in stages
    ]


def _named(stage: str, coarse: int) -> str:
    return f"{stage}_coarse{coarse}" if coarse > 1 else stage
