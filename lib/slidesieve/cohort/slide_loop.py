"""One function over many slides, in processes: a bad slide fails alone, and a run killed anywhere resumes.

The parent alone writes the ledger. Workers are single-threaded (the numbers do not depend on how many there are) and
end when their parent does, however it ended.
"""

import multiprocessing
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.ledger import Ledger, Outcome

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
REPORT_EVERY_S = 5.0


class Counts(NamedTuple):
    """What the work on a slide returns; `kept` means that an earlier run had done it already."""

    n_tiles: int
    n_dropped: int
    kept: bool = False


class SkipSlide(Exception):
    """Raised by the work on a slide that this stage has nothing to do for; the message says why."""


class TooManyFailed(RuntimeError):
    """More slides failed than the run tolerates."""


Work = Callable[[str], Counts]


def for_each_slide(
    work: Work, slide_ids: Iterable[str], *, ledger: Ledger, workers: int, max_failed_share: float
) -> pd.DataFrame:
    """Call `work` on every slide and return the ledger's rows; workers = 0 stays in this process, for debugging.

    `work` must be importable (it crosses processes) and itself keep what it finds done. Raises TooManyFailed at the
    end if more than `max_failed_share` of the slides tried have failed, or none is ok.
    """
    ids = list(slide_ids)
    known = set(ledger.settle(ids, ("ok",))["slide_id"])
    report = _Report(len(ids))
    for outcome, kept in _in_processes(work, ids, workers) if workers else (_try(work, i) for i in ids):
        if not (kept and outcome.slide_id in known):
            ledger.append(outcome)
        report.count(outcome)
    rows = ledger.settle(ids)
    _check_failures(rows, ledger.path, max_failed_share)
    return rows


def _in_processes(work: Work, ids: list[str], workers: int) -> Iterator[tuple[Outcome, bool]]:
    """Yield outcomes as slides end. If a worker dies, the slides then in work are tried once more, each alone."""
    todo = deque(ids)
    while todo:
        running = {}
        try:
            with _pool(min(workers, len(todo))) as pool:
                while todo or running:
                    while todo and len(running) < 2 * workers:
                        running[pool.submit(_try, work, todo[0])] = todo[0]
                        todo.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del running[future]
                        yield result
        except BrokenProcessPool:
            yield from (_alone(work, slide_id) for slide_id in list(running.values()))


def _alone(work: Work, slide_id: str) -> tuple[Outcome, bool]:
    try:
        with _pool(1) as pool:
            return pool.submit(_try, work, slide_id).result()
    except BrokenProcessPool:
        message = "its process died twice: out of memory, killed, or a crash in a decoder; try the slide by itself"
        return Outcome(slide_id, "failed", "WorkerDied", message, 0, 0, 0.0), False


def _try(work: Work, slide_id: str) -> tuple[Outcome, bool]:
    """Turn whatever happens to a slide into its row."""
    start = time.monotonic()
    status, error, message, counts = "ok", "", "", Counts(0, 0)
    try:
        counts = work(slide_id)
    except SkipSlide as reason:
        status, message = "skipped", str(reason)
    except Exception as fault:  # a slide may fail in any way at all, and must do so alone
        status, error, message = "failed", type(fault).__name__, str(fault)
        if not isinstance(fault, ValueError | OSError):
            frame = traceback.extract_tb(fault.__traceback__)[-1]
            message += f" ({Path(frame.filename).name}:{frame.lineno})"
    seconds = round(time.monotonic() - start, 3)
    return Outcome(slide_id, status, error, message, counts.n_tiles, counts.n_dropped, seconds), counts.kept


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of fresh interpreters; the environment tells their libraries to use one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with_parent() -> None:
    """Watch the parent from a thread: a killed parent closes no queue, and its workers would wait for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Report:
    """A line every few seconds: done, failed, rate, time left."""

    def __init__(self, total: int):
        self.total, self.done, self.failed = total, 0, 0
        self.start = self.last = time.monotonic()

    def count(self, outcome: Outcome) -> None:
        self.done += 1
        self.failed += outcome.status == "failed"
        now = time.monotonic()
        if now - self.last >= REPORT_EVERY_S or self.done == self.total:
            rate = self.done / max(now - self.start, 1e-9)
            left = f", {(self.total - self.done) / rate:.0f} s left" if self.done < self.total else ""
            print(f"{self.done}/{self.total} slides, {self.failed} failed, {rate:.1f} a second{left}", flush=True)
            self.last = now


def _check_failures(rows: pd.DataFrame, path: Path, max_failed_share: float) -> None:
    failed, n_ok = rows[rows["status"] == "failed"], int((rows["status"] == "ok").sum())
    share = len(failed) / max(1, len(failed) + n_ok)
    if share > max_failed_share or n_ok == 0:
        faults = [f"{r.slide_id}: {r.error}: {r.message}" for r in failed.head(5).itertuples()]
        raise TooManyFailed(
            f"{len(failed)} of {len(failed) + n_ok} slides failed, {n_ok} ok (max_failed_share {max_failed_share:g}); "
            f"correct them or raise max_failed_share; all rows in {path}\n- " + "\n- ".join(faults)
        )
