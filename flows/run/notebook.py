"""One notebook with parameters, in a process of its own: executed copy, HTML page, log and receipt in one folder.

If the folder's receipt already fits, nothing runs.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flows.run.execute import ACCOUNT, Account, is_cut_off, is_unpublished, publish
from flows.run.launch import end_leftovers, last_lines, launch
from slidesieve.provenance import receipts
from slidesieve.provenance.files import HOLDER, ROOT
from slidesieve.provenance.folders import COPIES, check_folder, claim
from slidesieve.provenance.locks import held, is_held
from slidesieve.provenance.parameters import (
    check_parameters,
    check_stand_ins,
    nearest,
    parse_value,
    read_parameters,
)
from slidesieve.provenance.recipes import Recipe, recipe_of

LOG_LINES = 10
MEANWHILE = "done by another worker meanwhile"
CUT_OFF = "cut off when it was run again"
OLDER_FIGURES = "up to date, its figures drawn by older code"
VERIFY_HELP = (
    "read every input and output again, instead of trusting size and mtime: as long as reading all of them takes, "
    "once here and once in each notebook that runs"
)


class Result(NamedTuple):
    """What became of it: `status` is ran, skipped, failed or interrupted; `reasons`: why so; `error`: where and why."""

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
    since: float | None = None,
    on_start: Callable[[list[str]], None] = lambda reasons: None,
    on_line: Callable[[str], None] = lambda line: None,
    on_wait: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> Result:
    """Bring `out_dir` up to date with `notebook` run with `parameters`, and say what was done.

    Raises ValueError or FileNotFoundError, before anything is launched, if a parameter or an input is wrong, or if the
    folder is not ours: it holds the notebook itself, or is neither empty nor marked as this stage's.
    `out_dir` is held while the notebook runs; where another worker holds it, `on_wait` is called once and may raise,
    else this waits and looks again. A receipt newer than `since` (seconds since the epoch) is that worker's, unless it
    is of the future: the clock was set back.
    `threads` limits BLAS and OpenMP in the kernel (0: the library's own choice). `on_line` gets the kernel's latest
    output line a few times a minute. A kernel that outlives `timeout_s` is stopped with all its children, and so is
    one that runs when `stop` is set: it is interrupted.
    """
    notebook, out_dir = notebook.resolve(), (ROOT / out_dir).resolve()
    parameters = parameters | {"out_dir": portable(out_dir)}
    check_stand_ins(read_parameters(notebook), parameters, notebook=notebook.stem)
    since, recipe = time.time() if since is None else since, recipe_of(notebook, parameters)
    if force or due(out_dir, notebook.stem, recipe):
        check_folder(out_dir, notebook.stem, notebook)
        with held(out_dir, on_wait=on_wait) as loan:
            recipe = recipe_of(notebook, parameters)
            reasons = ["asked for"] if force else due(out_dir, notebook.stem, recipe)
            if reasons:
                claim(out_dir, notebook.stem, notebook)
                on_start(reasons)
                _remove_earlier_copies(out_dir, notebook.stem)
                started, how = time.monotonic(), {"timeout_s": timeout_s, "threads": threads, "on_line": on_line}
                account = launch(notebook, out_dir, parameters, **how, loan=loan, stop=stop)
                return _result(account, notebook, out_dir, recipe, reasons, time.monotonic() - started)
    finish_pages(out_dir, notebook.stem)
    executed, html = out_dir / f"{notebook.stem}.ipynb", out_dir / f"{notebook.stem}.html"
    reasons = [MEANWHILE] * (since < (out_dir / receipts.RECEIPT).stat().st_mtime <= time.time())
    if drawn := receipts.redrawn_since(out_dir, recipe):
        reasons.append(f"{OLDER_FIGURES} ({'; '.join(drawn)})")
    return Result("skipped", reasons, 0.0, executed, html if html.exists() else None, "")


def due(out_dir: Path, name: str, recipe: Recipe) -> list[str]:
    """Say why a stage would run: its receipt does not fit, or it was cut off while it was run again."""
    return receipts.check(out_dir, recipe) or [CUT_OFF] * is_cut_off(out_dir, name)


def finish_pages(out_dir: Path, name: str) -> None:
    """Of a stage that is done, publish or clear away what a process that was killed after its receipt left behind."""
    unpublished, account = is_unpublished(out_dir, name), out_dir / ACCOUNT
    left = unpublished or account.exists() or (out_dir / HOLDER).exists()
    if not left or is_held(out_dir):  # then its worker does so itself
        return
    try:
        with held(out_dir):
            end_leftovers(out_dir)
            account.unlink(missing_ok=True)
            if unpublished:
                publish(out_dir, name, Account(True), [])
    except (OSError, ValueError):  # a folder that may not be written to: the stage is done without its page
        return


def portable(path: Path) -> str:
    """Write a path relative to the repository's root if it lies there."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _result(
    account: Account, notebook: Path, out_dir: Path, recipe: Recipe, reasons: list[str], seconds: float
) -> Result:
    """Judge a run by its receipt; a failed one leaves none."""
    error = _verdict(account, out_dir, recipe)
    stem = f"{notebook.stem}.failed" if error else notebook.stem
    if error:
        (out_dir / receipts.RECEIPT).unlink(missing_ok=True)
    executed, html = out_dir / f"{stem}.ipynb", out_dir / f"{stem}.html"
    page = html if html.exists() else None
    status = "ran" if not error else "interrupted" if account.stopped else "failed"
    return Result(status, reasons, seconds, executed, page, error)


def _verdict(account: Account, out_dir: Path, recipe: Recipe) -> str:
    """Return an empty string if the stage is done, else where and why it failed with the last log lines."""
    if account.ok:
        faults = receipts.check(out_dir, recipe)
        if not faults:
            return ""
        where = "after the last cell"
        why = f"no valid receipt ({'; '.join(faults)}); the last cell must call stage.finish"
    else:
        where, why = account.cell, account.error
    log = "\n".join(f"    {line}" for line in last_lines(out_dir / "log.txt", LOG_LINES))
    return f"{where}\n{why}".strip() + (f"\nlast log lines:\n{log}" if log else "")


def _remove_earlier_copies(out_dir: Path, name: str) -> None:
    """Copies of an earlier run must not stand beside the log of this one."""
    for kind in COPIES:
        for suffix in (".ipynb", ".html"):
            (out_dir / f"{name}{kind}{suffix}").unlink(missing_ok=True)
    (out_dir / "log.txt").unlink(missing_ok=True)


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
