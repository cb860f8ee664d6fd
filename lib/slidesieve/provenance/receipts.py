"""Receipts, the only proof that a stage is done: `begin` opens, `finish` writes, `check` says what no longer fits.

A notebook's third cell is `stage = receipts.begin("50_tune_answers", globals())`, its last is
`stage.finish(outputs=["answers.csv", ...])`: what later stages read, files or folders.
A killed kernel never reaches the last cell, so it leaves no receipt, whatever the saved notebook says about its cells.

Between the two the folder is held: it is ours, and nobody else's run writes to it.
"""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from slidesieve.provenance.files import (
    CHECKOUT,
    RECEIPT,
    ROOT,
    WORK_MARK,
    file_stamp,
    files_under,
    hash_file,
    outputs_of,
    read_receipt,
    resolve,
    write_json,
    written_whole,
)
from slidesieve.provenance.folders import check_folder, claim
from slidesieve.provenance.locks import let_go, take
from slidesieve.provenance.parameters import check_parameters, read_parameters
from slidesieve.provenance.places import without_places
from slidesieve.provenance.recipes import Recipe, differences, recipe_of, redrawn, with_fetched_models

NOTEBOOK_VARIABLE = "SLIDESIEVE_NOTEBOOK"
CLEARED = ".work.cleared"  # what was `work/`, while it is being removed
DAMAGED = "its receipt is damaged"
PACKAGES = ("numpy", "torch", "transformers", "peft", "h5py", "openslide-python", "scikit-learn")


class Stage:
    """A running stage: its folder, its checked parameters, and `work/` for the resume state of this very recipe."""

    def __init__(self, name: str, parameters: dict[str, object], recipe: Recipe):
        self.name, self.parameters, self.recipe = name, parameters, recipe
        self.out_dir = resolve(parameters["out_dir"])
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._clear_foreign_work()
        (self.out_dir / RECEIPT).unlink(missing_ok=True)
        self._started, self._meter = time.monotonic(), _MemoryMeter()

    def path(self, name: str) -> Path | None:
        """Return where input `name` lies, or None if it is not used."""
        value = self.parameters[name]
        return resolve(value) if value else None

    def path_or_id(self, name: str) -> str:
        """Return where a model lies, or the hub id that stands for itself."""
        value = self.parameters[name]
        return str(resolve(value)) if resolve(value).exists() else value

    def paths(self, name: str) -> list[Path]:
        """Return where the files or folders of a list input lie."""
        return [resolve(value) for value in self.parameters[name]]

    @property
    def work(self) -> Path:
        """A folder for resume state: emptied when the recipe changes, removed by `finish`."""
        folder = self.out_dir / "work"
        folder.mkdir(exist_ok=True)
        return folder

    def finish(self, *, outputs: list[str]) -> dict:
        """Hash `outputs` (files or folders in out_dir, what later stages read) and write receipt.json; return it.

        Only then is what a killed run would resume from removed, and the folder let go.
        """
        files = []
        for name in outputs:
            path = self.out_dir / name
            if not path.exists():
                raise ValueError(
                    f"{self.name}: output {name} was not written to {self.out_dir}; write it before finish()"
                )
            files += [f"{name}/{f}" for f in files_under(path)] if path.is_dir() else [name]
        self.recipe = with_fetched_models(self.recipe)
        receipt = {
            "stage": self.name,
            "digest": self.recipe.digest,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_memory_mib": self._meter.stop(),
            "environment": _environment(),
            "given": json.loads(without_places(json.dumps(self.parameters))),
            "recipe": self.recipe._asdict(),
            "outputs": {f: _output_record(self.out_dir / f) for f in files},
        }
        write_json(self.out_dir / RECEIPT, receipt)
        self._clear_work()
        let_go(self.out_dir)
        return receipt

    def _clear_foreign_work(self) -> None:
        """Leave in `work/` what this recipe may go on from: nothing of another's, nor of a run that has finished."""
        work, finished = self.out_dir / "work", (self.out_dir / RECEIPT).exists()
        mark = work / WORK_MARK
        if work.is_dir() and any(work.iterdir()) and not mark.exists():
            raise ValueError(
                f"{work}: holds what slidesieve did not write, and would be emptied; "
                "expected it absent or left by an earlier run; move it away, or give another out_dir"
            )
        if finished or not mark.exists() or mark.read_text() != self.recipe.digest:
            self._clear_work()
            with written_whole(self.work / WORK_MARK) as aside:
                aside.write_text(self.recipe.digest)

    def _clear_work(self) -> None:
        """Remove `work/`, out of its place first, so that no kill leaves half of it there."""
        work, cleared = self.out_dir / "work", self.out_dir / CLEARED
        shutil.rmtree(cleared, ignore_errors=True)
        if work.is_dir():
            work.replace(cleared)
            shutil.rmtree(cleared, ignore_errors=True)


