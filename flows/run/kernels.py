"""The kernel of a notebook: this very interpreter, whatever kernels are installed, on private sockets."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec

LONGEST_SOCKET = 103  # bytes of a socket's path that every system takes: 107 on Linux, 103 on macOS
LONGEST_NAME = "/kernel-00"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


class OwnKernel(AsyncKernelManager):
    """A kernel of the interpreter that runs this; the names of kernels that others have installed mean nothing."""

    kernel_spec = KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


@contextmanager
def socket_folder() -> Iterator[str]:
    """A folder of this user alone for a kernel's sockets, removed at the end: elsewhere if TMPDIR's path is too long.

    Raises ValueError if no folder with a short path can be written to.
    """
    for parent in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), *SHORT_FOLDERS):
        if not parent or not Path(parent).is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            continue
        with tempfile.TemporaryDirectory(prefix="kernel-", dir=parent, ignore_cleanup_errors=True) as folder:
            if len(os.fsencode(folder + LONGEST_NAME)) <= LONGEST_SOCKET:
                yield folder
                return
    raise ValueError(
        f"TMPDIR: a socket in {tempfile.gettempdir()} has a path of more than {LONGEST_SOCKET} bytes, and none of "
        f"{', '.join(SHORT_FOLDERS)} may be written to; set TMPDIR to a folder with a short path"
    )
