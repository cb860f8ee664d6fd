"""Several processes for one training, started from a notebook: accelerate forks them, one for each GPU.

A fork cannot use CUDA if its parent has, so the parent keeps its model in main memory and makes no call to a GPU
before; the processes share its memory until they write to it. Started by hand instead (`flows.script`), every process
runs the whole notebook and finds its group by itself.
"""

import os
import socket
from collections.abc import Callable

import torch
from accelerate import PartialState, debug_launcher, notebook_launcher
from accelerate.state import AcceleratorState

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else asking whether there is a GPU spoils later forks


def run_in_processes(train: Callable[[], object], processes: int, *, device: str) -> None:
    """Call `train` in so many processes ("cpu": gloo, "cuda": NCCL) and wait for them; its result is dropped.

    Raises ValueError if CUDA is already in use here; what a process raises is raised here.
    """
    if torch.cuda.is_initialized():
        raise ValueError(
            f"training in {processes} processes: CUDA is already in use in this one, and a fork cannot use it again; "
            "restart the kernel and keep the model on the CPU until fit"
        )
    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier training's, alone: forks would inherit it
    if device == "cpu":
        debug_launcher(_worker, (train, processes, True), num_processes=processes)
    else:
        notebook_launcher(_worker, (train, processes, False), num_processes=processes, use_port=str(_free_port()))


def _worker(train: Callable[[], object], processes: int, cpu: bool) -> None:
    torch.set_num_threads(1)  # a fork has lost its parent's thread pool
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    state = PartialState(cpu=cpu)
    if state.num_processes != processes:
        raise RuntimeError(f"training in {processes} processes: accelerate made a group of {state.num_processes}")
    train()
    state.wait_for_everyone()
    state.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