def begin(name: str, namespace: dict[str, object]) -> Stage:
    """Open stage `name` with the parameters in `namespace` (the notebook's globals()), voiding any older receipt.

    The folder is held from here to `finish`, or to the end of the process. Raises ValueError, before anything in it is
    touched, if a parameter is wrong, the folder is not ours, or another run is at work in it.
    """
    notebook = notebook_of(name)
    if notebook.stem != name:
        raise ValueError(f"begin({name!r}) in {notebook.name}; write begin({notebook.stem!r}, globals())")
    declared = read_parameters(notebook)
    gone = sorted(declared.keys() - namespace.keys())
    if gone:
        raise ValueError(f"{name}: parameters {', '.join(gone)} are not defined; run the parameters cell first")
    values = check_parameters(declared, {n: namespace[n] for n in declared}, notebook=name)
    recipe, out_dir = recipe_of(notebook, values), resolve(values["out_dir"])
    check_folder(out_dir, name, notebook)
    take(out_dir)
    try:
        claim(out_dir, name, notebook)
        return Stage(name, values, recipe)
    except BaseException:
        let_go(out_dir)
        raise


def notebook_of(name: str) -> Path:
    """Return the notebook that runs, told by whoever runs it, else the checkout's of that name."""
    return Path(os.environ.get(NOTEBOOK_VARIABLE) or ROOT / "notebooks" / f"{name}.ipynb")


def check(out_dir: Path, recipe: Recipe) -> list[str]:
    """List the reasons why `out_dir` does not hold the result of `recipe`; empty means up to date."""
    try:
        receipt, now = read_receipt(out_dir), outputs_of(out_dir)
    except FileNotFoundError:  # also if another worker begins anew just now
        return ["did not finish last time" if (out_dir / "work").exists() else "never ran"]
    except ValueError:
        return [DAMAGED]
    reasons = differences(receipt["recipe"], recipe)
    reasons += [f"{f} missing" for f in receipt["outputs"] if f not in now]
    reasons += [f"{f} changed since it was written" for f, sha in now.items() if sha != receipt["outputs"][f]["sha256"]]
    return reasons if len(reasons) <= 8 else [*reasons[:8], f"and {len(reasons) - 8} more"]


def redrawn_since(out_dir: Path, recipe: Recipe) -> list[str]:
    """List what has changed in the code that drew the figures of `out_dir`; its result stands."""
    return redrawn(read_receipt(out_dir)["recipe"], recipe)


def _output_record(path: Path) -> dict[str, object]:
    size, mtime_ns = file_stamp(path)
    return {"sha256": hash_file(path), "size": size, "mtime_ns": mtime_ns}


def _environment() -> dict[str, object]:
    installed = {d.metadata["Name"]: d.version for p in PACKAGES for d in _distribution(p)}
    device = (
        sys.modules["torch"].cuda.get_device_name()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available()
        else "cpu"
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "packages": installed,
        "commit": commit_of(),
    }


def commit_of(checkout: Path = CHECKOUT) -> str:
    """The commit of the code that ran, with a `+` where files were changed since; "" where git knows of none."""
    if not (checkout / ".git").exists():
        return ""
    git = ("git", "-C", str(checkout))
    try:
        told = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip() + "+" * bool(changed.stdout.strip())


def _distribution(package: str) -> list[metadata.Distribution]:
    return list(metadata.distributions(name=package))[:1]


class _MemoryMeter(threading.Thread):
    """Sample the memory of this process (resident) and its children (their own pages) twice a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self._peak_bytes, self._done = 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.5):
            self._peak_bytes = max(self._peak_bytes, _tree_bytes(psutil.Process()))

    def stop(self) -> float:
        """Return the peak in MiB."""
        self._done.set()
        self.join()
        own_peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return round(max(self._peak_bytes, own_peak_bytes) / 2**20, 1)


def _tree_bytes(process: psutil.Process) -> int:
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # the child ended between listing and reading
    return total
