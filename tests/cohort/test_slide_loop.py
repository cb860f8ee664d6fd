"""The ledger, and the loop over slides: one fails alone, a worker may die, the parent may be killed."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from slidesieve.cohort.ledger import Ledger, Outcome
from slidesieve.cohort.slide_files import written_hdf5
from slidesieve.cohort.slide_loop import (
    UNCHECKED,
    Counts,
    NoRoom,
    Result,
    SkipSlide,
    SlidesLost,
    TooManyFailed,
    for_each_batch,
    for_each_slide,
    tried,
)


def _outcome(slide_id: str, status: str = "ok", message: str = "") -> Outcome:
    return Outcome(slide_id, status, "", message, 3, 1, 0.5)


def test_the_last_row_of_a_slide_counts(tmp_path):
    ledger = Ledger(tmp_path / "l.csv")
    for outcome in (_outcome("a", "failed", 'x, "y"\nz'), _outcome("007"), _outcome("a", "ok")):
        ledger.append(outcome)
    rows = ledger.rows()
    assert rows["slide_id"].tolist() == ["007", "a"] and rows["status"].tolist() == ["ok", "ok"]
    assert rows["n_tiles"].tolist() == [3, 3]
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 4
    assert 'x, ""y"" z' in (tmp_path / "l.csv").read_text()


def test_a_torn_last_line_is_left_out_and_mended(tmp_path):
    ledger = Ledger(tmp_path / "l.csv")
    assert len(ledger.rows()) == 0
    ledger.append(_outcome("a"))
    with ledger.path.open("a") as file:
        file.write("b,ok,,half a li")
    assert ledger.rows()["slide_id"].tolist() == ["a"]
    ledger.settle(["a", "b"])
    ledger.append(_outcome("c"))
    assert ledger.rows()["slide_id"].tolist() == ["a", "c"]


def test_a_ledger_from_before_waits_were_told_is_read_and_goes_on(tmp_path):
    ledger = Ledger(tmp_path / "l.csv")
    ledger.path.write_text("slide_id,status,error,message,n_tiles,n_dropped,seconds\na,ok,,,3,1,0.5\n")
    assert ledger.rows()["waited"].tolist() == [0.0]
    ledger.settle(["a", "b"])
    ledger.append(_outcome("b")._replace(waited=0.25))
    assert ledger.rows()["waited"].tolist() == [0.0, 0.25] and ledger.rows()["seconds"].tolist() == [0.5, 0.5]


def _work(slide_id: str, *, folder: Path) -> Counts:
    """Write a file as a stage would; some ids misbehave."""
    if slide_id.startswith("bad"):
        raise ValueError(f"{slide_id}: is bad")
    if slide_id.startswith("bug"):
        raise KeyError("x")
    if slide_id.startswith("skip"):
        raise SkipSlide("nothing to do")
    if slide_id.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    path = folder / slide_id
    if path.exists():
        return Counts(5, 1, kept=True)
    path.write_text(os.environ.get("OMP_NUM_THREADS", ""))
    return Counts(5, 1)


def _run(folder: Path, ids: list[str], *, workers: int, share: float = 0.9):
    ledger = Ledger(folder / "ledger.csv")
    work = partial(_work, folder=folder)
    return for_each_slide(work, ids, ledger=ledger, workers=workers, max_failed_share=share)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_slide_fails_alone(tmp_path, workers, capsys):
    rows = _run(tmp_path, ["a", "bad1", "skip1", "bug", "b", "c"], workers=workers).set_index("slide_id")
    assert rows.index.tolist() == ["a", "bad1", "skip1", "bug", "b", "c"]  # the order asked for, not that of ending
    assert rows["status"].tolist() == ["ok", "failed", "skipped", "failed", "ok", "ok"]
    assert rows.loc["bad1", ["error", "message"]].tolist() == ["ValueError", "bad1: is bad"]
    assert rows.loc["bug", "error"] == "KeyError" and "test_slide_loop.py:" in rows.loc["bug", "message"]
    assert rows.loc["a", ["n_tiles", "n_dropped"]].tolist() == [5, 1]
    assert "6/6 slides, 2 failed" in capsys.readouterr().out


def test_workers_have_one_thread_and_leave_the_environment_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    _run(tmp_path, ["a"], workers=1)
    assert (tmp_path / "a").read_text() == "1" and os.environ["OMP_NUM_THREADS"] == "7"


def test_a_worker_that_dies_costs_its_slide_only(tmp_path):
    rows = _run(tmp_path, ["a", "b", "die", "c", "d"], workers=2).set_index("slide_id")
    assert rows.loc["die", ["status", "error"]].tolist() == ["failed", "WorkerDied"]
    assert (rows.drop("die")["status"] == "ok").all()


def _together(slide_ids: list[str], *, folder: Path) -> list[Result]:
    """Write one file for all of a batch that can be worked on."""
    results = [tried(partial(_work, folder=folder), slide_id) for slide_id in slide_ids]
    (folder / f"batch-{slide_ids[0]}").write_text(" ".join(r[0].slide_id for r in results if r[0].status == "ok"))
    return results


def _run_batches(folder: Path, batches: list[list[str]], kept: dict[str, Counts], *, workers: int):
    ids = [*kept, *(slide_id for batch in batches for slide_id in batch)]
    how = {"ledger": Ledger(folder / "ledger.csv"), "workers": workers, "max_failed_share": 0.9}
    rows = for_each_batch(partial(_together, folder=folder), ids, batches=batches, kept=kept, **how)
    assert rows["slide_id"].tolist() == ids
    return rows.set_index("slide_id")


@pytest.mark.parametrize("workers", [0, 2])
def test_each_slide_of_a_batch_has_its_own_row(tmp_path, workers):
    kept = {"k": Counts(8, 0, kept=True, note="as before")}
    rows = _run_batches(tmp_path, [["a", "bad1", "b"], ["skip1"], ["bug", "c"]], kept, workers=workers)
    assert rows["status"].tolist() == ["ok", "ok", "failed", "ok", "skipped", "failed", "ok"]
    assert rows.loc["k", ["n_tiles", "message"]].tolist() == [8, "as before"]
    assert [(tmp_path / f"batch-{first}").read_text() for first in ("a", "skip1", "bug")] == ["a b", "", "c"]


def test_a_slide_that_kills_its_process_costs_no_other_of_its_batch(tmp_path):
    rows = _run_batches(tmp_path, [["a", "b", "die", "c", "d"], ["e"]], {}, workers=1)
    assert rows.loc["die", ["status", "error"]].tolist() == ["failed", "WorkerDied"]
    assert (rows.drop("die")["status"] == "ok").all()


def test_kept_slides_keep_their_row_and_failed_ones_are_tried_again(tmp_path):
    first = _run(tmp_path, ["a", "b", "bad"], workers=0)
    (tmp_path / "b").unlink()
    second = _run(tmp_path, ["a", "b", "bad"], workers=0)
    assert second.loc[0].tolist() == first.loc[0].tolist()
    assert second["status"].tolist() == ["ok", "ok", "failed"]
    (tmp_path / "ledger.csv").unlink()
    assert _run(tmp_path, ["a", "b"], workers=0)["n_tiles"].tolist() == [5, 5]  # rows come back from the files


def test_slides_that_left_the_cohort_leave_the_ledger(tmp_path):
    _run(tmp_path, ["a", "b"], workers=0)
    assert _run(tmp_path, ["b"], workers=0)["slide_id"].tolist() == ["b"]


def test_too_many_failures_fail_the_run_after_all_were_tried(tmp_path):
    ids = ["bad1", "bad2", "bad3", "a"]
    assert len(_run(tmp_path, ids, workers=0, share=0.75)) == 4
    with pytest.raises(TooManyFailed, match=r"3 of 4 slides failed, 1 ok \(max_failed_share 0\.7\)(.|\n)*bad1: is bad"):
        _run(tmp_path, ids, workers=0, share=0.7)
    assert len(Ledger(tmp_path / "ledger.csv").rows()) == 4
    with pytest.raises(TooManyFailed, match="1 of 1"):
        _run(tmp_path, ["bad1"], workers=0, share=1.0)


def _archived(slide_id: str, *, folder: Path) -> Counts:
    """A slide is a file; `kept` is a list of those whose result is up to date without it."""
    if (folder / slide_id).exists():
        return Counts(5, 0, kept=True)
    if slide_id in (folder / "kept").read_text().split():
        return Counts(5, 0, kept=True, note=UNCHECKED)
    if slide_id.startswith("junk"):
        raise ValueError(f"{slide_id}: other parameters than before")
    raise FileNotFoundError(f"{slide_id}: no such slide file")


def _again(folder: Path, ids: list[str], share: float = 1.0):
    work = partial(_archived, folder=folder)
    return for_each_slide(work, ids, ledger=Ledger(folder / "l.csv"), workers=0, max_failed_share=share)


def test_a_cohort_that_shrank_is_not_done_until_it_is_whole_or_said_to_be_smaller(tmp_path, capsys):
    ids = ["a", "b", "c", "d"]
    (tmp_path / "kept").write_text("d")
    for slide_id in ids:
        (tmp_path / slide_id).touch()
    assert (_again(tmp_path, [*ids, "never"])["status"] == ["ok"] * 4 + ["failed"]).all()
    for slide_id in "bcd":
        (tmp_path / slide_id).unlink()
    for _ in range(2):  # what was lost stays lost
        with pytest.raises(SlidesLost, match=r"2 of 5 slides were ok in an earlier run .* now: b, c; bring them back"):
            _again(tmp_path, [*ids, "never"])
        rows = Ledger(tmp_path / "l.csv").rows().set_index("slide_id")
        assert rows["error"].to_dict() == {
            "a": "",
            "b": "SlideLost",
            "c": "SlideLost",
            "d": "",
            "never": "FileNotFoundError",
        }
        assert rows.loc["b", ["status", "message"]].tolist() == [
            "failed",
            "was ok before; now FileNotFoundError: b: no such slide file",
        ]
        assert rows.loc["d", ["status", "n_tiles", "message"]].tolist() == [
            "ok",
            5,
            "its slide is not there to be checked",
        ]
    (tmp_path / "b").touch()
    (tmp_path / "d").touch()
    capsys.readouterr()
    rows = _again(tmp_path, ["a", "b", "d"]).set_index("slide_id")
    assert (rows["status"] == "ok").all() and (rows["message"] == "").all()
    assert "no longer asked for" not in capsys.readouterr().out  # c was lost before
    _again(tmp_path, ["b"])
    assert "2 slides of the earlier run are no longer asked for: a, d\n" in capsys.readouterr().out


def test_a_kill_does_not_forget_which_slides_were_lost(tmp_path):
    ledger = Ledger(tmp_path / "l.csv")
    ledger.append(Outcome("a", "failed", "SlideLost", "was ok before", 0, 0, 0.1))
    ledger.append(_outcome("b", "failed"))
    assert ledger.settle(["a", "b", "c"], ("ok",))["slide_id"].tolist() == ["a"]  # as a run begins
    (tmp_path / "kept").write_text("c")
    with pytest.raises(SlidesLost, match="1 of 2 slides"):
        _again(tmp_path, ["a", "c"])


def test_a_slide_that_was_ok_and_fails_for_what_is_asked_now_is_an_ordinary_failure(tmp_path):
    (tmp_path / "kept").write_text("a junk")
    _again(tmp_path, ["a", "junk"])
    (tmp_path / "kept").write_text("a")
    assert _again(tmp_path, ["a", "junk"])["error"].tolist() == ["", "ValueError"]


def _large(slide_id: str, *, folder: Path) -> Counts:
    """Write a file of 0.6 MB."""
    if (folder / f"{slide_id}.h5").exists():
        return Counts(100, 0, kept=True)
    with written_hdf5(folder / f"{slide_id}.h5") as file:
        file["features"] = np.ones((100, 3000), np.float16)
    return Counts(100, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A real filesystem of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small filesystem: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_run_by_name_and_leaves_nothing_half_written(small_disk, workers):
    ledger, ids = Ledger(small_disk / "ledger.csv"), ["a", "b", "c"]
    work = partial(_large, folder=small_disk)
    said = rf"{small_disk}: No space left on device \(0\.\d MiB free\); free some space, or give another out_dir"
    with pytest.raises(NoRoom, match=said):
        for_each_slide(work, ids, ledger=ledger, workers=workers, max_failed_share=1.0)
    assert sorted(p.name for p in small_disk.iterdir()) == ["a.h5", "ledger.csv"]
    assert ledger.rows()[["slide_id", "status"]].to_numpy().tolist() == [["a", "ok"]]  # none failed
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    rows = for_each_slide(work, ids, ledger=ledger, workers=workers, max_failed_share=0.0)
    assert rows["slide_id"].tolist() == ids and (rows["status"] == "ok").all()


def _refused(slide_id: str, *, number: int, where: str) -> Counts:
    raise OSError(number, os.strerror(number), where)


@pytest.mark.parametrize(
    ("number", "what_to_do", "workers"), [(errno.EDQUOT, "quota", 1), (errno.EROFS, "nothing can be written", 0)]
)
def test_a_quota_or_a_read_only_disk_ends_the_run_with_the_folder_at_fault(tmp_path, number, what_to_do, workers):
    work = partial(_refused, number=number, where=str(tmp_path / "x" / "s.h5"))
    with pytest.raises(NoRoom, match=f"{re.escape(str(tmp_path / 'x'))}: .*MiB free.*{what_to_do}"):
        for_each_slide(work, ["a"], ledger=Ledger(tmp_path / "l.csv"), workers=workers, max_failed_share=1.0)
    assert len(Ledger(tmp_path / "l.csv").rows()) == 0


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
sys.path[:0] = {tests!r}
from test_slide_loop import _sleep
from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.slide_loop import for_each_slide
if __name__ == "__main__":
    for_each_slide(_sleep, ["a", "b"], ledger=Ledger(Path({folder!r}) / "l.csv"), workers=2, max_failed_share=1)
"""


def _sleep(slide_id: str) -> Counts:
    time.sleep(60)
    return Counts(1, 0)


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=[str(p) for p in Path(__file__).parents[:2]], folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)])
    children = _wait_for(lambda: [c for c in psutil.Process(parent.pid).children() if len(c.threads()) > 1], 2)
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and len(gone) >= 2


def _wait_for(look, n: int) -> list:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(found := look()) >= n:
            return found
        time.sleep(0.1)
    raise AssertionError(f"never saw {n} worker processes")
