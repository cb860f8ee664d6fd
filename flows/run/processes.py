"""Processes that must not outlive their reason: a run is tagged through its environment, and killed by its tag.

A tag reaches children that start their own session or lose their parent, which a process group does not.
"""

import os
import subprocess
import sys
import time
import uuid

import psutil

RUN = "SLIDESIEVE_RUN"  # one notebook's processes
DRIVER = "SLIDESIEVE_DRIVER"  # everything one driver started, its Prefect server included


def kill_tagged(variable: str, value: str, *, spare: tuple[int, ...] = ()) -> int:
    """SIGKILL every process whose environment has `variable=value`, until none is left; return how many there were."""
    killed = 0
    for _ in range(20):
        found = [p for p in psutil.process_iter() if p.pid not in spare and _environment(p).get(variable) == value]
        if not found:
            break
        for process in found:
            _kill(process)
        psutil.wait_procs(found, timeout=0.5)
        killed += len(found)
    return killed


def guard() -> None:
    """Tag whatever this process starts from now on, and start a watcher that kills it all once this process is gone."""
    if os.environ.get(DRIVER, "").startswith(f"{os.getpid()}-"):
        return
    os.environ[DRIVER] = f"{os.getpid()}-{uuid.uuid4().hex}"
    command = [sys.executable, "-m", "flows.run.processes", os.environ[DRIVER], str(os.getpid())]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def watch(tag: str, driver_pid: int) -> None:
    """Wait until the driver has ended, however it ended; then kill what it left."""
    while os.getppid() == driver_pid:
        time.sleep(0.5)
    kill_tagged(DRIVER, tag, spare=(os.getpid(),))


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}  # another user's process, or one that has just ended


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]))
