"""One notebook as a stage: skipped or run with a reason, failures told and kept, nothing left running."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from tiny_notebooks import write_notebook

from flows.run import execute
from flows.run.execute import Account, last_cell, publish
from flows.run.kernels import socket_folder
from flows.run.launch import _broken, last_lines
from flows.run.notebook import parse_words, portable, run_notebook
from flows.run.pages import render_notebook
from slidesieve.provenance.files import ROOT

PARAMETERS = 'k: int = 8  # tokens kept\nfate: str = "live"  # run: how the body ends\n'
BODY = """# the body
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
(stage.out_dir / "pids.txt").write_text(f"{os.getpid()} {child.pid}")
print("step 1 of 2")
if fate == "raise":
    raise RuntimeError("bad luck")
if fate == "die":
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
if fate == "hang":
    time.sleep(300)
resumed = (stage.work / "step.txt").exists()
(stage.work / "step.txt").write_text("1")
if fate == "hang later":
    time.sleep(300)
child.kill()
(stage.out_dir / "a.txt").write_text(f"{k}")
(stage.out_dir / "resumed.txt").write_text(f"{resumed}")
"""


@pytest.fixture
def notebook(tmp_path) -> Path:
    return write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body=BODY, outputs='["a.txt"]')


def gone(pids: list[int], *, within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        alive = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        if not alive:
            return True
        time.sleep(0.2)
    return False


def pids_in(out_dir: Path, *, within_s: float = 60) -> list[int]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if (out_dir / "pids.txt").exists() and (out_dir / "pids.txt").read_text():
            return [int(pid) for pid in (out_dir / "pids.txt").read_text().split()]
        time.sleep(0.1)
    raise AssertionError("the kernel did not come up")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".ipynb", ".html", ".json"))


def test_runs_once_then_is_skipped_then_runs_for_the_changed_parameter(notebook, tmp_path):
    told = []
    first = run_notebook(notebook, tmp_path / "out", {}, on_start=told.append, threads=1)
    assert (first.status, first.reasons, first.error) == ("ran", ["never ran"], "")
    assert names(tmp_path / "out") == ["50_tiny.html", "50_tiny.ipynb", "receipt.json"]
    second = run_notebook(notebook, tmp_path / "out", {"k": 8, "fate": "raise"})
    assert (second.status, second.reasons, second.seconds) == ("skipped", [], 0.0)
    third = run_notebook(notebook, tmp_path / "out", {"k": 5}, on_start=told.append)
    assert (third.status, third.reasons) == ("ran", ["k 8 -> 5"])
    assert told == [["never ran"], ["k 8 -> 5"]]
    assert (tmp_path / "out" / "a.txt").read_text() == "5"
    page = third.html.read_text()
    assert "step 1 of 2" in page and "<details" in page
    assert "http://" not in page and "https://" not in page
    assert "input_path" not in third.executed.read_text()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"kk": 3}, "no parameter 'kk'; did you mean 'k'?"), ({"k": "3"}, "k = '3' is str, expected int")],
)
def test_wrong_parameters_launch_nothing(notebook, tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        run_notebook(notebook, tmp_path / "out", parameters)
    assert not (tmp_path / "out").exists()


def test_a_stage_whose_figures_were_drawn_by_older_code_stands_and_says_so(tmp_path):
    body = "print(style.shortened)"
    notebook = write_notebook(tmp_path / "70_tiny.ipynb", prelude="from slidesieve.figures import style", body=body)
    assert run_notebook(notebook, tmp_path / "out", {}, threads=1).status == "ran"
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert not receipt["recipe"]["code"].keys() & receipt["recipe"]["figures"].keys()
    receipt["recipe"]["figures"]["slidesieve.figures.style.shortened"] = "older"
    (tmp_path / "out" / "receipt.json").write_text(json.dumps(receipt))
    again = run_notebook(notebook, tmp_path / "out", {})
    said = "up to date, its figures drawn by older code (code of slidesieve.figures.style.shortened changed)"
    assert (again.status, again.reasons) == ("skipped", [said])


def test_an_error_in_a_cell_is_told_and_the_copies_are_kept(notebook, tmp_path):
    result = run_notebook(notebook, tmp_path / "out", {"fate": "raise"})
    assert result.status == "failed"
    assert result.error.splitlines() == [
        "code cell 5 of 6: # the body",
        "RuntimeError: bad luck",
        "last log lines:",
        "    step 1 of 2",
    ]
    assert names(tmp_path / "out") == ["50_tiny.failed.html", "50_tiny.failed.ipynb"]
    page = result.html.read_text()
    assert "This run failed." in page and "RuntimeError: bad luck" in page
    assert gone(pids_in(tmp_path / "out"))


def test_a_killed_kernel_is_a_failure_with_its_place_and_no_receipt(notebook, tmp_path):
    result = run_notebook(notebook, tmp_path / "out", {"fate": "die"})
    assert result.status == "failed"
    assert result.error.startswith("code cell 5 of 6: # the body\nDeadKernelError: Kernel died")
    assert result.error.endswith("    step 1 of 2")
    assert names(tmp_path / "out") == ["50_tiny.failed.html", "50_tiny.failed.ipynb"]
    statuses = {c["metadata"]["papermill"]["status"] for c in json.loads(result.executed.read_text())["cells"]}
    assert statuses == {"completed"}  # which is why only the receipt counts
    assert gone(pids_in(tmp_path / "out"))
    again = run_notebook(notebook, tmp_path / "out", {})
    assert (again.status, again.reasons) == ("ran", ["did not finish last time"])
    assert names(tmp_path / "out") == ["50_tiny.html", "50_tiny.ipynb", "receipt.json"]


def test_a_timeout_stops_the_kernel_and_its_children(notebook, tmp_path, monkeypatch):
    pids = tmp_path / "out" / "pids.txt"
    late = SimpleNamespace(sleep=time.sleep, monotonic=lambda: time.monotonic() + 900 * pids.exists())
    monkeypatch.setattr("flows.run.launch.time", late)  # however slow the machine, time is up when the body hangs
    result = run_notebook(notebook, tmp_path / "out", {"fate": "hang"}, timeout_s=800)
    assert result.status == "failed" and "stopped after 800 s (timeout)" in result.error
    assert "code cell 5 of 6" in result.error and "This run failed." in result.html.read_text()
    assert gone(pids_in(tmp_path / "out"))


def test_a_notebook_that_writes_no_receipt_has_failed(tmp_path):
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", outputs="['a.txt']) if False else print('done'")
    result = run_notebook(notebook, tmp_path / "out", {})
    assert result.status == "failed"
    assert "after the last cell\nno valid receipt (did not finish last time)" in result.error


def launch_cli(notebook: Path, out: Path, *words: str, verify: bool = False) -> subprocess.Popen:
    command = [sys.executable, "-m", "flows.notebook", str(notebook), "--out", str(out), *["--verify"] * verify]
    command += [part for word in words for part in ("-p", word)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)


def heed_interrupts() -> None:
    """A shell's background job ignores Ctrl-C, and so would all that it starts: these tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_killed_driver_leaves_no_process_and_the_next_run_resumes(notebook, tmp_path):
    driver = launch_cli(notebook, tmp_path / "out", "fate=hang later")
    pids = pids_in(tmp_path / "out")
    wait_for(tmp_path / "out" / "work" / "step.txt")
    driver.kill()
    driver.communicate()
    assert gone(pids)
    assert names(tmp_path / "out") == ["50_tiny.partial.ipynb"]
    result = run_notebook(notebook, tmp_path / "out", {})
    assert (result.status, result.reasons) == ("ran", ["did not finish last time"])
    assert (tmp_path / "out" / "resumed.txt").read_text() == "True"
    assert names(tmp_path / "out") == ["50_tiny.html", "50_tiny.ipynb", "receipt.json"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_driver_stops_its_kernel(notebook, tmp_path, sent, code):
    driver = launch_cli(notebook, tmp_path / "out", "fate=hang")
    pids = pids_in(tmp_path / "out")
    driver.send_signal(sent)
    said, _ = driver.communicate(timeout=40)
    assert driver.returncode == code and gone(pids)
    assert said.splitlines()[-1] == "50_tiny: interrupted; the next run goes on from here"
    assert names(tmp_path / "out") == ["50_tiny.failed.html", "50_tiny.failed.ipynb"]  # what it had, saved


def test_a_notebook_that_is_told_to_stop_is_interrupted_and_has_not_failed(notebook, tmp_path):
    out, stop = tmp_path / "out", threading.Event()
    threading.Thread(target=lambda: (pids_in(out), stop.set())).start()
    result = run_notebook(notebook, out, {"fate": "hang"}, stop=stop)
    assert result.status == "interrupted"
    assert result.error.startswith("code cell 5 of 6: # the body\ninterrupted; the next run goes on from here")
    assert gone(pids_in(out)) and names(out) == ["50_tiny.failed.html", "50_tiny.failed.ipynb"]


def test_the_kernel_is_this_interpreter_whatever_kernels_are_installed(tmp_path, monkeypatch):
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    body = "import sys\n(stage.out_dir / 'a.txt').write_text(sys.executable)"
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", body=body, outputs="['a.txt']")
    assert run_notebook(notebook, tmp_path / "out", {}, threads=1).error == ""
    assert (tmp_path / "out" / "a.txt").read_text() == sys.executable


def test_sockets_lie_elsewhere_where_the_path_of_tmpdir_is_too_long(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    body = "import os, tempfile\n(stage.out_dir / 'a.txt').write_text(os.environ['JUPYTER_RUNTIME_DIR'])"
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", body=body, outputs="['a.txt']")
    assert run_notebook(notebook, tmp_path / "out", {}, threads=1, timeout_s=60).error == ""
    sockets = (tmp_path / "out" / "a.txt").read_text()
    assert len(sockets + "/kernel-5") <= 103 and not Path(sockets).exists()
    assert list(long.glob("kernel-*")) == []


def test_without_a_short_folder_for_sockets_the_remedy_is_told(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setattr("flows.run.kernels.SHORT_FOLDERS", ("/nowhere",))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(ValueError, match="set TMPDIR to a folder with a short path"), socket_folder():
        pass


def test_verify_notices_a_change_at_the_same_size_and_mtime(tmp_path):
    body = "(stage.out_dir / 'a.bin').write_bytes(bytes(1 << 21))\nprint('verifies', files.verifies())"
    prelude = "from slidesieve.provenance import files"
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", prelude=prelude, body=body, outputs="['a.bin']")
    out = tmp_path / "out" / "a.bin"
    assert run_notebook(notebook, tmp_path / "out", {}, threads=1).status == "ran"
    stamp = out.stat()
    with out.open("rb+") as file:
        file.write(b"1")
    os.utime(out, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    trusting = launch_cli(notebook, tmp_path / "out")
    assert "is up to date, not run again" in trusting.communicate()[0] and out.read_bytes()[0] == ord("1")
    verifying = launch_cli(notebook, tmp_path / "out", verify=True)
    assert "runs (a.bin changed since it was written)" in verifying.communicate()[0] and out.read_bytes()[0] == 0
    assert "verifies True" in (tmp_path / "out" / "log.txt").read_text()  # the kernel does, too


def test_a_copy_cut_off_while_it_was_written_names_no_cell(tmp_path):
    (tmp_path / "50.partial.ipynb").write_text('{"cells": [')
    assert last_cell(tmp_path / "50.partial.ipynb") == last_cell(tmp_path / "absent.ipynb") == ""
    publish(tmp_path, "50", Account(False, "stopped"), [])
    assert [p.name for p in tmp_path.iterdir()] == ["50.partial.ipynb"]


def test_the_command_line_answers_with_its_exit_code(notebook, tmp_path):
    misspelt = launch_cli(notebook, tmp_path / "out", "kk=3")
    assert "did you mean 'k'?" in misspelt.communicate()[0] and misspelt.returncode == 2
    failing = launch_cli(notebook, tmp_path / "out", "fate=raise")
    assert "RuntimeError: bad luck" in failing.communicate()[0] and failing.returncode == 1


def test_words_and_paths(notebook, tmp_path):
    assert parse_words(notebook, ["k=3"]) == {"k": 3}
    with pytest.raises(ValueError, match="write name=value"):
        parse_words(notebook, ["k"])
    assert portable(ROOT / "runs" / "x") == "runs/x"
    assert portable(tmp_path) == str(tmp_path)


def test_last_lines_of_a_log_with_a_progress_bar(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("start\n\n 10%\r 50%\r100%\nend\n")
    assert last_lines(log, 3) == [" 50%", "100%", "end"]
    assert last_lines(tmp_path / "absent.txt", 3) == []
    log.write_bytes(b"\x1b]0;title\x07\x1b[1;31mred\x1b[0m\tand\x1b[2J \x08b\xc3\xa4r\n\x1b]52;c;aGk=\x1b\\last\x07\n")
    assert last_lines(log, 3) == ["red and bär", "last"]


def wait_for(path: Path, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.1)


def test_kernels_see_the_thread_limit(tmp_path):
    body = "import os\n(stage.out_dir / 'a.txt').write_text(os.environ['OMP_NUM_THREADS'])"
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", body=body, outputs="['a.txt']")
    run_notebook(notebook, tmp_path / "out", {}, threads=3)
    assert (tmp_path / "out" / "a.txt").read_text() == "3"
    assert os.environ.get("OMP_NUM_THREADS") != "3"


@pytest.mark.parametrize("full", ["publish", "write_json"])
def test_a_disk_that_takes_no_copy_or_no_account_is_named(tmp_path, monkeypatch, full):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    order = {"notebook": "50_tiny.ipynb", "out_dir": str(tmp_path), "parameters": {}}
    monkeypatch.setattr(execute.signal, "signal", lambda *_: None)
    monkeypatch.setattr(execute.sys, "stdin", io.StringIO(json.dumps(order)))
    monkeypatch.setattr(execute, "run", lambda *_: Account(True))
    monkeypatch.setattr(execute, full, refuse)
    if full == "publish":
        execute.main()
        told = Account(**json.loads((tmp_path / "account.json").read_text()))
        assert not told.ok and "No space left on device" in told.error
    else:
        with pytest.raises(SystemExit) as end:
            execute.main()
        told = _broken(SimpleNamespace(returncode=end.value.code), tmp_path, "50_tiny")
        assert not told.ok and f"could not write to {tmp_path} (" in told.error


def test_a_line_that_takes_the_last_ones_place_has_one_of_its_own_in_the_log(tmp_path):
    with execute.Log((tmp_path / "log.txt").open("wb")) as log:
        for text in ("begun\n", "step 1/3\r", "step 2/3\rstep 3/3", "\r\n"):
            log.write(text)
    assert (tmp_path / "log.txt").read_text() == "begun\nstep 1/3\nstep 2/3\nstep 3/3\n"
    assert last_lines(tmp_path / "log.txt", 1) == ["step 3/3"]


def test_a_page_holds_a_logs_last_line_and_what_an_image_shows():
    parts = ["begun\n", "step 1/3\r", "step 2/3\r", "step 3/3\n"]
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in parts]
    image = nbformat.v4.new_output(
        "display_data", data={"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": "Loss & score of 3 steps."}}
    )
    cell = nbformat.v4.new_code_cell("fit()", outputs=[*outputs, image])
    page = render_notebook(nbformat.v4.new_notebook(cells=[cell]), title="50")
    assert "begun\nstep 3/3" in page and "step 1/3" not in page and "step 2/3" not in page
    assert 'alt="Loss &amp; score of 3 steps."' in page and "No description" not in page
