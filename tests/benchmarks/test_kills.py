"""What the benchmark of kills calls equal: sums of outputs, ledgers without seconds, no file more or less."""

import hashlib
import json
import signal
import subprocess
import sys

import pytest

from benchmarks import kills


def stage(run, name, **files):
    folder = run / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / f"{file}.csv").write_text(text)
    outputs = {f"{f}.csv": {"sha256": hashlib.sha256(t.encode()).hexdigest()} for f, t in files.items()}
    (folder / "receipt.json").write_text(json.dumps({"outputs": outputs}))


def whole(run):
    stage(run, "10", tiles="a", ledger="slide_id,seconds\ns1,0.1\n")
    stage(run, "60", answers="b")
    return run


def test_runs_are_equal_but_for_the_seconds_of_a_ledger_and_what_a_process_said(tmp_path):
    one, other = whole(tmp_path / "one"), tmp_path / "other"
    stage(other, "10", tiles="a", ledger="slide_id,seconds\ns1,0.9\n")
    stage(other, "60", answers="b")
    (other / "60" / "process.txt").write_text("a complaint")
    assert kills.differences(other, kills.outputs(one), kills.files(one)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / "60" / "left.tmp").write_text(""), ["more: 60/left.tmp"]),
        (lambda run: (run / "60" / "answers.csv").unlink(), ["less: 60/answers.csv"]),
        (lambda run: (run / "10" / "ledger.csv").write_text("slide_id,seconds\ns2,0.1\n"), ["10: other outputs"]),
        (lambda run: (run / "60" / "receipt.json").write_text('{"outputs": {}}'), ["60: other outputs"]),
    ],
)
def test_what_is_other_is_named(tmp_path, change, said):
    expected, run = whole(tmp_path / "one"), whole(tmp_path / "other")
    change(run)
    assert kills.differences(run, kills.outputs(expected), kills.files(expected)) == said


def test_kernels_are_found_among_what_a_driver_started(tmp_path):
    inner = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', {!r}])"
    for word, found in (("ipykernel_launcher", True), ("other", False)):
        driver = subprocess.Popen([sys.executable, "-c", inner.format(word)])
        chance = kills.random.Random(0)
        try:
            for _ in range(200):
                if len(kills.psutil.Process(driver.pid).children()) == 1:
                    break
                kills.time.sleep(0.05)
            assert kills.kill(driver, (kills.KERNEL, signal.SIGKILL), chance) == found
            assert not found or driver.wait(20) == 0  # its kernel is gone, so it ends
        finally:
            kills.kill(driver, (kills.ALL, signal.SIGKILL), chance) if driver.poll() is None else None
            driver.wait()
