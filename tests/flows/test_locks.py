"""Folders whose filesystem gives no locks, or where nobody may write."""

import errno
import fcntl
import os

import pytest

from slidesieve.provenance.files import LOCK
from slidesieve.provenance.locks import held, is_held


def test_a_filesystem_without_locks_is_named_with_the_remedy(tmp_path, monkeypatch):
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = r"gives no file locks \(No locks available\).*put the folder on one"
    with pytest.raises(ValueError, match=told), held(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_whoever_may_not_write_to_a_folder_sees_nobody_there(tmp_path, monkeypatch, number):
    def denied(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / LOCK).touch()
    monkeypatch.setattr("slidesieve.provenance.locks.FileLock.acquire", denied)
    assert not is_held(tmp_path)
