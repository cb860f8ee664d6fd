"""What a method costs on the device at hand: parameters, seconds and peak memory, with a decoder of random weights.

Each `Case` runs in a process of its own, so that no peak leaks into the next: `step` is one training step as notebook
40 takes it (both passes, optimiser; the language model frozen, all else learns), `lora_step` one of notebook 50,
`first_token` is compress + prefill + the likeliest token, `prefill` the same from visual tokens that are there already.
Memory is, on a GPU, the allocator's (allocated, reserved); on a CPU the process's resident set as Linux keeps it.
"""

import ctypes
import hashlib
import itertools
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from slidesieve.answers.decoding import greedy
from slidesieve.cost.methods import method_named
from slidesieve.cost.models import DECODERS, Case, build, prompt_of, slide
from slidesieve.datasets.examples import Example
from slidesieve.features.bag import collate
from slidesieve.models.chat import pack
from slidesieve.models.reproducible import reproducible
from slidesieve.models.vlm import VLM
from slidesieve.provenance.files import written_whole
from slidesieve.training.feed import Feed, Phase
from slidesieve.training.step import AnswerLoss, Settings, one_batch, parameter_groups, recomputing, set_modes

PRELOADED = ["slidesieve.cost.measure", "peft", "transformers.models.qwen2.modeling_qwen2"]  # once for all cases
LARGE = 10**9  # weights of a decoder that a CPU is not asked to run
WHATS = ("step", "lora_step", "first_token", "prefill")
RATES = {"slide_encoder": 1e-4, "compressor": 1e-4, "projector": 1e-3, "reader": 1e-4}
MIB = 2**20


def measure_all(cases: Sequence[Case], folder: Path) -> pd.DataFrame:
    """One row a case, in order; `status` is "ok", or why there are no numbers. Prints each as it ends.

    Rows are kept in `folder`, so that a measurement that was stopped goes on where it was.
    """
    rows = []
    for case in cases:
        file = folder / f"{hashlib.sha256(repr(case).encode()).hexdigest()[:16]}.json"
        if file.exists():
            rows.append(json.loads(file.read_text()))
            continue
        rows.append(measure(case))
        with written_whole(file) as aside:
            aside.write_text(json.dumps(rows[-1]))
        told = f"{rows[-1]['ms']:,.0f} ms" if rows[-1]["status"] == "ok" else rows[-1]["status"]
        print(f"{case.method}, {case.what}, {case.n:,} tiles: {told}", flush=True)
    return pd.DataFrame(rows)


def measure(case: Case) -> dict[str, object]:
    """Run a case in a fresh process. Raises ValueError for unknown names; running out of memory is a status."""
    if case.decoder not in DECODERS or case.what not in WHATS:
        raise ValueError(
            f"cost: got decoder {case.decoder!r} and {case.what!r}; expected one of {', '.join(DECODERS)} and one of "
            f"{', '.join(WHATS)}"
        )
    method_named(case.method)
    known = {name: value for name, value in case._asdict().items() if name not in ("force", "threads", "repeats")}
    if case.device == "cpu" and DECODERS[case.decoder].weights > LARGE and not case.force:
        return known | nothing("refused: a large decoder on a CPU; set force, or device to cuda")
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        try:
            return known | pool.submit(run, case).result()
        except BrokenProcessPool:
            return known | nothing("killed, most likely out of memory")


def run(case: Case) -> dict[str, object]:
    """Build, warm up and time a case in this process."""
    torch.set_num_threads(case.threads)
    try:
        model = build(case)
        call = ready(model, case)
        if not case.what.endswith("step"):
            call()  # libraries come into memory; a step's first call is measured, for it makes AdamW's moments
        with recomputing(model.lm, case.recompute), peak_memory(case.device) as memory:
            call()
            times = [timed(call, case.device) for _ in range(case.repeats)]
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        return nothing("out of memory")
    wall, processor = zip(*times, strict=True)
    return {
        "status": "ok",
        "ms": 1000 * statistics.median(wall),
        "ms_min": 1000 * min(wall),
        "ms_max": 1000 * max(wall),
        "processor_ms": 1000 * statistics.median(processor),
        **memory,
        "learns": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "on": torch.cuda.get_device_name() if case.device == "cuda" else f"CPU, {case.threads} threads",
    }


def nothing(status: str) -> dict[str, object]:
    return {"status": status, "ms": np.nan, "peak_mib": np.nan, "above_mib": np.nan}


def ready(model: VLM, case: Case) -> Callable[[], object]:
    """What is timed, with all that it needs in place."""
    if case.what.endswith("step"):
        return training_step(model, case)
    model.eval()
    batch = collate([slide(case.n, case.d)]).to(case.device)
    turn = model.chat.turn(prompt_of(model, case.text), [])
    texts = pack([[turn]]).to(case.device)

    @torch.no_grad()
    def prefix():
        return model.prefix(model.compress(batch), texts)

    def first_token(given):
        return greedy(model.lm, model.chat.head, given, [turn.prompt], stops=set(), most=1)

    if case.what == "first_token":
        return lambda: first_token(prefix())
    given = prefix()
    return lambda: first_token(given)


def training_step(model: VLM, case: Case) -> Callable[[], object]:
    """One step of stage 1, or with low-rank adapters one of stage 2; a new one at each call."""
    rates = dict.fromkeys(model.fusion.parts(), RATES["projector"]) | RATES
    if case.what == "lora_step":
        model.add_lora(rank=case.lora_rank, alpha=2 * case.lora_rank, dropout=0.05)
        model.to(case.device)
        rates["lm"] = 2e-4
    settings = Settings(rates, 0.01, warmup=1, clip=1.0, mixed_precision="bf16" if case.device == "cuda" else "no")
    accelerator = Accelerator(cpu=case.device == "cpu", mixed_precision="no")
    optimizer = torch.optim.AdamW(parameter_groups(model, rates), weight_decay=settings.weight_decay)
    turn = (prompt_of(model, case.text - 2), "a")  # the answer and its end are two tokens
    phase = Phase([Example("slide", None, (turn,))], 10**6, 1)
    work = AnswerLoss(Feed(model, {"slide": slide(case.n, case.d)}, [phase], seed=0, max_tiles=case.n))
    numbers = itertools.count()

    def step() -> None:
        set_modes(model, rates)
        with reproducible(case.device, gradients=True, on=settings.deterministic):
            one_batch(accelerator, model, optimizer, work, settings, 0, next(numbers))

    return step


def timed(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds by the clock, once the GPU has done all it was asked, and seconds of the processor."""
    start, worked = now(device), time.process_time()
    call()
    return now(device) - start, time.process_time() - worked


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, float]]:
    """Fill in, at the end, MiB at the peak, and above what stood there before (weights and inputs)."""
    memory: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield memory
        peak = torch.cuda.max_memory_allocated()
        memory["reserved_mib"] = torch.cuda.max_memory_reserved() / MIB
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, or the peak would hide in it
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        yield memory
        peak = resident("VmHWM")
    memory |= {"peak_mib": peak / MIB, "above_mib": (peak - before) / MIB}


def resident(field: str) -> int:
    """Bytes of this process in memory now (VmRSS), or at most (VmHWM).

    Not `getrusage`: its peak begins at that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])
