"""Several drivers, one experiment: a stage runs in one of them, and what a killed one held is free again."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_notebooks import write_notebook

from flows.plan.stages import Stage, with_needs
from flows.run import board as boards
from flows.run.board import Board, drive, pending, run_stage
from flows.run.execute import Account
from flows.run.launch import launch
from flows.run.notebook import run_notebook
from flows.run.processes import RUN
from slidesieve.provenance import receipts
from slidesieve.provenance.files import BOOKS, HOLDER, LOCK, ROOT, files_under
from slidesieve.provenance.locks import Held, held, is_held
from slidesieve.provenance.recipes import recipe_of

PARAMETERS = "sources: list[str] = []  # in: folders\n"
BODY = """
import time
with open({journal!r}, "a") as file:
    file.write(f"{{stage.out_dir.name}}\\n")
while (stage.out_dir.parent / "hold").exists():
    time.sleep(0.1)
(stage.out_dir / "a.txt").write_text("a")
"""
HOLD = """
import sys, time
from pathlib import Path
from flows.run.launch import launch
from slidesieve.provenance.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def notebook(tmp_path) -> Path:
    body = BODY.format(journal=str(tmp_path / "journal.txt"))
    return write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body=body, outputs='["a.txt"]')


@pytest.fixture
def stages(notebook, tmp_path) -> list[Stage]:
    """Five stages: a, b -> c(a), d(b) -> e(c, d)."""
    out = tmp_path / "runs"

    def one(id, *sources):
        return Stage(id, notebook, f"{out}/{id}", {"sources": [f"{out}/{s}" for s in sources]})

    return with_needs([one("a"), one("b"), one("c", "a"), one("d", "b"), one("e", "c", "d")])


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Let the notebook's process be a function that sleeps, notes itself and leaves a receipt; look again soon."""

    def launch(notebook: Path, out_dir: Path, parameters: dict, **_: object) -> Account:
        values = {"sources": []} | parameters
        stage = receipts.Stage(notebook.stem, values, recipe_of(notebook, values))
        with (tmp_path / "journal.txt").open("a") as file:
            file.write(f"{out_dir.name}\n")
        time.sleep(0.4)
        (out_dir / "a.txt").write_text(out_dir.name)
        stage.finish(outputs=["a.txt"])
        return Account(True)

    monkeypatch.setattr("flows.run.notebook.launch", launch)
    monkeypatch.setattr(boards, "LOOK_AGAIN_SECONDS", 0.2)


