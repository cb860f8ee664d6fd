"""The process that runs one notebook: started in a session of its own, watched, and cleared away whatever happens."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flows.run.execute import ACCOUNT, CANNOT_WRITE, Account, last_cell
from flows.run.processes import RUN, guard, kill_tagged
from slidesieve.provenance.files import ROOT, read_json
from slidesieve.provenance.locks import LOAN
from slidesieve.provenance.receipts import NOTEBOOK_VARIABLE

GRACE_SECONDS = 20  # from a polite stop to SIGKILL: time to save the executed copy and render it
POLL_SECONDS = 0.1
TIMEOUT, STOPPED = "timeout", "stopped"  # why a notebook was not waited for
INTERRUPTED = "interrupted; the next run goes on from here"
LIVE_SECONDS = 2.0
AT_ITS_END = (
    "KeyboardInterrupt caught in kernel."  # said by some kernels that are asked to go: Jupyter interrupts first
)
TERMINAL = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?"
)  # its commands: colours, titles, cursor


def launch(
    notebook: Path,
    out_dir: Path,
    parameters: dict[str, object],
    *,
    timeout_s: float | None,
    threads: int,
    on_line: Callable[[str], None],
    loan: str = "",
    stop: threading.Event | None = None,
) -> Account:
    """Run flows.run.execute on a notebook and wait for its account; no process it started is left behind.

    The caller holds `out_dir`, so whatever still runs for it there was left by a driver that was killed a moment ago;
    `loan` is the token that lends the hold to the kernel. Once `stop` is set, the notebook saves what it has and ends.
    """
    guard()
    end_leftovers(out_dir)
    order = {"notebook": str(notebook), "out_dir": str(out_dir), "parameters": parameters}
    account, noise = out_dir / ACCOUNT, out_dir / "process.txt"
    account.unlink(missing_ok=True)
    with noise.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.run.execute"],
            cwd=ROOT,
            env=os.environ
            | {RUN: _tag(out_dir), NOTEBOOK_VARIABLE: str(notebook), LOAN: loan}
            | quiet_environment(threads),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        end = _wait(process, out_dir / "log.txt", timeout_s=timeout_s, on_line=on_line, stop=stop)
    except BaseException:
        _stop(process)
        account.unlink(missing_ok=True)
        raise
    finally:
        _stop(process)
        end_leftovers(out_dir)
    told = Account(**read_json(account)) if account.exists() else _broken(process, out_dir, notebook.stem)
    account.unlink(missing_ok=True)
    if told.ok and all(line.endswith(AT_ITS_END) for line in last_lines(noise, 2)):
        noise.unlink()
    if end == TIMEOUT:
        return told._replace(ok=False, error=f"stopped after {timeout_s:g} s (timeout)")
    return told._replace(error=INTERRUPTED, stopped=True) if end == STOPPED and not told.ok else told


def end_leftovers(out_dir: Path) -> None:
    """Kill whatever still runs for this folder; the caller holds it, so that nobody has use for it."""
    kill_tagged(RUN, _tag(out_dir))


def _tag(out_dir: Path) -> str:
    return hashlib.sha256(str(out_dir).encode()).hexdigest()


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last non-empty lines of a log, without what would move a terminal's cursor or change its colours.

    A progress bar's carriage returns start new lines.
    """
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    lines = TERMINAL.sub("", text).replace("\t", " ").replace("\r", "\n").split("\n")
    shown = ["".join(sign for sign in line if sign.isprintable()) for line in lines]
    return [line for line in shown if line.strip()][-count:]


def quiet_environment(threads: int) -> dict[str, str]:
    """Name the environment variables that limit BLAS and OpenMP (0 leaves them alone) and keep progress bars slow."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {"TOKENIZERS_PARALLELISM": "false", "TQDM_MININTERVAL": "5"} | (
        {name: str(threads) for name in names} if threads else {}
    )


def _wait(
    process: subprocess.Popen,
    log: Path,
    *,
    timeout_s: float | None,
    on_line: Callable[[str], None],
    stop: threading.Event | None,
) -> str:
    """Wait for the end, passing on the log's latest line now and then; return why if something else came first."""
    started, shown, looked = time.monotonic(), "", time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        if stop is not None and stop.is_set():
            return STOPPED
        if timeout_s and now - started >= timeout_s:
            return TIMEOUT
        if now - looked >= LIVE_SECONDS:
            looked, latest = now, "".join(last_lines(log, 1)).strip()
            if latest != shown:
                on_line(latest)
                shown = latest
        time.sleep(POLL_SECONDS)
    return ""


def _stop(process: subprocess.Popen) -> None:
    """End the process if it has not ended: ask it to save what it has, then kill its group."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _broken(process: subprocess.Popen, out_dir: Path, name: str) -> Account:
    """Account for a process that ended without doing so itself."""
    code = process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == CANNOT_WRITE:
        free_mib = shutil.disk_usage(out_dir).free / 2**20
        how = f"could not write to {out_dir} ({free_mib:.1f} MiB free); make room, and run again"
    noise = "\n".join(last_lines(out_dir / "process.txt", 10))
    cell = last_cell(out_dir / f"{name}.partial.ipynb")
    return Account(False, f"the process running the notebook {how}\n{noise}".strip(), cell)
