"""The inside of one notebook's process: Papermill runs it, nbconvert renders it. Started by flows.notebook only.

Reads a JSON order from stdin, writes a JSON account to account.json: {"ok": bool, "error": str, "cell": str}.
Kernel output goes to log.txt as it comes. The executed copy is NAME.partial.ipynb until the end,
then NAME.ipynb or NAME.failed.ipynb.
"""

import io
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.files import ROOT, write_json, written_whole

CANNOT_WRITE = 74  # this process's exit code where it cannot even write its account: EX_IOERR
ACCOUNT = "account.json"  # how it ended, for the process that waits for it
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Log(io.TextIOWrapper):
    """The file of a kernel's words, where a line that took the last one's place on the page has one of its own."""

    def write(self, text: str) -> int:
        return super().write(text.replace("\r\n", "\n").replace("\r", "\n"))


class Interrupted(BaseException):
    """The driver asked for an end (timeout or Ctrl-C)."""


class Account(NamedTuple):
    """How the run ended: `cell` says where, `error` why; both empty if all is well. `stopped`: it was interrupted."""

    ok: bool
    error: str = ""
    cell: str = ""
    stopped: bool = False


def main() -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    order = json.load(sys.stdin)
    notebook, out_dir = Path(order["notebook"]), Path(order["out_dir"])
    account = run(notebook, out_dir, order["parameters"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        publish(out_dir, notebook.stem, account, list(order["parameters"]))
    except OSError as error:
        account = (
            account if not account.ok else Account(False, f"{type(error).__name__}: {error}", "after the last cell")
        )
    try:
        write_json(out_dir / ACCOUNT, account._asdict())
    except OSError:  # a full disk, which takes no words either
        sys.exit(CANNOT_WRITE)


def run(notebook: Path, out_dir: Path, parameters: dict[str, object]) -> Account:
    """Execute into NAME.partial.ipynb; the kernel listens on private sockets, not on the network."""
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    from flows.run.kernels import OwnKernel, socket_folder

    logging.getLogger("papermill").setLevel(logging.ERROR)  # its own parser warns; ours has checked
    partial = out_dir / f"{notebook.stem}.partial.ipynb"
    with socket_folder() as sockets, Log((out_dir / "log.txt").open("wb")) as log:
        os.environ["JUPYTER_RUNTIME_DIR"] = sockets
        try:
            execute_notebook(
                _literal(notebook),
                _literal(partial),
                parameters=parameters,
                kernel_name="python3",  # what the parameters are written for; the kernel itself is ours
                kernel_manager_class=OwnKernel,
                progress_bar=False,
                start_timeout=120,
                iopub_timeout=300,
                autosave_cell_every=60,
                stdout_file=log,
                stderr_file=log,
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            )
        except PapermillExecutionError as error:
            return Account(False, ANSI.sub("", f"{error.ename}: {error.evalue}"), last_cell(partial))
        except Interrupted:
            return Account(False, "stopped by the driver", last_cell(partial))
        except Exception as error:
            return Account(False, f"{type(error).__name__}: {error}", last_cell(partial))
    return Account(True)


def last_cell(executed: Path) -> str:
    """Name the last code cell that was started (a killed kernel's cells all read completed, so status is no help)."""
    code = _code_cells(executed)
    if not code:
        return ""
    started = [i for i, c in enumerate(code) if _has_started(c)]
    if not started:
        return "before the first cell"
    source = "".join(code[started[-1]]["source"]).strip()
    return f"code cell {started[-1] + 1} of {len(code)}: {source.splitlines()[0] if source else ''}"


def is_cut_off(out_dir: Path, name: str) -> bool:
    """Say whether an executed copy was left behind before its last cell had begun."""
    partial = out_dir / f"{name}.partial.ipynb"
    return partial.exists() and not any(map(_has_started, _code_cells(partial)[-1:]))


def is_unpublished(out_dir: Path, name: str) -> bool:
    """Say whether a process that ended its last cell was killed before the copy or its page had their names."""
    copies = [out_dir / f"{name}{suffix}" for suffix in (".partial.ipynb", ".ipynb", ".html")]
    partial, executed, page = (path.exists() for path in copies)
    return partial or (executed and not page)


def _code_cells(executed: Path) -> list[dict]:
    try:
        return [c for c in json.loads(executed.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    except (FileNotFoundError, ValueError):  # none yet, or the process was killed while it wrote
        return []


def _has_started(cell: dict) -> bool:
    return bool(cell["metadata"].get("papermill", {}).get("start_time"))


def publish(out_dir: Path, name: str, account: Account, given: list[str]) -> None:
    """Rename the executed copy to its final name, without this machine's paths, and render it beside."""
    import nbformat

    from flows.run.pages import render_notebook
    from slidesieve.provenance.places import without_places

    stem = name if account.ok else f"{name}.failed"
    partial, executed = out_dir / f"{name}.partial.ipynb", out_dir / f"{stem}.ipynb"
    found = partial if partial.exists() else executed
    try:
        node = nbformat.reads(found.read_text(encoding="utf-8").replace(f"{ROOT}/", ""), as_version=4)
    except (FileNotFoundError, ValueError):  # none, or stopped while it was written: it stays as it is
        return
    for key in ("input_path", "output_path", "environment_variables"):
        node.metadata.get("papermill", {}).pop(key, None)
    node = nbformat.reads(without_places(nbformat.writes(node)), as_version=4)
    if found == partial:
        with written_whole(executed) as aside:
            nbformat.write(node, aside)
        partial.unlink()
    failure = "" if account.ok else without_places(f"{account.cell}\n{account.error}")
    with written_whole(out_dir / f"{stem}.html") as aside:
        aside.write_text(render_notebook(node, title=name, failure=failure), encoding="utf-8")


def _interrupt(signum: int, frame: object) -> None:
    raise Interrupted


def _literal(path: Path) -> str:
    """Papermill formats its paths; braces must be doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


if __name__ == "__main__":
    main()
