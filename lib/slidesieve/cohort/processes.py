"""Batches of work in fresh, single-threaded processes, which end when their parent does, however it ended."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
T = TypeVar("T")


def in_processes(
    work: Callable[[list[str]], T], batches: Iterable[list[str]], workers: int
) -> Iterator[tuple[list[str], T | None]]:
    """Yield each batch with what `work` made of it, as they end.

    If a process dies, the batches then in work are tried once more, each alone; then the halves of one that dies again.
    The id that is left alone at last and that no process survives comes with None.
    """
    todo = deque(batches)
    while todo:
        running = {}
        try:
            with _pool(min(workers, len(todo))) as pool:
                while todo or running:
                    while todo and len(running) < 2 * workers:
                        running[pool.submit(work, todo[0])] = todo[0]
                        todo.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
        except BrokenProcessPool:
            for batch in list(running.values()):
                yield from _alone(work, batch)


def _alone(work: Callable[[list[str]], T], batch: list[str]) -> Iterator[tuple[list[str], T | None]]:
    result = None
    try:
        with _pool(1) as pool:
            result = pool.submit(work, batch).result()
    except BrokenProcessPool:
        if len(batch) > 1:
            half = len(batch) // 2
            yield from _alone(work, batch[:half])
            yield from _alone(work, batch[half:])
            return
    yield batch, result


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of fresh interpreters; the environment tells their libraries to use one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with_parent() -> None:
    """Watch the parent from a thread: a killed parent closes no queue, and its workers would wait for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
