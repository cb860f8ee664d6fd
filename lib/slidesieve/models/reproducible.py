"""The same numbers from the same seeds on a GPU too: kernels that add in one order alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # PyTorch asks for it before it calls any product of matrices reproducible


@contextmanager
def reproducible(device: torch.device | str, *, gradients: bool, on: bool = True) -> Iterator[None]:
    """Within, what is computed on a GPU is bit for bit the same each time; on a CPU it is anyway.

    Attention's backward pass and sums over groups add in any order on a GPU, unless told otherwise; in order, a step
    of a language model of 7B takes 10 to 26 % longer (reports/gpu.md). An operation with `gradients` that has no such
    form ends in a ValueError that says what to do; without them it goes on, with a warning.
    """
    if not on or torch.device(device).type != "cuda":
        yield
        return
    os.environ.setdefault(CUBLAS, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=not gradients)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what was not written
    try:
        yield
    except RuntimeError as fault:
        if "deterministic implementation" not in str(fault):
            raise
        raise ValueError(
            f"deterministic: {str(fault).split(',')[0]}; set deterministic to false (-p deterministic=false)"
        ) from fault
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled
