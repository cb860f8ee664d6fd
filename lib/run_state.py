"""Where a training run stands: saved whole or not at all, the same on every process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from lib.vlm import VLM


class RunState:
    """Steps done, the rows of their history, and the best weights so far with their score."""

    def __init__(self):
        self.step, self.best_score, self.best, self.rows = 0, float("-inf"), {}, []

    def judge(
        self, model: VLM, evaluate: Callable[[VLM], float], watch: Callable[[VLM], dict[str, float]] = lambda model: {}
    ) -> None:
        """Score the model on validation and keep its weights if they are the best so far.

        Every process validates, since none has anything else to do; the word of the first counts for all, so that
        rounding can never make them part ways.
        """
        model.eval()
        with torch.no_grad():
            seen = {"score": evaluate(model), **watch(model)}
            seen = of_first_process({name: float(value) for name, value in seen.items()})
        self.rows[-1] |= seen
        if seen["score"] > self.best_score:
            self.best_score, self.best = seen["score"], trainable_state(model)

    @classmethod
    def resume(cls, path: Path, model: VLM, optimizer, schedule) -> "RunState":
        """Go on from a checkpoint if there is one: weights, optimiser and schedule are loaded in place."""
        state = cls()
        if path.exists():
            saved = torch.load(path, weights_only=True, map_location="cpu")
            model.load_state_dict(saved.pop("model"), strict=False)
            optimizer.load_state_dict(saved.pop("optimizer"))
            schedule.load_state_dict(saved.pop("schedule"))
            state.__dict__.update(saved)
            if PartialState().is_main_process:
                print(f"resuming at step {state.step}", flush=True)
        return state

    @classmethod
    def read(cls, path: Path) -> "RunState":
        """What a finished run left for the process that started it."""
        saved, state = torch.load(path, weights_only=True, map_location="cpu"), cls()
        state.__dict__.update({name: saved[name] for name in state.__dict__})
        return state

    def save(self, path: Path, model: VLM, optimizer, schedule) -> None:
        whole = {
            "model": trainable_state(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            **self.__dict__,
        }
        aside = path.with_suffix(".partial")
        torch.save(whole, aside)
        aside.replace(path)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy, in main memory, of what training changes: trainable parameters, and the compressor's buffers."""
    changed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    changed |= {name for name, _ in model.named_buffers() if name.startswith("compressor.")}
    return {n: value.detach().to("cpu", copy=True) for n, value in model.state_dict().items() if n in changed}


def of_first_process(value):
    """The first process's value, on every process."""
    return broadcast_object_list([value])[0]


def seed_of(*numbers: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
