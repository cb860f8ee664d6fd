"""One worker at a time in a folder: a lock of the operating system on a file in it, which ends with its process.

What a killed worker held is free at once; there is no marker to clear away. The file stays; only the lock on it counts.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from slidesieve.provenance.files import LOCK

LOOK_AGAIN_SECONDS = 2.0  # between two looks at a folder that another worker holds
GLANCE_SECONDS = 0.3  # another worker's look takes the lock for less than this
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class Held(Exception):
    """Another worker holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold `folder` during the block. If another worker has it, call `on_wait` once (it may raise), then wait.

    Raises ValueError where the filesystem gives no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    with _explained(folder):
        try:
            lock.acquire(timeout=GLANCE_SECONDS)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=LOOK_AGAIN_SECONDS)
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Say whether another worker holds `folder` now; a folder that may not be written to is nobody's."""
    if not (folder / LOCK).exists():
        return False
    lock = _lock(folder)
    with _explained(folder):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        except PermissionError:
            return False
    lock.release()
    return False


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / LOCK, fallback_to_soft=False)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ValueError(
            f"{folder}: its filesystem gives no file locks ({error.strerror}), and without them two workers could run "
            "the same stage; put the folder on one that does (on NFS: mounted without nolock)"
        ) from error
