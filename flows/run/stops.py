"""How a run is ended from outside: Ctrl-C and SIGTERM stop what runs in the same way, and say so to a shell."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is: what runs saves what it has."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise Terminated in the block, unless somebody else (a Prefect worker's run) already heeds it."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code(stop: KeyboardInterrupt) -> int:
    """What a shell expects of a process that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _terminate(signum: int, frame: object) -> None:
    raise Terminated
