"""A hundred damaged files of each kind: read, or refused by name, and nothing else done."""

import subprocess
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
