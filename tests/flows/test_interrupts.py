"""An experiment that is interrupted: what ran is interrupted and has not failed; a shell is told by which signal."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_notebooks import write_notebook

from flows.experiment import conduct
from flows.plan.stages import Stage
from slidesieve.provenance.files import ROOT

PARAMETERS = "sources: list[str] = []  # in: folders\nwait: bool = False  # run: for ever\n"
BODY = """
import time
(stage.out_dir / "scores.csv").write_text(
    "method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high\\ntcssa,8,0,all,9,7,1,0.8125,0.7,0.9\\n"
)
while wait:
    time.sleep(0.1)
"""
SCRIPT = """
import json, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from flows import experiment
from flows.plan.stages import Stage, with_needs
from flows.run.board import drive, run_stage

signal.signal(signal.SIGINT, signal.default_int_handler)

def without_a_server(stages, board, *, workers, **_):
    with ThreadPoolExecutor(workers) as pool:
        drive(stages, lambda stage: pool.submit(run_stage, stage, board, threads=1), board, workers=workers)

experiment.run_stages = without_a_server
notebook, out, wait = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
a = Stage("a", notebook, out + "/a", {"wait": wait})
b = Stage("b", notebook, out + "/b", {"sources": [out + "/a"]})
sys.exit(experiment.conduct(with_needs([a, b]), out, title="tiny", workers=1))
"""


def start(notebook: Path, out: Path, *, wait: bool) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(notebook), str(out), json.dumps(wait)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def interrupt(driver: subprocess.Popen, sent: signal.Signals, once: Path) -> str:
    """Send the signal when a file is there; return what the driver said until it ended."""
    deadline = time.monotonic() + 60
    while not once.exists():
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.1)
    driver.send_signal(sent)
    return driver.communicate(timeout=60)[0]


def test_a_terminated_experiment_says_so_by_its_code(tmp_path):
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", body=BODY, parameters=PARAMETERS, outputs='["scores.csv"]')
    driver = start(notebook, tmp_path / "runs", wait=True)
    said = interrupt(driver, signal.SIGTERM, tmp_path / "runs" / "a" / "scores.csv")
    assert driver.returncode == 143 and "1 interrupted, 1 not run" in said


def test_what_ran_is_interrupted_the_rest_not_run_and_the_report_has_no_scores(tmp_path):
    write = {"parameters": PARAMETERS, "outputs": '["scores.csv"]'}
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", body=BODY, **write)
    out, report = tmp_path / "runs", tmp_path / "runs" / "report"
    assert start(notebook, out, wait=False).wait(120) == 0
    assert "81.2</strong>" in (report / "index.html").read_text()
    write_notebook(notebook, body=BODY + "print('changed')", **write)
    (out / "a" / "scores.csv").unlink()
    driver = start(notebook, out, wait=True)
    said = interrupt(driver, signal.SIGINT, out / "a" / "scores.csv")
    assert driver.returncode == 130
    assert "a: interrupted in" in said and "1 interrupted, 1 not run" in said and "FAILED" not in said
    rows = {row["id"]: (row["status"], row["why"]) for row in json.loads((report / "stages.json").read_text())}
    assert rows["a"][0] == "interrupted" and rows["b"] == ("not run", "interrupted before it began")
    page = (report / "index.html").read_text()
    assert "No scores of this run: b did not run. Those of an earlier run, of " in page and "81.2" not in page
    assert "1 interrupted, 1 not run" in " ".join(page.split())


def test_folders_that_are_not_ours_are_all_named_before_anything_runs(tmp_path):
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body=BODY)
    stages = [Stage(id, notebook, str(tmp_path / "runs" / id), {}) for id in ("a", "b", "c")]
    for id in ("b", "c"):
        (tmp_path / "runs" / id).mkdir(parents=True)
        (tmp_path / "runs" / id / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"b: .*did not write: mine\.txt;.*\nc: .*did not write: mine\.txt"):
        conduct(stages, str(tmp_path / "runs"), title="tiny", workers=1)
    (tmp_path / "runs" / "report").mkdir()
    (tmp_path / "runs" / "report" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"report: holds what slidesieve did not write: mine\.txt"):
        conduct(stages, str(tmp_path / "runs"), title="tiny", workers=1)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["b", "c", "report"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_report_that_cannot_be_written_is_said_and_no_traceback(tmp_path, monkeypatch, capsys, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "index.html")

    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS)
    monkeypatch.setattr("flows.experiment.pending", lambda stages: {})
    monkeypatch.setattr("flows.experiment.write_report", refuse)
    assert conduct([Stage("a", notebook, str(tmp_path / "a"), {})], str(tmp_path), title="tiny", workers=1) == 1
    said = capsys.readouterr().out
    assert f"NO REPORT: OSError: [Errno {number}] {os.strerror(number)}: 'index.html'" in said and "1 skipped" in said
