"""Running a graph of stages side by side: who may start, what became of each, and what the terminal shows meanwhile."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from flows.plan.stages import Stage
from flows.run.launch import GRACE_SECONDS
from flows.run.notebook import due as due_of
from flows.run.notebook import run_notebook
from flows.run.progress import Progress, progress
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.folders import check_folder
from slidesieve.provenance.locks import LOOK_AGAIN_SECONDS, Held, holder, is_held
from slidesieve.provenance.recipes import looked_up_once, recipe_of

LIVE_EVERY_S = 10.0
ELSEWHERE = "another worker is at it"
NOT_BEGUN = "interrupted before it began"
STATUSES = ("ran", "skipped", "failed", "interrupted", "not run")
DONE = ("ran", "skipped")


class Outcome(NamedTuple):
    """What became of a stage: `status` is one of STATUSES; or held: another worker's, to try again."""

    status: str
    reasons: list[str] = []  # noqa: RUF012
    seconds: float = 0.0
    html: Path | None = None
    error: str = ""


class Board:
    """The outcomes so far, and the terminal, shared by the threads that run stages."""

    def __init__(self, say: Callable[[str], None] = lambda text: print(text, flush=True)):
        self.outcomes: dict[str, Outcome] = {}
        self.met: set[str] = set()  # stages that another worker was found at,
        self.turned_back: set[str] = set()  # and of those the ones whose task has just found out
        self.since, self.stopping = time.time(), threading.Event()
        self._say, self._lock, self._started = say, threading.Lock(), time.monotonic()
        self._last_live: dict[str, float] = {}
        self._far: Callable[[], Progress] | None = None
        self.on_end: Callable[[], None] = lambda: None  # called by the thread that drives, after each stage

    def say(self, text: str) -> None:
        with self._lock:
            minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
            self._say(f"[{minutes:2d}:{seconds:02d}] {text}")

    def live(self, stage_id: str, line: str) -> None:
        """Show a running stage's latest line, at most one in LIVE_EVERY_S seconds for each stage."""
        now = time.monotonic()
        if now - self._last_live.get(stage_id, 0.0) >= LIVE_EVERY_S:
            self._last_live[stage_id] = now
            self.say(f"    {stage_id}: {line[:120]}")

    def meet(self, stage: Stage) -> None:
        """Say, once for each stage, that another worker is at it, and who."""
        if stage.id not in self.met:
            self.met.add(stage.id)
            self.say(f"{stage.id}: {ELSEWHERE} ({holder(ROOT / stage.out_dir)}); looking again later")

    def expect(self, stages: list[Stage], due: Iterable[str], *, workers: int) -> None:
        """Say from now on how far these stages are, those that are `due` among them."""
        self._far = lambda: progress(stages, due, self.outcomes, workers=workers)

    def far(self) -> Progress | None:
        """How far the expected stages are."""
        return self._far() if self._far else None

    def record(self, stage_id: str, outcome: Outcome) -> None:
        self.outcomes[stage_id] = outcome
        after = f" in {outcome.seconds:.0f} s" if outcome.status in ("ran", "failed", "interrupted") else ""
        what = {"ran": "done", "skipped": "up to date, skipped"}.get(outcome.status, outcome.status)
        what = "; ".join(outcome.reasons) if outcome.status == "skipped" and outcome.reasons else what
        told = f" ({far.told()})" if (far := self.far()) and outcome.status != "not run" else ""
        self.say(f"{stage_id}: {what}{after}{told}" + (f": {outcome.error}" if outcome.error else ""))


def pending(stages: list[Stage]) -> dict[str, list[str]]:
    """Say which stages would run now, and why, without running any.

    Raises ValueError if folders that they would write to are not ours.
    """
    due: dict[str, list[str]] = {}
    faults: list[str] = []
    with looked_up_once():
        for stage in stages:
            waits = [f"after {need}" for need in stage.needs if need in due]
            waits = waits or [ELSEWHERE] * is_held(ROOT / stage.out_dir)
            reasons = waits or _due(stage)
            if reasons:
                due[stage.id] = reasons
                try:
                    check_folder(ROOT / stage.out_dir, stage.notebook.stem, stage.notebook)
                except ValueError as fault:
                    faults.append(f"{stage.id}: {fault}")
    if faults:
        raise ValueError("\n".join(faults))
    return due


