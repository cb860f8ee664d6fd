"""A hundred damaged files of each kind: read, or refused by name, and nothing else done."""

import subprocess
import threading
from pathlib import Path

import pytest

from benchmarks import fuzz


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_damaged_files_are_read_or_refused_by_name(name):
    counts = fuzz.fuzz(name, examples=100, derandomize=True)
    assert counts["read"] > 0 and sum(counts.values()) >= 100


def test_what_must_not_happen_is_seen(tmp_path):
    (tmp_path / "a").write_text("x")
    for wrong in (
        lambda path: (path.parent / "b").write_text("y"),
        lambda path: path.unlink(),
        lambda path: Path("/etc/hostname").read_text(),
        lambda path: subprocess.run(["true"], check=True),
    ):
        (tmp_path / "a").write_text("x")
        with pytest.raises(AssertionError), fuzz.watched(tmp_path):
            wrong(tmp_path / "a")
    with fuzz.watched(tmp_path):
        (tmp_path / "b").read_text()


def test_only_the_block_and_what_it_starts_are_watched(tmp_path):
    inside, written = threading.Event(), threading.Event()

    def meanwhile() -> None:
        inside.wait(10)
        (tmp_path / "of another").write_text("y")
        written.set()

    before = threading.Thread(target=meanwhile)
    before.start()
    with fuzz.watched(tmp_path):
        inside.set()
        assert written.wait(10)
    before.join()
    with pytest.raises(AssertionError, match="of its own"), fuzz.watched(tmp_path):
        started = threading.Thread(target=(tmp_path / "of its own").write_text, args=("y",))
        started.start()
        started.join()
