"""What a training or a comparison tells an experiment tracker, through the interface that wandb and trackio share.

Off unless a stage's parameter `tracker` names one of them. Nothing here makes a result: a receipt does not know whether
it was tracked (`provenance.code_words` passes over calls of this module that stand by themselves), and what a tracker
raises is told in a line and ends the tracking alone. Where runs are kept is the tracker's business (TRACKIO_DIR,
WANDB_MODE ...).

A tracked run is one training, or one stage's scores; its name is the stage's folder and the recipe's digest, so that a
training that is cut off and resumed goes on in the same run. What was told after its last checkpoint is told again, the
same numbers at the same steps.
"""

import inspect
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.places import without_places
from slidesieve.provenance.receipts import Stage

PROJECT, TRACKERS = "slidesieve", ("trackio", "wandb")
PLAIN = "checkpoint"  # the name of a stage's only training


class Asked(NamedTuple):
    """The module that is told, and what its runs are called, belong to, and were made with."""

    tracker: str
    name: str
    group: str
    config: dict[str, object]


class State:
    """Of this process: what was asked for, and the run that is open under which name."""

    asked: Asked | None = None
    run: object = None
    name: str = ""


def begin(tracker: str, stage: Stage) -> None:
    """From here on tell `tracker` ("": nobody) what this stage learns."""
    State.asked = None
    if not tracker:
        return
    config = json.loads(without_places(json.dumps(stage.parameters)))
    folder = Path(config["out_dir"])
    parts = folder.parts[folder.parts.index(stage.name) :] if stage.name in folder.parts else folder.parts[-1:]
    group = folder.parents[len(parts) - 1].name
    name = f"{group}/{'/'.join(parts)} {stage.recipe.digest[:8]}"
    State.asked = Asked(tracker, name, group, config | {"recipe": stage.recipe.digest})


def log(numbers: Mapping[str, float], *, step: int | None = None, training: str = PLAIN) -> None:
    """Tell some numbers, at a step of a training; the first process of several speaks."""
    if State.asked is None or os.environ.get("RANK", "0") != "0":
        return
    try:
        _open(State.asked, training).log({name: float(value) for name, value in numbers.items()}, step=step)
    except Exception as fault:
        _give_up(fault)


def end() -> None:
    """Let the tracker write what it holds; what is told later goes on in the same run."""
    run, State.run = State.run, None
    if run is not None:
        try:
            run.finish()
        except Exception as fault:
            _give_up(fault)


def tell(tracker: str, stage: Stage, scores: Mapping[str | tuple, float]) -> None:
    """Tell a stage's scores, all at once; of a name in several words, as a table's index has them, these are joined."""
    begin(tracker, stage)
    log({name if isinstance(name, str) else "/".join(map(str, name)): value for name, value in scores.items()})
    end()


def _open(asked: Asked, training: str):
    """The run of a training, which is opened where it is not the present one."""
    name = asked.name if training == PLAIN else f"{asked.name}/{training}"
    if State.run is None or State.name != name:
        end()
        if asked.tracker not in TRACKERS:
            raise ValueError(f"no tracker that is known here; expected {' or '.join(TRACKERS)}; name one of them")
        module = import_module(asked.tracker)
        wanted = {
            "project": PROJECT, "name": name, "group": asked.group, "config": asked.config, "resume": "allow",
            "id": name.translate(str.maketrans("/ ", "--"))[-128:],  # wandb resumes by id, trackio by name
            "embed": False,  # trackio would start a server for a notebook
        }  # fmt: skip
        known = inspect.signature(module.init).parameters
        State.run, State.name = module.init(**{key: value for key, value in wanted.items() if key in known}), name
    return State.run


def _give_up(fault: Exception) -> None:
    asked, State.asked, State.run = State.asked, None, None
    why = " ".join(str(fault).split())[:300] or type(fault).__name__
    print(f"tracker {asked.tracker if asked else ''}: {why}; it is told no more, the rest goes on", flush=True)
