"""What the table of faults calls well: said by name, nothing other than undisturbed, no stage done twice."""

import csv
import subprocess
import sys

import pytest

from benchmarks import fault_files, faults
from benchmarks.fault_ways import Lab, NotOk, Run, expect
from benchmarks.kills import files, outputs
from slidesieve.provenance.files import hash_file, write_json


class NoLab:
    """A lab in which faults are told, not done."""

    cleared = 0

    def clear(self):
        self.cleared += 1


@pytest.mark.parametrize("error", [NotOk("other  bytes\nin 60"), OSError("other bytes in 60")])
def test_a_fault_that_goes_wrong_is_a_row_of_its_own_and_is_cleared_away(monkeypatch, error):
    def fault(lab):
        yield "SIGSTOP", "ends by itself"
        raise error

    lab = NoLab()
    monkeypatch.setitem(faults.FAULTS, "stopped", fault)
    first, second = faults.suffer(lab, "stopped")
    assert first == ("stopped", "SIGSTOP", "ends by itself", True)
    assert second == ("stopped", "", f"{type(error).__name__}: other bytes in 60", False) and lab.cleared == 1


def test_an_unknown_fault_is_named_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["faults", "full_disc"])
    monkeypatch.setattr(faults, "Lab", None)
    with pytest.raises(SystemExit, match=r"no fault named full_disc; there are .*full_disk"):
        faults.main()


def test_a_stage_done_twice_is_seen():
    said = "[ 0:05] 10_a: done in 3 s\n[ 0:09] 20_b: done in 4 s\n"
    assert faults.once(said) == 2
    with pytest.raises(NotOk, match=r"done twice: \['20_b'\]"):
        faults.once(said + "[ 0:12] 20_b: done in 4 s\n")


@pytest.fixture
def lab(tmp_path):
    """A finished run of one stage, as undisturbed."""
    made = Lab.__new__(Lab)
    made.run, made.runs = tmp_path / "run", []
    stage = made.run / "60_answers"
    stage.mkdir(parents=True)
    (stage / "answers.csv").write_text("right")
    record = {"sha256": hash_file(stage / "answers.csv"), "size": 5, "mtime_ns": 1}
    recipe = {"notebook": "n", "code": {}, "figures": {}, "parameters": {}, "inputs": {}}
    write_json(
        stage / "receipt.json", {"stage": "60", "digest": "d", "recipe": recipe, "outputs": {"answers.csv": record}}
    )
    made.expected, made.names = outputs(made.run), files(made.run)
    return made


def test_what_a_receipt_names_has_the_bytes_of_the_undisturbed_run(lab):
    lab.check()
    (lab.run / "60_answers" / "answers.csv").write_text("wrong")
    with pytest.raises(NotOk, match=r"60_answers/answers\.csv is not what its receipt says"):
        lab.check()
    lab.expected["60_answers"]["answers.csv"] = "0"
    (lab.run / "60_answers" / "answers.csv").write_text("right")
    with pytest.raises(NotOk, match=r"60_answers/answers\.csv has other bytes than undisturbed"):
        lab.check()


def run_of(tmp_path, code: int, said: str) -> Run:
    made = Run.__new__(Run)
    made.log = tmp_path / "log.txt"
    made.log.write_text(said)
    made.process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    made.pid = made.process.pid
    return made


def test_a_refusal_has_words_and_no_traceback(tmp_path):
    told = fault_files.refused(run_of(tmp_path, 1, "FAILED 10_tiles: OSError\nOSError: no space left on device\n"))
    assert told.startswith("exit 1, `FAILED 10_tiles: OSError`")
    with pytest.raises(NotOk, match="a traceback"):
        fault_files.refused(run_of(tmp_path, 1, "Traceback (most recent call last)"))
    with pytest.raises(NotOk, match="exit 0"):
        fault_files.refused(run_of(tmp_path, 0, "done"))


def test_rows_left_out_of_a_manifest_leave_the_others(tmp_path):
    table = tmp_path / "m.csv"
    table.write_text("slide_id,mpp\na,0.5\nb,0.25\nc,\n")
    fault_files.leave_out(table, "slide_id", ["b"])
    assert [*csv.reader(table.open())] == [["slide_id", "mpp"], ["a", "0.5"], ["c", ""]]


def test_what_does_not_hold_is_said():
    expect([1], "fine")
    with pytest.raises(NotOk, match="not seen"):
        expect([], "not seen")
