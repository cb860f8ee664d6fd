"""A function in a process of its own, as costs are measured: what other tests left in the heap is not counted."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from slidesieve.cost.measure import PRELOADED


def run_alone(function: Callable, *words: object) -> object:
    fork = get_context("forkserver")
    fork.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        return pool.submit(function, *words).result()
