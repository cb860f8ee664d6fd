"""One notebook with parameters, in a process of its own: executed copy, HTML page, log and receipt in one folder.

    python -m flows.notebook notebooks/50_tune_answers.ipynb --out runs/manual/50 -p k=8 -p steps=300

Relative paths are taken from the repository's root. If the folder's receipt already fits, nothing runs.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from flows.execute import last_cell
from flows.processes import RUN, guard, kill_tagged
from lib import receipts
from lib.file_hashes import ROOT
from lib.parameters import check_parameters, nearest, parse_value, read_parameters
from lib.recipes import Recipe, recipe_of

GRACE_SECONDS = 20  # from a polite stop to SIGKILL: time to save the executed copy and render it
LOG_LINES = 10
_live: set[subprocess.Popen] = set()


class Result(NamedTuple):
    """What became of it: `status` is ran, skipped or failed; `reasons`: why it ran; `error`: where it failed."""

    status: str
    reasons: list[str]
    seconds: float
    executed: Path
    html: Path | None
    error: str


def run_notebook(
    notebook: Path,
    out_dir: Path,
    parameters: dict[str, object],
    *,
    timeout_s: float | None = None,
    force: bool = False,
    threads: int = 0,
    on_start: Callable[[list[str]], None] = lambda reasons: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Result:
    """Bring `out_dir` up to date with `notebook` run with `parameters`, and say what was done.

    Raises ValueError or FileNotFoundError, before anything is launched, if a parameter or an input is wrong.
    `threads` limits BLAS and OpenMP in the kernel (0: the library's own choice). `on_line` gets the kernel's latest
    output line a few times a minute. A kernel that outlives `timeout_s` is stopped with all its children.
    """
    notebook, out_dir = notebook.resolve(), (ROOT / out_dir).resolve()
    parameters = parameters | {"out_dir": portable(out_dir)}
    recipe = recipe_of(notebook, parameters)
    reasons = ["asked for"] if force else receipts.check(out_dir, recipe)
    executed, html = out_dir / f"{notebook.stem}.ipynb", out_dir / f"{notebook.stem}.html"
    if not reasons:
        return Result("skipped", [], 0.0, executed, html if html.exists() else None, "")
    on_start(reasons)
    out_dir.mkdir(parents=True, exist_ok=True)
    _remove_earlier_copies(out_dir, notebook.stem)
    started = time.monotonic()
    account = _launch(notebook, out_dir, parameters, timeout_s=timeout_s, threads=threads, on_line=on_line)
    error = _verdict(account, out_dir, recipe)
    seconds = time.monotonic() - started
    if not error:
        return Result("ran", reasons, seconds, executed, html, "")
    (out_dir / receipts.RECEIPT).unlink(missing_ok=True)
    failed = [out_dir / f"{notebook.stem}.failed{suffix}" for suffix in (".ipynb", ".html")]
    return Result("failed", reasons, seconds, failed[0], failed[1] if failed[1].exists() else None, error)


def stop_all() -> None:
    """Ask every notebook that this process is running to save what it has and end."""
    for process in list(_live):
        process.terminate()


def portable(path: Path) -> str:
    """Write a path relative to the repository's root if it lies there."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """Return the last non-empty lines of a log; a progress bar's carriage returns start new lines."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    return [line for line in text.replace("\r", "\n").split("\n") if line.strip()][-count:]


def _launch(notebook: Path, out_dir: Path, parameters: dict, *, timeout_s: float | None, threads: int, on_line) -> dict:
    """Run flows.execute in its own session and wait; whatever happens, none of its processes is left behind."""
    guard()
    tag = uuid.uuid4().hex
    environment = os.environ | {RUN: tag, receipts.NOTEBOOK_VARIABLE: str(notebook)} | _thread_limits(threads)
    order = {"notebook": str(notebook), "out_dir": str(out_dir), "parameters": parameters}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.execute"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _live.add(process)
    try:
        stdout, stderr = _wait(process, json.dumps(order), out_dir / "log.txt", timeout_s=timeout_s, on_line=on_line)
    finally:
        if process.poll() is None:
            _stop(process)
        kill_tagged(RUN, tag)
        _live.discard(process)
    if stdout:
        return json.loads(stdout)
    how = f"killed by {signal.Signals(-process.returncode).name}" if process.returncode < 0 else "broke down"
    error = f"the process running the notebook {how}\n{stderr[-2000:]}".strip()
    return {"ok": False, "cell": last_cell(out_dir / f"{notebook.stem}.partial.ipynb"), "error": error}


def _wait(process: subprocess.Popen, order: str, log: Path, *, timeout_s: float | None, on_line) -> tuple[str, str]:
    """Feed the order, then wait in short steps, passing on the log's latest line."""
    deadline, shown, send = time.monotonic() + (timeout_s or float("inf")), "", order
    while True:
        try:
            stdout, stderr = process.communicate(send, timeout=min(2.0, max(0.0, deadline - time.monotonic())))
            return stdout, stderr
        except subprocess.TimeoutExpired:
            send = None
        latest = (last_lines(log, 1) or [""])[0].strip()
        if latest != shown:
            on_line(latest)
            shown = latest
        if time.monotonic() >= deadline:
            stdout, stderr = _stop(process)
            account = json.loads(stdout) if stdout else {"ok": False, "cell": ""}
            return json.dumps(account | {"ok": False, "error": f"stopped after {timeout_s:g} s (timeout)"}), stderr


def _stop(process: subprocess.Popen) -> tuple[str, str]:
    """Ask the process to save what it has, then kill its group."""
    process.terminate()
    try:
        return process.communicate(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _verdict(account: dict, out_dir: Path, recipe: Recipe) -> str:
    """Return an empty string if the stage is done, else where and why it failed with the last log lines."""
    if account["ok"]:
        faults = receipts.check(out_dir, recipe)
        if not faults:
            return ""
        where, why = (
            "after the last cell",
            f"no valid receipt ({'; '.join(faults)}); the last cell must call stage.finish",
        )
    else:
        where, why = account["cell"], account["error"]
    log = "\n".join(f"    {line}" for line in last_lines(out_dir / "log.txt"))
    return f"{where}\n{why}".strip() + (f"\nlast log lines:\n{log}" if log else "")


def _remove_earlier_copies(out_dir: Path, name: str) -> None:
    """Copies of an earlier run must not stand beside the log of this one."""
    for stem in (name, f"{name}.failed", f"{name}.partial"):
        for suffix in (".ipynb", ".html"):
            (out_dir / (stem + suffix)).unlink(missing_ok=True)
    (out_dir / "log.txt").unlink(missing_ok=True)


def _thread_limits(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {"TOKENIZERS_PARALLELISM": "false"} | ({name: str(threads) for name in names} if threads else {})


def parse_words(notebook: Path, words: list[str]) -> dict[str, object]:
    """Turn `name=value` words into parameters of their declared types."""
    declared, given = read_parameters(notebook), {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"-p {word}: write name=value")
        if name not in declared:
            raise ValueError(f"{notebook.stem}: no parameter {name!r}{nearest(name, declared)}")
        given[name] = parse_value(declared[name], text)
    return check_parameters(declared, given, notebook=notebook.stem) and given


def main(
    notebook: Annotated[Path, typer.Argument(help="the notebook, e.g. notebooks/10_tile_slides.ipynb")],
    out: Annotated[Path, typer.Option(help="folder for everything this run writes")],
    parameter: Annotated[list[str], typer.Option("-p", help="name=value; repeat for more")] = [],  # noqa: B006
    timeout_s: Annotated[float, typer.Option(help="stop the notebook after so many seconds; 0 = never")] = 0.0,
    threads: Annotated[int, typer.Option(help="threads of BLAS and OpenMP; 0 = all cores")] = 0,
    force: Annotated[bool, typer.Option("--force", help="run even if the receipt fits")] = False,
) -> None:
    """Run one notebook as a stage; exit 0 if its receipt fits afterwards."""
    say = lambda text: print(text, flush=True)  # noqa: E731
    try:
        result = run_notebook(
            notebook,
            out.resolve(),
            parse_words(notebook, parameter),
            timeout_s=timeout_s or None,
            force=force,
            threads=threads,
            on_start=lambda reasons: say(f"{notebook.stem}: runs ({'; '.join(reasons)})"),
            on_line=lambda line: say(f"  {line[:160]}"),
        )
    except (ValueError, FileNotFoundError) as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    if result.status == "failed":
        say(f"{notebook.stem}: failed in {result.seconds:.0f} s\n{result.error}\nexecuted so far: {result.executed}")
        raise typer.Exit(1)
    done = "is up to date, not run again" if result.status == "skipped" else f"done in {result.seconds:.0f} s"
    say(f"{notebook.stem}: {done}: {result.html}")


if __name__ == "__main__":
    typer.run(main)
