"""One seeded training loop for every stage and method, on accelerate; a run that is killed resumes exactly.

Every random draw of a step is seeded by (seed, step): which slides; the gate's noise and dropout also by the process.
A checkpoint therefore holds weights, optimiser state and the step's number, and a resumed run is the uninterrupted
run, bit for bit on one device. The weights that are kept are those of the best validation score, taken on the path
used at inference.

The loss is the mean over all answer tokens of an optimiser step, whatever batches and processes share them. What is
computed is therefore the same function of (seed, step, batch) for any number of processes: equal to rounding for
methods that draw nothing, another draw of the same noise for those that do. A compressor's own loss is a mean over
batches and processes instead.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from lib.feed import Feed, Phase, alignment_phases, batches
from lib.launch_training import run_in_processes
from lib.run_state import RunState, of_first_process
from lib.soft_topk import TAU_SCHEDULES
from lib.training_step import Settings, one_batch, parameter_groups, recomputing, set_modes
from lib.vlm import VLM

__all__ = ["Feed", "Phase", "Settings", "alignment_phases", "batches", "cooling", "fit", "parameter_groups"]
PRINT_EVERY_S = 5.0


def fit(
    model: VLM,
    feed: Feed,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path,
    save_every: int,
    evaluate: Callable[[VLM], float],
    evaluate_every: int,
    stop_at: float = float("inf"),
    before_step: Callable[[VLM, int], None] = lambda model, step: None,
    watch: Callable[[VLM], dict[str, float]] = lambda model: {},
    device: str | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Train in place and leave the best weights in the model; return one row per batch.

    `evaluate` gives a validation score, higher is better; training ends early once it reaches `stop_at`. What `watch`
    measures at each validation is written beside the score. An existing `checkpoint` is resumed from; it is the
    caller's to delete when the stage is done. `device` is where to train, "cpu" or "cuda"; None: where the model is.
    With more than one of `processes`, the model must not have been on a GPU yet, and stays in main memory here.
    """
    if settings.mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed_precision: got {settings.mixed_precision!r}; expected no or bf16")
    device = device or model.feature_mean.device.type
    if device == "cuda" and torch.cuda.device_count() < processes:
        raise ValueError(
            f"device: got cuda for {processes} processes; this machine has {torch.cuda.device_count()} GPUs; "
            "lower processes, or set device to cpu"
        )
    train = partial(
        _train, model, feed, settings, torch.device(device), seed=seed, checkpoint=checkpoint, save_every=save_every,
        evaluate=evaluate, evaluate_every=evaluate_every, stop_at=stop_at, before_step=before_step, watch=watch,
    )  # fmt: skip
    feed.check_shards(processes)
    if processes > 1:
        run_in_processes(partial(train, leave_result=True), processes, device=device)
        state = RunState.read(checkpoint)
    else:
        state = train()
    model.load_state_dict(state.best, strict=False)
    model.eval()
    return pd.DataFrame(state.rows)


def cooling(tau_start: float, tau_end: float, steps: int, *, schedule: str = "cosine") -> Callable[[VLM, int], None]:
    """Lower a selector's temperature over `steps`: by a "cosine", "linear", or not at all ("constant", tau_start)."""
    if schedule not in TAU_SCHEDULES:
        raise ValueError(f"schedule of tau: got {schedule!r}; expected one of {sorted(TAU_SCHEDULES)}")

    def cool(model: VLM, step: int) -> None:
        if hasattr(model.compressor, "tau"):
            model.compressor.tau.fill_(TAU_SCHEDULES[schedule](step, steps, tau_start, tau_end))

    return cool


def _train(
    model: VLM,
    feed: Feed,
    settings: Settings,
    device: torch.device,
    *,
    seed: int,
    checkpoint: Path,
    save_every: int,
    evaluate: Callable[[VLM], float],
    evaluate_every: int,
    stop_at: float,
    before_step: Callable[[VLM, int], None],
    watch: Callable[[VLM], dict[str, float]],
    leave_result: bool = False,
) -> RunState:
    """Train in this process, alone or as one of its group; with `leave_result` the checkpoint holds how it ended."""
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch of short slides has no use for some
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[unused])
    feed.check_shards(accelerator.num_processes)
    checkpoint = of_first_process(checkpoint)
    model.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.rates), betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    optimizer_steps = -(-feed.steps // settings.accumulate)
    rising = settings.warmup if settings.warmup >= 1 else settings.warmup * optimizer_steps
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, round(rising), max(optimizer_steps, 1), min_lr_rate=settings.lr_end
    )
    state = RunState.resume(checkpoint, model, optimizer, schedule)
    trained = accelerator.prepare_model(model)
    saved, spoken = state.step, 0.0
    with recomputing(model.lm, settings.gradient_checkpointing):
        while state.step < feed.steps and state.best_score < stop_at:
            before_step(model, state.step)
            set_modes(model, settings.rates)
            loss, ends = one_batch(accelerator, trained, optimizer, feed, settings, seed, state.step)
            if ends:
                schedule.step()
            lr = schedule.get_last_lr()[0]
            state.rows.append({"step": state.step, "loss": loss, "lr": lr, "score": float("nan")})
            state.step += 1
            last = state.step == feed.steps
            if state.step % evaluate_every == 0 or last:
                state.judge(model, evaluate, watch)
            if accelerator.is_main_process and (last or time.monotonic() - spoken > PRINT_EVERY_S):
                spoken, best = time.monotonic(), state.best_score
                print(f"step {state.step}/{feed.steps}  loss {loss:.3f}  best validation {best:.3f}", flush=True)
            if accelerator.is_main_process and ends and state.step - saved >= save_every:
                saved = state.step
                state.save(checkpoint, model, optimizer, schedule)
    if leave_result and accelerator.is_main_process:
        state.save(checkpoint, model, optimizer, schedule)
    return state
