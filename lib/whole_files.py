"""Files that are whole or absent: written aside, synced, renamed, and sealed with a checksum where it matters."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEAL = b"\nsha256 "
CHUNK = 1 << 24  # bytes


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; at the end move it to `path`, or remove it if the block raised.

    The aside name is fixed, so what a kill left behind is overwritten by the next try. One writer a path at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def seal(path: Path) -> None:
    """Append a checksum of a file's content to it; zip-like files (`torch.save`) are still read as they are."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(SEAL + digest.encode())


def is_sealed(path: Path) -> bool:
    """Say whether a file is there, ends with a checksum, and is still what was sealed."""
    length = len(SEAL) + 64
    size = path.stat().st_size - length if path.exists() else -1
    if size < 0:
        return False
    found = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size, CHUNK):
            found.update(file.read(min(CHUNK, size - start)))
        return file.read() == SEAL + found.hexdigest().encode()
