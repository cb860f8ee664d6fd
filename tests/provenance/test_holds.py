"""One writer in a folder for every door: who comes second is told who is there, and a killed holder is none."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_notebooks import write_notebook

from flows.run.notebook import run_notebook
from slidesieve.provenance import receipts
from slidesieve.provenance.files import HOLDER, ROOT, WRITER
from slidesieve.provenance.locks import LOAN, held, holder, is_held, let_go, take

KERNEL = """
import sys, time
from slidesieve.provenance import receipts
stage = receipts.begin("50_tiny", {"out_dir": sys.argv[1], "k": int(sys.argv[2])})
(stage.work / "checkpoint.pt").write_text("of " + sys.argv[2])
print("begun", flush=True)
time.sleep(120)
"""
PARAMETERS = "k: int = 8  # tokens kept\n"


@pytest.fixture
def notebook(tmp_path, monkeypatch) -> Path:
    path = write_notebook(tmp_path / "src" / "50_tiny.ipynb", parameters=PARAMETERS, body="print(k)")
    monkeypatch.setenv(receipts.NOTEBOOK_VARIABLE, str(path))
    yield path
    let_go()


def kernel(out: Path, k: int) -> subprocess.Popen:
    """Begin the stage in another process, as JupyterLab's kernel does, and wait until it has."""
    command = [sys.executable, "-c", KERNEL, str(out), str(k)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_second_kernel_is_told_who_is_there_and_begins_once_that_is_killed(notebook, tmp_path):
    out = tmp_path / "out"
    other = kernel(out, 4)
    who = rf"process {other.pid} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    with pytest.raises(ValueError, match=rf"out: another run is at work in it: {who}; .*wait for its end, stop it"):
        receipts.begin("50_tiny", {"out_dir": str(out), "k": 8})
    assert (out / "work" / "checkpoint.pt").read_text() == "of 4" and is_held(out)
    script = [sys.executable, "-m", "flows.script", str(notebook), "--out", str(out)]
    told = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 2 and f"error: {out}: another run is at work in it: process {other.pid} on" in told.stdout
    assert "Traceback" not in told.stderr and (out / "work" / "checkpoint.pt").read_text() == "of 4"

    def wait() -> None:
        raise InterruptedError(holder(out))

    with pytest.raises(InterruptedError, match=who):
        run_notebook(notebook, out, {}, on_wait=wait)
    other.kill()
    other.communicate()
    assert not (receipts.begin("50_tiny", {"out_dir": str(out), "k": 8}).work / "checkpoint.pt").exists()


def test_cells_run_again_in_one_kernel_hold_once_and_finish_lets_go(notebook, tmp_path):
    given = {"out_dir": str(tmp_path / "out"), "k": 8}
    for _ in range(3):
        stage = receipts.begin("50_tiny", given)
        assert is_held(tmp_path / "out") and holder(tmp_path / "out").startswith(f"process {os.getpid()} on ")
    stage.finish(outputs=[])
    assert not is_held(tmp_path / "out") and not (tmp_path / "out" / HOLDER).exists()
    with held(tmp_path / "out"):
        assert holder(tmp_path / "out").startswith(f"process {os.getpid()} on ")


def test_a_begin_that_fails_holds_nothing(notebook, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ValueError, match="did not write"):
        receipts.begin("50_tiny", {"out_dir": str(tmp_path / "out"), "k": 8})
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_driver_lends_its_hold_to_its_own_kernel_and_no_other(tmp_path, monkeypatch):
    with held(tmp_path) as loan:
        monkeypatch.setenv(LOAN, "another's")
        with pytest.raises(ValueError, match="another run is at work"):
            take(tmp_path)
        monkeypatch.setenv(LOAN, loan)
        take(tmp_path)
        let_go(tmp_path)
        assert is_held(tmp_path) and holder(tmp_path).startswith("process")


def test_nobody_begins_while_a_killed_driver_s_kernel_is_still_ending(tmp_path, monkeypatch):
    """The driver's lock is free as soon as it is dead; the kernel's own is not."""
    script = "import sys, time\nfrom slidesieve.provenance.locks import *\nfrom pathlib import Path\n"
    script += f"take(Path({str(tmp_path)!r}))\nprint('held', flush=True)\ntime.sleep(60)"
    with held(tmp_path) as loan:
        command, own = [sys.executable, "-c", script], os.environ | {LOAN: loan}
        other = subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "held\n"
    assert not is_held(tmp_path) and (tmp_path / WRITER).exists()
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="another run is at work"):
        patch.setattr("slidesieve.provenance.locks.ENDING_SECONDS", 0.2)
        take(tmp_path)
    assert not is_held(tmp_path)
    other.kill()
    take(tmp_path)
    other.communicate()
    let_go()
    assert not is_held(tmp_path)


def test_a_child_of_a_kernel_does_not_keep_the_folder(tmp_path):
    """Workers made by fork may outlive a killed kernel for a while."""
    script = "import os, sys, time\nfrom slidesieve.provenance.locks import *\nfrom pathlib import Path\n"
    script += f"take(Path({str(tmp_path)!r}))\npid = os.fork()\nprint(pid, flush=True) if pid else None\ntime.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(other.stdout.readline())
    other.kill()
    other.wait()
    take(tmp_path)
    os.kill(child, 9)
    other.stdout.close()
    let_go()