def _due(stage: Stage) -> list[str]:
    return due_of(ROOT / stage.out_dir, stage.notebook.stem, recipe_of(stage.notebook, stage.parameters))


def run_stage(stage: Stage, board: Board, *, threads: int = 0, timeout_s: float | None = None) -> Outcome:
    """Run one stage and put its outcome on the board; never raises, since the other stages go on.

    A stage that another worker is at comes back as held, and is not on the board. Once the board is stopping, none
    starts, and one that runs is interrupted.
    """
    if board.stopping.is_set():
        return Outcome("not run", error=NOT_BEGUN)
    try:
        result = run_notebook(
            stage.notebook,
            ROOT / stage.out_dir,
            stage.parameters,
            timeout_s=timeout_s,
            threads=threads,
            since=board.since,
            on_start=lambda reasons: board.say(f"{stage.id}: runs ({'; '.join(reasons)})"),
            on_line=lambda line: board.live(stage.id, line),
            on_wait=_turn_back,
            stop=board.stopping,
        )
        outcome = Outcome(result.status, result.reasons, result.seconds, result.html, result.error)
    except Held:
        board.turned_back.add(stage.id)
        board.meet(stage)
        return Outcome("held")
    except Exception as error:
        outcome = Outcome("failed", error=f"{type(error).__name__}: {error}")
    board.record(stage.id, outcome)
    return outcome


def drive(stages: list[Stage], start: Callable[[Stage], Future], board: Board, *, workers: int) -> None:
    """Start each stage, at most `workers` at a time and in the order given, once what it needs is there.

    `start` returns a future whose work ends with an outcome on the board. After a failure the stages that
    depend on it are recorded as not run; all others go on. A stage that another worker is at is passed over and looked
    at again until that worker has done it or let go. An interrupt stops the running notebooks, waits until they have
    saved what they have, and leaves the others as not run.
    """
    waiting, running, ended = list(stages), {}, queue.SimpleQueue()
    try:
        while waiting or running:
            passed_over = False
            for stage in list(waiting):
                lost = [n for n in stage.needs if n in board.outcomes and _is_bad(board.outcomes[n])]
                if lost:
                    waiting.remove(stage)
                    cause = board.outcomes[lost[0]]
                    because = cause.error if cause.status == "not run" else f"{lost[0]} {cause.status}"
                    board.record(stage.id, Outcome("not run", error=because))
                elif len(running) < workers and all(n in board.outcomes for n in stage.needs):
                    if is_held(ROOT / stage.out_dir):
                        passed_over = True
                        board.meet(stage)
                        continue
                    waiting.remove(stage)
                    running[stage.id] = stage
                    start(stage).add_done_callback(lambda _, id=stage.id: ended.put(id))
            id = _next(ended, LOOK_AGAIN_SECONDS if passed_over else None) if running or passed_over else ""
            stage = running.pop(id, None)
            if stage and id in board.turned_back:
                board.turned_back.remove(id)
                waiting.insert(0, stage)
            elif stage and id not in board.outcomes:
                board.record(id, Outcome("failed", error="its task ended without an account"))
            if stage:
                board.on_end()
    except BaseException:
        board.stopping.set()
        while running and (id := _next(ended, GRACE_SECONDS + 5)):
            running.pop(id, None)
        for stage in stages:
            late = Outcome("interrupted") if stage.id in running else Outcome("not run", error=NOT_BEGUN)
            board.outcomes.setdefault(stage.id, late)
        raise


def _next(ended: queue.SimpleQueue, timeout_s: float | None) -> str:
    """Return the id of the next stage that ends, or an empty string once the time is up."""
    try:
        return ended.get(timeout=timeout_s)
    except queue.Empty:
        return ""


def _turn_back() -> None:
    raise Held


def _is_bad(outcome: Outcome) -> bool:
    return outcome.status not in DONE
