"""Where a training run stands: saved whole or not at all, the same on every process."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from slidesieve.models.vlm import VLM
from slidesieve.training import tracking
from slidesieve.training.run_files import (
    Losses,
    best_of,
    last_whole,
    load_checkpoint,
    losses_of,
    recipe_beside,
    write_checkpoint,
    write_sealed,
)
from slidesieve.training.shares import Share


class NotFiniteError(ValueError):
    """A loss or a gradient that is no number: what it was, and at which step."""


class RunState:
    """Batches done, their losses and rates, what validations saw, and the best weights so far with their score.

    Its recipe is the one that the checkpoint's folder is for when the training begins, whatever happens there later.
    """

    SAVED = ("step", "best_score", "best_step", "judged")

    def __init__(self, checkpoint: Path):
        self.recipe = recipe_beside(checkpoint)
        self.checkpoint, self.saved_step, self._saved_at = checkpoint, -1, time.monotonic()
        self.step, self.best_score, self.best_step, self.best = 0, float("-inf"), -1, {}
        self.rows: list[tuple[int, float, float]] = []
        self.judged: dict[int, dict[str, float]] = {}
        self._losses, self._best_written = Losses(losses_of(checkpoint)), -1

    def note(self, loss: float, lr: float) -> None:
        """Count a batch that is done."""
        self.rows.append((self.step, loss, lr))
        tracking.log({"loss": loss, "lr": lr}, step=self.step, training=self.checkpoint.stem)
        self.step += 1

    def judge(
        self,
        model: VLM,
        evaluate: Callable[..., float],
        watch: Callable[..., dict[str, float]] = lambda model, share: {},
        share: Share = Share(),
    ) -> None:
        """Score the model on validation and keep its weights if they are the best so far, and numbers.

        Every process takes its share of the work; the word of the first counts for all, so that rounding can never
        make them part ways.
        """
        model.eval()
        with torch.no_grad():
            seen = {"score": evaluate(model, share=share), **watch(model, share=share)}
            seen = of_first_process({name: float(value) for name, value in seen.items()})
        self.judged[self.step - 1] = seen
        tracking.log(seen, step=self.step - 1, training=self.checkpoint.stem)
        if np.isfinite(seen["score"]) and seen["score"] > self.best_score and is_finite(model):
            self.best_score, self.best_step, self.best = seen["score"], self.step, trainable_state(model)

    @property
    def validations_since_best(self) -> int:
        return sum(step >= self.best_step for step in self.judged)

    @classmethod
    def resume(cls, checkpoint: Path, model: VLM, optimizer, schedule) -> "RunState":
        """Go on from the last whole checkpoint if there is one: weights, optimiser and schedule are loaded in place."""
        state, first = cls(checkpoint), PartialState().is_main_process
        path = of_first_process(last_whole(checkpoint, state.recipe) if first else None)
        if path is not None:
            saved = state._take(path)
            model.load_state_dict(saved["model"], strict=False)
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            if first:
                print(f"resuming at step {state.step}", flush=True)
        return state

    @classmethod
    def read(cls, checkpoint: Path) -> "RunState":
        """What a finished run left for the process that started it."""
        state = cls(checkpoint)
        state._take(checkpoint)
        return state

    def save_if_due(self, model: VLM, optimizer, schedule, *, minutes: float) -> None:
        """Save if the last save is so long ago, unless the weights have ceased to be numbers: the next loss says so."""
        if time.monotonic() - self._saved_at >= 60 * minutes and is_finite(model):
            self.save(model, optimizer, schedule)

    def save(self, model: VLM, optimizer, schedule) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if self.best_step != self._best_written:
            write_sealed(self.best, best_of(self.checkpoint, self.best_step))
        whole = {
            "model": trainable_state(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "losses": self._losses.append(self.rows),
            "recipe": self.recipe,
            **{name: getattr(self, name) for name in self.SAVED},
        }
        write_checkpoint(whole, self.checkpoint)
        self._best_written, self.saved_step, self._saved_at = self.best_step, self.step, time.monotonic()

    def history(self) -> pd.DataFrame:
        """One row a batch: step, loss, lr, and at validations score and what was watched."""
        rows = [
            {"step": step, "loss": loss, "lr": lr, "score": float("nan")} | self.judged.get(step, {})
            for step, loss, lr in self.rows
        ]
        return pd.DataFrame(rows)

    def last_good(self) -> str:
        """Say which checkpoint a failed training could go on from."""
        return (
            f"of step {self.saved_step} in {self.checkpoint}" if self.saved_step >= 0 else "none, it had not saved yet"
        )

    def _take(self, path: Path) -> dict:
        saved = load_checkpoint(path, self.checkpoint)
        for name in (*self.SAVED, "best", "rows"):
            setattr(self, name, saved[name])
        known = saved["losses"]
        self._losses = Losses(losses_of(self.checkpoint), rows=known["rows"], done=known["done"])
        self._best_written, self.saved_step = self.best_step, self.step
        return saved


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy, in main memory, of what training changes: trainable parameters, and the compressor's buffers."""
    changed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    changed |= {name for name, _ in model.named_buffers() if name.startswith("compressor.")}
    return {n: value.detach().to("cpu", copy=True) for n, value in model.state_dict().items() if n in changed}


def is_finite(model: nn.Module) -> bool:
    """Say whether every weight that learns is a number."""
    return all(bool(p.isfinite().all()) for p in model.parameters() if p.requires_grad)


def check_finite(name: str, value: float, step: int) -> None:
    """Raise NotFiniteError if a training's loss or gradient norm is none."""
    if not np.isfinite(value):
        raise NotFiniteError(f"step {step}: the {name} is {value}")


def of_first_process(value):
    """The first process's value, on every process."""
    return broadcast_object_list([value])[0]


def seed_of(*numbers: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
