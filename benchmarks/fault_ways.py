"""What `benchmarks.faults` does its faults with: a finished small experiment, runs of it, their processes, mounts."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.kills import differences, files, make_inputs, outputs, start
from flows.run.processes import DRIVER, RUN
from slidesieve.provenance.files import BOOKS, ROOT, hash_file, read_receipt

LONGEST = 900.0  # seconds that anything here may take
SOON = 8.0  # seconds within which what a driver started has ended after it
TOO_LATE = 10  # tries to hit a moment
Found = TypeVar("Found")
Told = Iterator[tuple[str, str]]  # how a fault was done, and what happened


class NotOk(Exception):
    """Something else was found than what is expected."""


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise NotOk(otherwise)


class Run:
    """A run of the experiment's command line: its process, and what it says."""

    def __init__(self, folder: Path, *more: str, log: str = "log.txt", **how):
        self.log = folder / log
        self.log.write_text("")
        self.process = start(folder, self.log, *more, **how)
        self.pid = self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, code: int | tuple[int, ...] = 0, *, seconds: float = LONGEST) -> str:
        """Wait until it ends with the code, or one of them, that is expected; return what it has said."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        found = self.process.poll()
        expect(found is not None, f"still runs after {seconds:.0f} s: {self.said()[-300:]}")
        expect(found in (code if isinstance(code, tuple) else (code,)), f"exit {found}: {self.said()[-900:]}")
        return self.said()

    def until(self, found: Callable[[], Found], *, every: float = 0.05) -> Found:
        """Wait until something is there, while the run lasts, and return it."""
        deadline = time.monotonic() + LONGEST
        while not (it := found()):
            expect(self.process.poll() is None, f"the run ended too early: {self.said()[-500:]}")
            expect(time.monotonic() < deadline, f"not seen within {LONGEST:.0f} s: {self.said()[-500:]}")
            time.sleep(every)
        return it

    def line(self, *parts: str) -> str:
        """The first line said that has all these parts. Raises NotOk if there is none."""
        lines = [line.strip() for line in self.said().splitlines() if all(part in line for part in parts)]
        expect(lines, f"nothing said of {', '.join(parts)}: {self.said()[-500:]}")
        return lines[0]

    def left(self) -> list[psutil.Process]:
        """The processes that it started and that live."""
        return [p for p in psutil.process_iter() if environment(p).get(DRIVER, "").startswith(f"{self.pid}-")]

    def kill_all(self) -> None:
        """SIGKILL to the driver and whatever it started."""
        for process in [p for p in self.left() if p.pid != self.pid]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()


class Lab:
    """A small experiment that has finished undisturbed, put back before each fault."""

    def __init__(self, folder: Path):
        self.folder, self.run, self.done, self.runs = folder, folder / "run", folder / "done", []
        make_inputs(folder)
        began = time.monotonic()
        Run(folder).end()
        self.seconds, self.expected, self.names = time.monotonic() - began, outputs(self.run), files(self.run)
        shutil.copytree(self.run, self.done)

    def restore(self, *without: str, among: Path | None = None) -> None:
        """Put the finished experiment in place, without the folders of the stages that begin so."""
        if among is None:
            remove(self.run)
        shutil.copytree(self.done, among or self.run, dirs_exist_ok=True)
        for path in [p for name in without for p in (among or self.run).glob(f"{name}*")]:
            shutil.rmtree(path)

    def start(self, *more: str, **how) -> Run:
        self.runs.append(Run(self.folder, *more, **how))
        return self.runs[-1]

    def clear(self) -> None:
        """End what a fault left running, and remove its files."""
        for one in self.runs:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGCONT)
            one.kill_all()
        self.runs = []
        remove(self.run)

    def check(self) -> None:
        """Expect that every output which a receipt names has the bytes of the undisturbed run."""
        for id, named in outputs(self.run).items():
            receipt = read_receipt(self.run / id)["outputs"]
            for name, found in named.items():
                path = self.run / id / name
                whole = path.is_file() and hash_file(path) == receipt[name]["sha256"]
                expect(whole, f"{id}/{name} is not what its receipt says")
                expect(self.expected[id].get(name) == found, f"{id}/{name} has other bytes than undisturbed")

    def settle(self, *, before: bool = True, undo: Callable[[], object] = lambda: None, **how) -> str:
        """Run again: it ends with all stages done, as undisturbed, and with nothing more; say what it ran.

        `before` it too, what has a receipt is as undisturbed; `undo` is called after the run, before the last look.
        """
        if before:
            self.check()
        said = self.start(**how).end()
        undo()
        self.check()
        wrong = differences(self.run, self.expected, self.names)
        said_more = [path.read_text()[-600:] for path in self.run.rglob("process.txt")] if wrong else []
        expect(not wrong, f"after the rerun {'; '.join(wrong[:6])} {' '.join(said_more)}")
        ran = said.count(": done in")
        return f"rerun: {ran} stage{'s' * (ran != 1)} run, as undisturbed" if ran else "rerun: nothing to run"

    def stage(self, name: str) -> Path:
        """The folder of the one stage that begins so, there or not."""
        return self.run / next(id for id in self.expected if id.startswith(name))

    def kernel(self, name: str) -> psutil.Process | None:
        """The process in which a stage's cells run, if there is one."""
        tag = hashlib.sha256(str(self.stage(name).resolve()).encode()).hexdigest()
        found = [p for p in psutil.process_iter() if environment(p).get(RUN) == tag and is_kernel(p)]
        return found[0] if found else None

    def at_work(self, name: str) -> psutil.Process | None:
        """The stage's kernel, once it has printed something or written a file."""
        folder = self.stage(name)
        log = folder / "log.txt"
        return self.kernel(name) if log.is_file() and log.stat().st_size else None


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in process.cmdline()
    except psutil.Error:
        return False


def gone(run: Run) -> None:
    """Expect that nothing of a run is left soon after it."""
    deadline = time.monotonic() + SOON
    while (left := run.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    expect(not left, f"left running: {left}")


def remove(folder: Path) -> None:
    """Remove a folder, a file or a link, there or not."""
    shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() and not folder.is_symlink() else folder.unlink(True)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file under a folder, links followed, but for marks and locks."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in BOOKS
    }


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a disk of that size at `folder`; the function given changes its options. Raises NotOk where none can be."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield lambda options: _mount("-o", f"remount,{options}", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    expect(not done.returncode, f"could not be done: mount {' '.join(words)}: {done.stderr.strip()}")


def hit(lab: Lab, glimpse: Callable[[], Path | None], *without: str) -> str:
    """SIGKILL everything at first sight of a file that is being written, until one is left half made; say how."""
    for n in range(1, TOO_LATE + 1):
        lab.restore(*without)
        run, looked, groups = lab.start(), 0.0, set[int]()
        while run.process.poll() is None:
            if seen := glimpse():
                for group in groups | {run.pid}:
                    with suppress(ProcessLookupError):
                        os.killpg(group, signal.SIGKILL)
                run.kill_all()
                if seen.exists():
                    return f"{seen.relative_to(lab.run)} left by try {n}"
                break
            if time.monotonic() - looked > 1:
                groups, looked = {os.getpgid(p.pid) for p in run.left()}, time.monotonic()
    raise NotOk(f"not hit in {TOO_LATE} tries")


def short(line: str) -> str:
    return line.strip().partition("\n")[0].replace("|", "/").replace(f"{ROOT}/", "")[:160]
