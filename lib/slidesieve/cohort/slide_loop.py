"""One function over many slides, in processes: a bad slide fails alone, and a run killed anywhere resumes.

What is no fault of a slide ends the run: a full disk, and slides that an earlier run had and that cannot be had now.

The parent alone writes the ledger. Workers are single-threaded (the numbers do not depend on how many there are) and
end when their parent does, however it ended.
"""

import errno
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.ledger import LOST, Ledger, Outcome
from slidesieve.cohort.processes import in_processes
from slidesieve.cohort.progress import line_end

REPORT_EVERY_S = 5.0
MOST_NAMED = 20
NO_ROOM = {
    errno.ENOSPC: "free some space, or give another out_dir",
    errno.EDQUOT: "your quota is used up: free some of it, or give another out_dir",
    errno.EROFS: "nothing can be written there: give another out_dir",
}


class Counts(NamedTuple):
    """What the work on a slide returns; `kept` means that an earlier run had done it already."""

    n_tiles: int
    n_dropped: int
    kept: bool = False
    note: str = ""  # goes to the ledger
    waited_s: float = 0.0  # part of its seconds, which goes there too


UNCHECKED = "its slide is not there to be checked"  # kept on the word of the earlier run's file


class SkipSlide(Exception):
    """Raised by the work on a slide that this stage has nothing to do for; the message says why."""


class TooManyFailed(RuntimeError):
    """More slides failed than the run tolerates."""


class SlidesLost(RuntimeError):
    """Slides that an earlier run had cannot be had now."""


class NoRoom(RuntimeError):
    """The folder that is written to is full, or must not be written to."""


Work = Callable[[str], Counts]
Result = tuple[Outcome, bool, bool]  # the row, whether it was kept, whether the slide could not be read


def for_each_slide(
    work: Work, slide_ids: Iterable[str], *, ledger: Ledger, workers: int, max_failed_share: float
) -> pd.DataFrame:
    """Call `work` on every slide and return the ledger's rows; workers = 0 stays in this process, for debugging.

    `work` must be importable (it crosses processes) and itself keep what it finds done. Raises NoRoom at once where
    nothing more can be written. At the end raises SlidesLost if a slide that was ok before is absent or unreadable now,
    and TooManyFailed if more than `max_failed_share` of the slides tried have failed, or none is ok.
    """
    ids = list(slide_ids)
    one_by_one = partial(_one_by_one, work)
    how = {"ledger": ledger, "workers": workers, "max_failed_share": max_failed_share}
    return for_each_batch(one_by_one, ids, batches=[[slide_id] for slide_id in ids], kept={}, **how)


def for_each_batch(
    work: Callable[[list[str]], list[Result]],
    slide_ids: Iterable[str],
    *,
    batches: Iterable[list[str]],
    kept: Mapping[str, Counts],
    ledger: Ledger,
    workers: int,
    max_failed_share: float,
) -> pd.DataFrame:
    """Do as `for_each_slide` where slides are worked on together: `work` tries each of a batch (`tried`), in order.

    `kept` are the slides of `slide_ids` that are in no batch: those that an earlier run had done.
    """
    ids = list(slide_ids)
    results = _results(work, batches, kept, workers)
    with room_in(ledger.path.parent), closing(results):
        _say_who_left(ledger.rows(), ids)
        before = ledger.settle(ids, ("ok",)).set_index("slide_id")["message"].to_dict()
        report = _Report(len(ids))
        for outcome, was_kept, unread in results:
            had = outcome.slide_id in before
            if had and unread:
                outcome = outcome._replace(error=LOST, message=f"was ok before; now {outcome.error}: {outcome.message}")
            if not (was_kept and had and before[outcome.slide_id] == outcome.message):
                ledger.append(outcome)
            report.count(outcome)
        rows = ledger.settle(ids)
    _check_lost(rows, ledger.path)
    _check_failures(rows, ledger.path, max_failed_share)
    return rows


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Raise NoRoom for a full or read-only disk under what the block writes: `folder`, or what the fault names."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in NO_ROOM:
            raise
        place = Path(fault.filename).parent if fault.filename else folder
        there = next(p for p in (place, *place.absolute().parents) if p.exists())
        free_mib = shutil.disk_usage(there).free / 2**20
        raise NoRoom(
            f"{place}: {os.strerror(fault.errno)} ({free_mib:.1f} MiB free); {NO_ROOM[fault.errno]}, and run again: "
            "finished slides are kept"
        ) from fault


