"""One seeded training loop for every stage and method, on accelerate; a run that is killed resumes exactly.

What is learnt is a `Work` (`step`): answers about slides, masked tokens (`masked_loop`), classes of bags
(`mil.training`), or words (`synthetic.pretraining`).

Every random draw of a step is seeded by (seed, step): which slides; the gate's noise and dropout also by the process.
A checkpoint therefore holds weights, optimiser state and the step's number, and a resumed run is the uninterrupted
run, bit for bit on one device. The weights that are kept are those of the best validation score, taken on the path
used at inference; a training is validated a number of times, however long it is.

The loss of answers is the mean over all answer tokens of an optimiser step, whatever batches, parts of batches and
processes share them. What is computed is therefore the same function of (seed, step, batch) for any number of
processes and any budget of tokens: equal to rounding for methods that draw nothing, another draw of the same noise for
those that do. A compressor's own loss is a mean over slides instead.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from slidesieve.cohort.progress import line_end
from slidesieve.compressors.topk import TAU_SCHEDULES
from slidesieve.models.reproducible import reproducible
from slidesieve.training import tracking
from slidesieve.training.feed import Feed, Phase, alignment_phases, batches
from slidesieve.training.launch import run_in_processes
from slidesieve.training.shares import Share
from slidesieve.training.state import NotFiniteError, RunState, of_first_process
from slidesieve.training.step import (
    AnswerLoss,
    Settings,
    Work,
    one_batch,
    parameter_groups,
    recomputing,
    set_modes,
    settings_of,
)
from slidesieve.training.validation import validation_steps

__all__ = [
    "AnswerLoss",
    "Feed",
    "Phase",
    "Settings",
    "alignment_phases",
    "batches",
    "cooling",
    "fit",
    "parameter_groups",
    "settings_of",
]
PRINT_EVERY_S = 5.0
NOT_FINITE = (
    "training: {}, and nothing learns from that; it stops, its weights as before; its last good checkpoint {}; "
    "lower the learning rates, or compute in float32 (mixed_precision no, a language model in float32)"
)


def fit(
    model: nn.Module,
    work: Work,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path,
    save_minutes: float,
    evaluate: Callable[..., float],
    evaluations: int,
    stop_at: float = float("inf"),
    patience: float = float("inf"),
    before_step: Callable[[nn.Module, int], None] = lambda model, step: None,
    watch: Callable[..., dict[str, float]] = lambda model, share: {},
    device: str | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Train in place and leave the best weights in the model; return one row per batch.

    `evaluate(model, share=...)` gives a validation score, higher is better, the same on every process, each of which
    does its `share` of it: `evaluations` times, evenly spaced, at the end too. Training ends early once it reaches
    `stop_at`, or after `patience` validations in a row without a better one. What `watch` measures at each validation
    is written beside the score. An existing `checkpoint` is resumed from; it and the files beside it are the caller's
    to delete when the stage is done. A loss that is no number ends the training with a ValueError, before any weight
    has changed by it.

    `device` is where to train, "cpu" or "cuda"; None: where the model is. With more than one of `processes`, the model
    must not have been on a GPU yet, and stays in main memory here.
    """
    if patience < 1:
        raise ValueError(f"patience: got {patience}; expected 1 validation or more")
    if settings.mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed_precision: got {settings.mixed_precision!r}; expected no or bf16")
    device = device or next(model.parameters()).device.type
    if device == "cuda" and torch.cuda.device_count() < processes:
        raise ValueError(
            f"device: got cuda for {processes} processes; this machine has {torch.cuda.device_count()} GPUs; "
            "lower processes, or set device to cpu"
        )
    train = partial(
        _train, model, work, settings, torch.device(device), seed=seed, checkpoint=checkpoint,
        save_minutes=save_minutes, evaluate=evaluate, evaluations=evaluations, stop_at=stop_at, patience=patience,
        before_step=before_step, watch=watch,
    )  # fmt: skip
    work.check_shards(processes)
    if processes > 1:
        run_in_processes(partial(train, leave_result=True), processes, device=device)
        state = RunState.read(checkpoint)
    else:
        state = train()
    if state.step and state.best_step < 0:
        raise ValueError("training: no validation gave a finite score; look at the data, or compute in float32")
    model.load_state_dict(state.best, strict=False)
    model.eval()
    return state.history()


def cooling(
    tau_start: float, tau_end: float, steps: int, *, schedule: str = "cosine"
) -> Callable[[nn.Module, int], None]:
    """Lower a selector's temperature over `steps`: by a "cosine", "linear", or not at all ("constant", tau_start)."""
    if schedule not in TAU_SCHEDULES:
        raise ValueError(f"schedule of tau: got {schedule!r}; expected one of {sorted(TAU_SCHEDULES)}")

    def cool(model: nn.Module, step: int) -> None:
        if hasattr(model.compressor, "tau"):
            model.compressor.tau.fill_(TAU_SCHEDULES[schedule](step, steps, tau_start, tau_end))

    return cool


def _train(
    model: nn.Module,
    work: Work,
    settings: Settings,
    device: torch.device,
    *,
    seed: int,
    checkpoint: Path,
    save_minutes: float,
    evaluate: Callable[..., float],
    evaluations: int,
    stop_at: float,
    patience: float,
    before_step: Callable[[nn.Module, int], None],
    watch: Callable[..., dict[str, float]],
    leave_result: bool = False,
) -> RunState:
    """Train in this process, alone or as one of its group; with `leave_result` the checkpoint holds how it ended."""
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch of short slides has no use for some
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[unused])
    work.check_shards(accelerator.num_processes)
    checkpoint = of_first_process(checkpoint)
    model.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.rates), betas=settings.betas, weight_decay=settings.weight_decay
    )
    optimizer_steps = -(-work.steps // settings.accumulate)
    rising = settings.warmup if settings.warmup >= 1 else settings.warmup * optimizer_steps
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, round(rising), max(optimizer_steps, 1), min_lr_rate=settings.lr_end
    )
    state = RunState.resume(checkpoint, model, optimizer, schedule)
    trained = accelerator.prepare_model(model)
    validated = validation_steps(work.steps, accumulate=settings.accumulate, evaluations=evaluations)
    share, spoken = Share(accelerator.process_index, accelerator.num_processes), 0.0
    with (
        reproducible(device, gradients=True, on=settings.deterministic),
        recomputing(getattr(model, "lm", None), settings.gradient_checkpointing),
    ):
        while state.step < work.steps and state.best_score < stop_at and state.validations_since_best < patience:
            before_step(model, state.step)
            set_modes(model, settings.rates)
            try:
                loss, ends = one_batch(accelerator, trained, optimizer, work, settings, seed, state.step)
            except NotFiniteError as fault:
                raise ValueError(of_first_process(NOT_FINITE.format(fault, state.last_good()))) from fault
            if ends:
                schedule.step()
            state.note(loss, schedule.get_last_lr()[0])
            if state.step in validated:
                state.judge(model, evaluate, watch, share)
            last = state.step == work.steps
            if accelerator.is_main_process and (last or time.monotonic() - spoken > PRINT_EVERY_S):
                spoken, best = time.monotonic(), state.best_score
                print(
                    f"step {state.step}/{work.steps}  loss {loss:.3f}  best validation {best:.3f}   ",
                    end=line_end(last=last),
                    flush=True,
                )
            if accelerator.is_main_process and ends:
                state.save_if_due(model, optimizer, schedule, minutes=save_minutes)
    tracking.end()
    if leave_result and accelerator.is_main_process:
        state.save(model, optimizer, schedule)
    return state