def holder(folder: Path) -> subprocess.Popen:
    """Start another worker that holds `folder`, and wait until it does."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def drive_all(stages: list[Stage], *, workers: int = 1) -> tuple[Board, list[str]]:
    said: list[str] = []
    board = Board(say=said.append)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        drive(stages, lambda s: pool.submit(run_stage, s, board), board, workers=workers)
    return board, said


def runs(tmp_path: Path) -> Counter:
    return Counter((tmp_path / "journal.txt").read_text().split())


def test_two_drivers_run_each_stage_once_and_both_tell_the_whole(stages, tmp_path, quick):
    with ThreadPoolExecutor() as pool:
        (one, _), (two, _) = pool.map(lambda _: drive_all(stages), range(2))
    assert runs(tmp_path) == dict.fromkeys("abcde", 1)
    for id in "abcde":
        mine, other = sorted((board.outcomes[id] for board in (one, two)), key=lambda outcome: outcome.status)
        assert (mine.status, other.status) == ("ran", "skipped")
        assert other.reasons == ["done by another worker meanwhile"]
    assert Counter(o.status for o in one.outcomes.values())["ran"] in (2, 3)  # they work side by side
    assert pending(stages) == {}


def test_a_held_stage_is_passed_over_then_run_once_its_worker_is_killed(stages, tmp_path, quick):
    other = holder(tmp_path / "runs" / "a")
    threading.Timer(3, other.kill).start()
    started = time.monotonic()
    assert pending(stages)["a"] == ["another worker is at it"] and pending(stages)["b"] == ["never ran"]
    board, said = drive_all(stages)
    other.communicate()
    assert time.monotonic() - started > 3
    assert {o.status for o in board.outcomes.values()} == {"ran"} and runs(tmp_path) == dict.fromkeys("abcde", 1)
    order = [line.split("] ")[1].split(":")[0] for line in said if ": done in" in line]
    assert order[:2] == ["b", "d"] and order.index("a") < order.index("c")
    assert sum("a: another worker is at it" in line for line in said) == 1


def test_a_stage_taken_between_the_look_and_the_start_is_tried_again(stages, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(boards, "is_held", lambda folder: False)
    other = holder(tmp_path / "runs" / "a")
    threading.Timer(3, other.kill).start()
    board, _ = drive_all(stages[:1])
    other.communicate()
    assert board.outcomes["a"].status == "ran" and board.turned_back == set() and runs(tmp_path) == {"a": 1}


def test_the_lock_of_a_killed_worker_is_free(tmp_path):
    other = holder(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(Held), held(tmp_path, on_wait=_raise_held):
        pass
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert not is_held(tmp_path)
    with held(tmp_path, on_wait=_raise_held):
        assert is_held(tmp_path)  # also seen from the holder's own process
    assert not is_held(tmp_path)


def test_one_notebook_waits_for_the_other_says_so_and_does_not_run_again(notebook, tmp_path):
    command = [sys.executable, "-m", "flows.notebook", str(notebook), "--out", str(tmp_path / "out")]
    (tmp_path / "hold").touch()
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "journal.txt").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.1)
    second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    waits = second.stdout.readline()
    who = rf"process {first.pid} on {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(rf"50_tiny: another worker is at it in {tmp_path}/out \({who}\); waiting for it\n", waits)
    (tmp_path / "hold").unlink()
    assert first.wait(60) == 0 and ": done in" in first.stdout.read()
    assert second.wait(60) == 0
    assert second.stdout.read() == f"50_tiny: done by another worker meanwhile: {tmp_path}/out/50_tiny.html\n"
    assert runs(tmp_path) == {"out": 1}


def test_what_a_killed_driver_left_running_is_ended_before_the_folder_is_used(notebook, tmp_path, monkeypatch):
    tag = hashlib.sha256(str(tmp_path).encode()).hexdigest()
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={RUN: tag})

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(f"left over: {psutil.pid_exists(stray.pid)}")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="left over: False"):
        patch.setattr("flows.run.launch.guard", lambda: None)
        patch.setattr("flows.run.launch.subprocess.Popen", refuse)
        launch(notebook, tmp_path, {}, timeout_s=None, threads=1, on_line=print)


def executed_copy(*, ended: bool = True) -> str:
    """A notebook of two cells as Papermill leaves it, its last one begun or not."""
    begun = [new_code_cell("1", metadata={"papermill": {"start_time": at}}) for at in ("t", "t" if ended else None)]
    return nbformat.writes(new_notebook(cells=begun))


@pytest.mark.parametrize("left", ["partial", "copy", "holder"])
def test_a_kill_after_the_receipt_costs_neither_the_stage_nor_its_page(notebook, tmp_path, quick, left):
    """What a killed process left unnamed gets its name; who held the folder is forgotten."""
    out = tmp_path / "out"
    assert run_notebook(notebook, out, {}).status == "ran"
    (out / ("50_tiny.partial.ipynb" if left == "partial" else "50_tiny.ipynb")).write_text(executed_copy())
    if left == "holder":
        (out / "50_tiny.html").write_text("as it was")
    for name in (HOLDER, "account.json"):
        (out / name).write_text("{}")
    again = run_notebook(notebook, out, {})
    assert (again.status, again.reasons, runs(tmp_path)) == ("skipped", [], {"out": 1})
    assert ("50_tiny" in again.html.read_text()) == (left != "holder")  # a page that was there stays
    assert {path.name for path in out.iterdir()} - {*BOOKS} == {
        *("50_tiny.ipynb", "50_tiny.html", "a.txt", receipts.RECEIPT),
    }
    assert not (out / HOLDER).exists()


def test_a_folder_in_use_is_left_to_who_uses_it(notebook, tmp_path, quick):
    out = tmp_path / "out"
    assert run_notebook(notebook, out, {}).status == "ran"
    (out / "50_tiny.ipynb").write_text(executed_copy())
    with held(out):
        assert run_notebook(notebook, out, {}).html is None
    assert run_notebook(notebook, out, {}).html.exists()


def test_what_was_cut_off_when_it_was_run_again_is_not_done(notebook, tmp_path, quick):
    """Its receipt is of the run before; the copy stops short of its last cell, or in the middle of a word."""
    out, why = tmp_path / "out", ["cut off when it was run again"]
    assert run_notebook(notebook, out, {}).status == "ran"
    stage = Stage(id="50_tiny", notebook=notebook, parameters={}, out_dir=str(out))
    for text in (executed_copy(ended=False), executed_copy()[:-9]):
        (out / "50_tiny.partial.ipynb").write_text(text)
        assert pending([stage]) == {"50_tiny": why}
        again = run_notebook(notebook, out, {})
        assert (again.status, again.reasons) == ("ran", why)
        assert pending([stage]) == {}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", False),
        ("[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel.", False),
        ("IOStream.flush timed out\n[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel.", True),
    ],
)
def test_what_a_process_said_beside_its_notebook_is_kept_unless_it_is_its_end(tmp_path, monkeypatch, said, kept):
    process = tmp_path / "python"
    out, ends = tmp_path / "out", "import json; json.dump({'ok': True}, open('account.json', 'w'))"
    out.mkdir()
    process.write_text(f"#!/bin/sh\nprintf '%s' '{said}'\ncd '{out}' && exec '{sys.executable}' -c \"{ends}\"\n")
    process.chmod(0o755)
    monkeypatch.setattr("flows.run.launch.guard", lambda: None)
    monkeypatch.setattr("flows.run.launch.sys.executable", str(process))
    account = launch(Path("50.ipynb"), out, {}, timeout_s=None, threads=1, on_line=print)
    assert account.ok and [path.name for path in out.iterdir()] == (["process.txt"] if kept else [])


def test_a_receipt_from_before_the_clock_was_set_back_is_no_other_worker_s(notebook, tmp_path, quick):
    assert run_notebook(notebook, tmp_path / "out", {}).status == "ran"
    tomorrow = time.time() + 86400
    os.utime(tmp_path / "out" / receipts.RECEIPT, (tomorrow, tomorrow))
    again = run_notebook(notebook, tmp_path / "out", {})
    assert (again.status, again.reasons) == ("skipped", [])


def test_the_lock_is_neither_output_nor_input(notebook, tmp_path, quick):
    assert run_notebook(notebook, tmp_path / "out", {}).status == "ran"
    assert (tmp_path / "out" / LOCK).exists() and not BOOKS & set(files_under(tmp_path / "out"))
    assert list(json.loads((tmp_path / "out" / "receipt.json").read_text())["outputs"]) == ["a.txt"]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.txt").write_text("t")
    given = {"sources": [str(tmp_path / "table")]}
    assert run_notebook(notebook, tmp_path / "two", given).status == "ran"
    with held(tmp_path / "table"):
        assert run_notebook(notebook, tmp_path / "two", given).status == "skipped"


def _raise_held() -> None:
    raise Held