def _results(
    work: Callable[[list[str]], list[Result]], batches: Iterable[list[str]], kept: Mapping[str, Counts], workers: int
) -> Iterator[Result]:
    for slide_id, counts in kept.items():
        yield tried(lambda _, counts=counts: counts, slide_id)
    for batch, results in in_processes(work, batches, workers) if workers else ((b, work(b)) for b in batches):
        yield from [_died(*batch)] if results is None else results


def _died(slide_id: str) -> Result:
    message = "its process died twice: out of memory, killed, or a crash in a decoder; try the slide by itself"
    return Outcome(slide_id, "failed", "WorkerDied", message, 0, 0, 0.0), False, True


def _one_by_one(work: Work, slide_ids: list[str]) -> list[Result]:
    return [tried(work, slide_id) for slide_id in slide_ids]


def tried(work: Work, slide_id: str) -> Result:
    """Turn whatever happens to a slide into its row; a full disk is none of the slide's."""
    start = time.monotonic()
    status, error, message, counts, unread = "ok", "", "", Counts(0, 0), False
    try:
        counts = work(slide_id)
        message = counts.note
    except SkipSlide as reason:
        status, message = "skipped", str(reason)
    except Exception as fault:  # a slide may fail in any way at all, and must do so alone
        if isinstance(fault, OSError) and fault.errno in NO_ROOM:
            raise
        unread = isinstance(fault, OSError) or getattr(fault, "is_unread", False)
        status, error, message = "failed", type(fault).__name__, str(fault)
        if not isinstance(fault, ValueError | OSError):
            frame = traceback.extract_tb(fault.__traceback__)[-1]
            message += f" ({Path(frame.filename).name}:{frame.lineno})"
    seconds = round(time.monotonic() - start, 3)
    numbers = (counts.n_tiles, counts.n_dropped, seconds, round(counts.waited_s, 3))
    return Outcome(slide_id, status, error, message, *numbers), counts.kept, unread


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
            print(
                f"{self.done}/{self.total} slides, {self.failed} failed, {rate:.1f} a second{left}     ",
                end=line_end(last=self.done == self.total),
                flush=True,
            )
            self.last = now


def _say_who_left(rows: pd.DataFrame, ids: list[str]) -> None:
    left = rows.loc[(rows["status"] == "ok") & ~rows["slide_id"].isin(ids), "slide_id"].tolist()
    if left:
        print(f"{len(left)} slides of the earlier run are no longer asked for: {_named(left)}", flush=True)


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:MOST_NAMED]) + (f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else "")


def _check_lost(rows: pd.DataFrame, path: Path) -> None:
    lost = rows[rows["error"] == LOST]
    if len(lost):
        raise SlidesLost(
            f"{len(lost)} of {len(rows)} slides were ok in an earlier run and cannot be had now: "
            f"{_named(lost['slide_id'].tolist())}; bring them back, or take their rows out of the manifest; "
            f"all rows in {path}\n- {lost['slide_id'].iloc[0]}: {lost['message'].iloc[0]}"
        )


def _check_failures(rows: pd.DataFrame, path: Path, max_failed_share: float) -> None:
    failed, n_ok = rows[rows["status"] == "failed"], int((rows["status"] == "ok").sum())
    share = len(failed) / max(1, len(failed) + n_ok)
    if share > max_failed_share or n_ok == 0:
        faults = [f"{r.slide_id}: {r.error}: {r.message}" for r in failed.head(5).itertuples()]
        raise TooManyFailed(
            f"{len(failed)} of {len(failed) + n_ok} slides failed, {n_ok} ok (max_failed_share {max_failed_share:g}); "
            f"correct them or raise max_failed_share; all rows in {path}\n- " + "\n- ".join(faults)
        )
