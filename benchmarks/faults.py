"""What befalls a run from outside, done to a small real experiment: each fault is named, and the next run mends all.

    python -m benchmarks.faults [NAME ...]

A fault is done to kernels, drivers, disks, links, clocks or files; then it is undone and the experiment run again: that
exits 0, every output that a receipt names has the bytes of an undisturbed run, and no file of others is lost. Prints a
table; exits 1 if a row is not ok. Mounts need root, the clock needs `faketime`.
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks import fault_files
from benchmarks.fault_ways import Lab, NotOk, Told, expect, gone, hit, short
from slidesieve.provenance.files import ROOT

HUNG, PAUSE = 8.0, 0.3  # seconds
CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGINT twice": 130, "SIGKILL": -9}
AT_WORK = ("10", "20", "40", "60")


class Row(NamedTuple):
    fault: str
    how: str
    happened: str
    ok: bool


def stopped_kernel(lab: Lab) -> Told:
    lab.restore("60")
    run = lab.start()
    kernel = run.until(lambda: lab.at_work("60"))
    kernel.suspend()
    time.sleep(HUNG)
    expect(run.process.poll() is None, "the run ended while its kernel was stopped")
    kernel.resume()
    run.end()
    yield f"SIGSTOP to 60's kernel, SIGCONT {HUNG:.0f} s later", f"the run ends by itself; {lab.settle()}"


def stopped_driver(lab: Lab) -> Told:
    lab.restore("60")
    one = lab.start()
    one.until(lambda: lab.at_work("60"))
    one.process.send_signal(signal.SIGSTOP)
    two = lab.start(log="second.txt")
    two.until(lambda: "another worker is at it" in two.said() and "looking again" in two.said())
    told = two.line("another worker is at it", f"process {one.pid} on ")
    time.sleep(HUNG)
    one.process.send_signal(signal.SIGCONT)
    once(one.end() + two.end())
    happened = f"the second said `{short(told)}` and waited; both exit 0, 60 ran once; {lab.settle()}"
    yield "SIGSTOP to the driver at 60, a second driver, SIGCONT", happened


def memory(lab: Lab) -> Told:
    for name, seen, when in (("00", lab.kernel, "as it starts"), ("50", lab.at_work, "at work")):
        lab.restore(name)
        run = lab.start()
        kernel = run.until(partial(seen, name))
        kernel.rlimit(resource.RLIMIT_AS, (kernel.memory_info().vms,) * 2)
        run.end(1)
        told = short(run.line(f"FAILED {lab.stage(name).relative_to(lab.run)}"))
        named = next((line for line in reversed(run.said().splitlines()) if "rror" in line or "died" in line), "")
        yield f"RLIMIT_AS of {name}'s kernel set to what it has, {when}", f"`{told}`, `{short(named)}`; {lab.settle()}"


def signals(lab: Lab) -> Told:
    for name, code in CODES.items():
        lab.restore("00")
        run = lab.start()
        run.until(lambda: lab.at_work("00"))
        run.process.send_signal(signal.Signals[name.split()[0]])
        if name.endswith("twice"):
            time.sleep(PAUSE)
            run.process.send_signal(signal.SIGINT)
        said = run.end(code)
        gone(run)
        expect("Traceback" not in said, f"a traceback: {said[-900:]}")
        yield f"{name} to the driver at 00", f"exit {code}, no process left; {lab.settle()}"


def killed_kernels(lab: Lab) -> Told:
    for name in AT_WORK:
        lab.restore(name)
        run = lab.start()
        run.until(partial(lab.at_work, name)).kill()
        run.end(1)
        gone(run)
        told = short(run.line(f"FAILED {lab.stage(name).relative_to(lab.run)}"))
        yield f"SIGKILL to {name}'s kernel at work", f"`{told}`; {lab.settle()}"


def killed_writers(lab: Lab) -> Told:
    def receipt() -> Path | None:
        aside = lab.run / "00_audit_manifest" / ".receipt.json.partial"
        return aside if aside.exists() else None

    def report() -> Path | None:
        page = lab.run / ".report.partial" / "index.html"
        return page if page.exists() else None

    def features() -> Path | None:
        with suppress(OSError):
            names = os.listdir(lab.run / "20_extract_features")  # noqa: PTH208, the faster
            found = next((n for n in names if n.endswith(".h5.partial")), None)
            return lab.run / "20_extract_features" / found if found else None

    for what, glimpse, without in (("a receipt", receipt, "00"), ("the report", report, ""), ("20's", features, "20")):
        told = hit(lab, glimpse, *filter(None, [without]))
        yield f"SIGKILL to all while {what} is written", f"{told}; {lab.settle()}"


def two_drivers(lab: Lab) -> Told:
    lab.restore("00", "10", "60", "80")
    one, two = lab.start(), lab.start(log="second.txt")
    n = once(one.end() + two.end())
    yield "two drivers at once, 00, 10, 60 and 80 to run", f"both exit 0, {n} stages ran, each once; {lab.settle()}"


def hung_worker(lab: Lab) -> Told:
    lab.restore("00", "10")
    run = lab.start("--workers", "2")
    run.until(lambda: lab.kernel("00")).suspend()
    run.until(lambda: "10_tile_slides: done" in run.said())
    run.process.send_signal(signal.SIGINT)
    run.end(130)
    gone(run)
    yield "SIGSTOP to 00's kernel, --workers 2, Ctrl-C", f"10 goes on; exit 130, no process left; {lab.settle()}"


def once(said: str) -> int:
    """Expect that no stage was done twice; return how many were done."""
    done = [line.split("] ")[1].split(":")[0] for line in said.splitlines() if ": done in" in line]
    expect(len(done) == len(set(done)), f"done twice: {sorted(i for i in set(done) if done.count(i) > 1)}")
    return len(done)


PROCESSES = (stopped_kernel, stopped_driver, memory, signals, killed_kernels, killed_writers, two_drivers, hung_worker)
FAULTS: dict[str, Callable[[Lab], Told]] = {fault.__name__: fault for fault in (*PROCESSES, *fault_files.FAULTS)}


def suffer(lab: Lab, name: str) -> list[Row]:
    """The rows of one fault; the first that is not ok ends it."""
    rows: list[Row] = []
    try:
        for how, happened in FAULTS[name](lab):
            rows.append(_told(Row(name, how, happened, True)))
    except (NotOk, OSError, psutil.Error, subprocess.SubprocessError) as fault:
        rows.append(_told(Row(name, "", f"{type(fault).__name__}: {' '.join(str(fault).split())}", False)))
    finally:
        lab.clear()
    return rows


def _told(row: Row) -> Row:
    print(f"| {row.fault} | {row.how} | {row.happened} | {'ok' if row.ok else 'NOT OK'} |", flush=True)
    return row


def main() -> None:
    names = sys.argv[1:] or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        sys.exit(f"no fault named {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    with tempfile.TemporaryDirectory(dir=ROOT) as temporary:
        lab = Lab(Path(temporary))
        rows = [row for name in names for row in suffer(lab, name)]
    print("\n| fault | done by | happened | |\n| --- | --- | --- | --- |")
    for row in rows:
        _told(row)
    sys.exit(not all(row.ok for row in rows))


if __name__ == "__main__":
    main()
