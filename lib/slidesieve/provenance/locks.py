"""One writer at a time in a folder: locks of the operating system on files in it, which end with their process.

What a killed worker held is free at once; there is no marker to clear away. Files stay; only the locks on them count.

`.lock` is held by whoever conducts a run: a driver, or a kernel or script without one. `.lock.writer` is held by the
process in which the cells run, so that nobody begins while the kernel of a driver that was killed is still ending. A
driver lends its hold to the kernel that it starts, by a token in the environment. `.lock.holder` says who holds.
"""

import errno
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from slidesieve.provenance.files import HOLDER, LOCK, WRITER, read_json, write_json

LOAN = "SLIDESIEVE_HOLD"  # the token of a driver's hold, in the environment of what it starts
LOOK_AGAIN_SECONDS = 2.0  # between two looks at a folder that another worker holds
GLANCE_SECONDS = 0.3  # another worker's look takes the lock for less than this
ENDING_SECONDS = 10.0  # the kernel of a killed driver has ended within this
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
_taken: dict[Path, list[FileLock]] = {}


class Held(Exception):
    """Another worker holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Hold `folder` during the block. If another worker has it, call `on_wait` once (it may raise), then wait.

    Yields a token that lends the hold to a process that has it in its environment as LOAN. Raises ValueError where the
    filesystem gives no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder, LOCK)
    with _explained(folder):
        try:
            lock.acquire(timeout=GLANCE_SECONDS)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=LOOK_AGAIN_SECONDS)
    try:
        yield _sign(folder)
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def is_held(folder: Path) -> bool:
    """Say whether another worker holds `folder` now; a folder that may not be written to is nobody's."""
    if not (folder / LOCK).exists():
        return False
    lock = _lock(folder, LOCK)
    with _explained(folder):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return False
    lock.release()
    return False


def holder(folder: Path) -> str:
    """Say who holds a folder: process, host, since when."""
    try:
        told = read_json(folder / HOLDER)
        return f"process {told['pid']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said which"


def take(folder: Path) -> None:
    """Hold `folder` for what this process runs, until `let_go` or its end; taken again, it is held as before.

    Where the driver that started this process holds the folder, its hold counts. Raises ValueError, naming the holder,
    if it is another's.
    """
    folder = folder.resolve()
    if folder in _taken:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lent = _is_lent(folder)
    waits = {WRITER: ENDING_SECONDS} if lent else {LOCK: GLANCE_SECONDS, WRITER: ENDING_SECONDS}
    locks = [_lock(folder, name) for name in waits]
    with _explained(folder):
        try:
            for lock, seconds in zip(locks, waits.values(), strict=True):
                lock.acquire(timeout=seconds)
        except Timeout:
            _release(locks)
            raise ValueError(
                f"{folder}: another run is at work in it: {holder(folder)}; expected to be the only one; "
                "wait for its end, stop it, or give another folder"
            ) from None
    _taken[folder] = locks
    if not lent:
        _sign(folder)


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Hold `folder` during the block as `take` does; what was held before is held afterwards."""
    before = folder.resolve() in _taken
    take(folder)
    try:
        yield
    finally:
        if not before:
            let_go(folder)


def let_go(folder: Path | None = None) -> None:
    """Give up what `take` holds: one folder, or all."""
    for one in [folder.resolve()] if folder else list(_taken):
        locks = _taken.pop(one, [])
        if len(locks) > 1:
            (one / HOLDER).unlink(missing_ok=True)
        _release(locks)


def _sign(folder: Path) -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    told = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "token": uuid.uuid4().hex}
    write_json(folder / HOLDER, told)
    return told["token"]


def _is_lent(folder: Path) -> bool:
    token = os.environ.get(LOAN)
    try:
        return bool(token) and read_json(folder / HOLDER)["token"] == token
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(folder / name, fallback_to_soft=False, thread_local=False)


def _release(locks: list[FileLock]) -> None:
    for lock in reversed(locks):
        lock.release()


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
