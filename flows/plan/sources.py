"""Where an experiment's tiles and features come from: stages that cut slides, at one mpp or at several."""

import re
from collections.abc import Iterable
from pathlib import Path

from flows.plan.stages import Stage, make_stage, values_of

TILES, FEATURES = "10_tile_slides", "20_extract_features"
SHARE = re.compile(r"_\d+of\d+$")  # ends the name of a stage that works on a share of the slides


def sources(out: str, *, from_slides: bool, coarse: int = 1) -> dict[str, str]:
    """The folders of tiles and features at so many times the mpp; empty where the manifest names features.

    Which tiles carry evidence is known on the grid on which it was planted, and on no coarser one.
    """
    if not from_slides:
        return {"tiles": "", "features": ""}
    own = {"tiles": f"{out}/{_named(TILES, coarse)}", "features": f"{out}/{_named(FEATURES, coarse)}"}
    return own | ({"truth": ""} if coarse > 1 else {})


def cutting_stages(
    notebooks: Path, out: str, values: dict[str, object], coarse: Iterable[int], *, shards: int = 1
) -> list[Stage]:
    """Cut and encode the slides, then again at each of these times the mpp.

    With several `shards` each of these stages is that many, of a share of the slides each, and one that takes what
    they have made and does what they have not. Raises ValueError for less than one.
    """
    if shards < 1:
        raise ValueError(f"shards: got {shards}, expected one or more")
    stages = []
    for times in (1, *coarse):
        own = sources(out, from_slides=True, coarse=times)
        for name, folder in ((TILES, own["tiles"]), (FEATURES, own["features"])):
            offered = values | {"tiles": own["tiles"]}
            shares = [f"{i}of{shards}" for i in range(1, shards + 1)] if shards > 1 else []
            parts = [f"{folder}_{share}" for share in shares]
            wanted = [(part, {"shard": share, "others": [folder]}) for part, share in zip(parts, shares, strict=True)]
            for out_dir, changes in [*wanted, (folder, {"others": parts} if parts else {})]:
                made = {"id": Path(out_dir).name, "out_dir": out_dir, "offered": offered | changes}
                stages.append(make_stage(notebooks / f"{name}.ipynb", **made))
    return stages


def coarser(stages: list[Stage], coarse: Iterable[int]) -> list[Stage]:
    """Multiply the mpp at which each coarse stage cuts tiles, whatever it is set to."""
    times = {_named(TILES, n): n for n in coarse}
    own = {stage.id: times.get(SHARE.sub("", stage.id)) for stage in stages}
    return [
        stage._replace(parameters=stage.parameters | {"mpp": own[stage.id] * float(values_of(stage)["mpp"])})
        if own[stage.id]
        else stage
        for stage in stages
    ]


def _named(stage: str, coarse: int) -> str:
    return f"{stage}_coarse{coarse}" if coarse > 1 else stage
